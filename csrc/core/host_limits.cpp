#include "core/host_limits.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

namespace cnnext {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// The path of this process in the hierarchy that has `controller`: v1 lines are "4:cpu,cpuacct:/path", the v2
// line is "0::/path". Empty where there is none.
std::string cgroup_path(const std::string& root, const std::string& controller) {
  std::ifstream in(root + "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool match =
        controller.empty() ? names == ",," : names.find("," + controller + ",") != std::string::npos;
    if (match) return line.substr(second + 1);
  }
  return "";
}

// Calls visit(directory) for the process's cgroup and each of its parents, any of which may set a limit.
// Inside a container the path may name directories that only the host sees; the walk then still ends at the
// mount's own root.
void for_each_cgroup(const std::string& mount, std::string path,
                     const std::function<void(const std::string&)>& visit) {
  while (!path.empty() && path.back() == '/') path.pop_back();
  for (;;) {
    visit(mount + path + "/");
    if (path.empty()) return;
    const size_t slash = path.rfind('/');
    path.erase(slash == std::string::npos ? 0 : slash);
  }
}

}  // namespace

std::optional<int64_t> parse_int(const char* text, int64_t low, int64_t high) {
  if (!text) return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(text, &end, 10);
  if (end == text || errno != 0) return std::nullopt;
  while (*end == ' ' || *end == '\t') ++end;
  if (*end != '\0' || value < low || value > high) return std::nullopt;
  return value;
}

uint64_t cgroup_memory_limit(const std::string& root) {
  uint64_t limit = 0;
  const auto consider = [&limit](const std::string& file) {
    const std::optional<int64_t> bytes = parse_int(first_line(file).c_str(), 1, int64_t{1} << 60);
    if (bytes && (limit == 0 || static_cast<uint64_t>(*bytes) < limit)) limit = static_cast<uint64_t>(*bytes);
  };
  for_each_cgroup(root + "sys/fs/cgroup", cgroup_path(root, ""),
                  [&](const std::string& dir) { consider(dir + "memory.max"); });
  for_each_cgroup(root + "sys/fs/cgroup/memory", cgroup_path(root, "memory"),
                  [&](const std::string& dir) { consider(dir + "memory.limit_in_bytes"); });
  return limit;
}

double cgroup_cpu_quota(const std::string& root) {
  double cpus = 0;
  const auto consider = [&cpus](double quota, double period) {
    if (quota > 0 && period > 0 && (cpus == 0 || quota / period < cpus)) cpus = quota / period;
  };
  for_each_cgroup(root + "sys/fs/cgroup", cgroup_path(root, ""), [&](const std::string& dir) {
    std::istringstream line(first_line(dir + "cpu.max"));  // "200000 100000" or "max 100000"
    double quota = 0, period = 0;
    if (line >> quota >> period) consider(quota, period);
  });
  const std::string v1_path = cgroup_path(root, "cpu");
  for (const char* mount : {"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"}) {
    for_each_cgroup(root + mount, v1_path, [&](const std::string& dir) {
      consider(std::atof(first_line(dir + "cpu.cfs_quota_us").c_str()),
               std::atof(first_line(dir + "cpu.cfs_period_us").c_str()));
    });
  }
  return cpus;
}

uint64_t memory_limit_bytes() {
  uint64_t limit = 0;
#if defined(_SC_PHYS_PAGES)
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) limit = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page);
#endif
  const uint64_t cgroup = cgroup_memory_limit("/");
  return cgroup != 0 && (limit == 0 || cgroup < limit) ? cgroup : limit;
}

int usable_cpus() {
  int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#if defined(__linux__)
  // The kernel refuses a mask that is too short for its processors, so grow it.
  for (int bits = 1024; bits <= 1 << 20; bits *= 4) {
    std::vector<cpu_set_t> mask(static_cast<size_t>(bits) / (8 * sizeof(cpu_set_t)));
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) {
      cpus = std::max(1, CPU_COUNT_S(bytes, mask.data()));
      break;
    }
    if (errno != EINVAL) break;
  }
#endif
  const double quota = cgroup_cpu_quota("/");
  if (quota > 0) cpus = std::max(1, std::min(cpus, static_cast<int>(std::ceil(std::min(quota, 1e6)))));
  return cpus;
}

}  // namespace cnnext
