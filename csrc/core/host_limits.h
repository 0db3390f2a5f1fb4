// What this process may use of the machine: memory and processors, with the limits of its cgroup (v1 and v2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace cnnext {

// Bytes: the smaller of physical memory and the cgroup's limit; 0 where neither is known.
uint64_t memory_limit_bytes();

// Processors that may run this process at once: affinity mask and cgroup CPU quota; at least 1.
int usable_cpus();

// `text` as a whole decimal number in [low, high], spaces around it allowed; empty where it is not one.
std::optional<int64_t> parse_int(const char* text, int64_t low, int64_t high);

// For tests: the same limits read below `root` instead of "/".
uint64_t cgroup_memory_limit(const std::string& root);  // 0: none
double cgroup_cpu_quota(const std::string& root);       // processors; 0: none

}  // namespace cnnext
