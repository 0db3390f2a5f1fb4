// test_cuda_kernels LIBRARY [family | all] [--barriers | --expect-caught]
//
// Plain: every case of the families must agree with ref. --barriers: with each barrier that ran left out in
// turn, some case must fail. --expect-caught: the library is a mutant, so some case must fail.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>

#include "bed.h"
#include "suite.h"

namespace {

void run_families(Suite& suite, const char* name) {
  bool found = false;
  for (int i = 0; i < kNumFamilies; ++i) {
    if (std::strcmp(name, "all") != 0 && std::strcmp(name, kFamilies[i].name) != 0) continue;
    found = true;
    const auto start = std::chrono::steady_clock::now();
    const int runs = suite.runs(), failures = suite.failures();
    kFamilies[i].run(suite);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("%s %s: %d cases, %.2f s\n", suite.failures() == failures ? "ok    " : "FAILED",
                kFamilies[i].name, suite.runs() - runs, took.count());
    std::fflush(stdout);
  }
  if (!found) suite.fail(std::string("no family is called ") + name);
}

// Each barrier is tried on the first family that comes to it.
int check_barriers(Suite& suite, const char* name) {
  std::map<cuda_host::Site, const Family*> sites;
  for (int i = 0; i < kNumFamilies; ++i) {
    if (std::strcmp(name, "all") != 0 && std::strcmp(name, kFamilies[i].name) != 0) continue;
    suite.control().seen.clear();
    run_families(suite, kFamilies[i].name);
    for (const cuda_host::Site& site : suite.control().seen) sites.emplace(site, &kFamilies[i]);
  }
  if (suite.failures() > 0) return 1;
  suite.stop_at_first_failure();
  int survivors = 0;
  for (const auto& [site, family] : sites) {
    suite.control().skipped = site;
    suite.restart();
    family->run(suite);
    const bool caught = suite.failures() > 0;
    if (!caught) ++survivors;
    std::printf("%s %s without the barrier at %s:%d: %s\n", caught ? "ok    " : "FAILED", family->name,
                site.first.c_str(), site.second, caught ? suite.first_failure().c_str() : "nothing failed");
  }
  return survivors > 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s LIBRARY [family | all] [--barriers | --expect-caught]\n", argv[0]);
    return 2;
  }
  Suite suite(argv[1]);
  const char* const family = argc > 2 ? argv[2] : "all";
  const char* const mode = argc > 3 ? argv[3] : "";
  if (!std::strcmp(mode, "--barriers")) return check_barriers(suite, family);
  if (!std::strcmp(mode, "--expect-caught")) {
    suite.stop_at_first_failure();
    run_families(suite, family);
    std::printf("%s\n", suite.failures() > 0 ? suite.first_failure().c_str() : "nothing failed");
    return suite.failures() > 0 ? 0 : 1;
  }
  run_families(suite, family);
  return suite.failures() > 0;
}
