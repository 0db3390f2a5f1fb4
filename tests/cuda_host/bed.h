// The test bed: runs a grid on the host, one block at a time, each of its threads a fiber that runs until it
// waits for others. What no GPU would say, it reports: a barrier that not all threads reach, a lane missing
// in a warp's exchange, two threads at one word of shared memory with nothing between them that orders them,
// shared memory read before it was written, out of bounds or while cp.async is under way. A report ends the
// launch, which then fails with cudaErrorLaunchFailure and the report as its text.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>

namespace cuda_host {

constexpr int kWarp = 32, kGroup = 128;  // threads of a warp, and of a warp group

// A line of device code that is a barrier.
using Site = std::pair<std::string, int>;

// What a test sets and reads; one for the process.
struct Control {
  uint64_t order = 0;   // 0: blocks and threads in order; else shuffled by this seed
  Site skipped{"", 0};  // this barrier does nothing: what a forgotten one would do
  std::set<Site> seen;  // the barriers that ran
  size_t shared_limit = 227 * 1024;
  // Of the fake device; capability 90, which CNNEXT_BED_CAPABILITY may say too, has TMA and wgmma.
  int capability = 80, multiprocessors = 4;
  uint64_t threads = 0;  // that have run
};
Control& control();

// ---- for run_grid's callers ----
cudaError_t run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void*), void* argument);
const std::string& last_report();

// ---- for device code ----
struct Where {
  const char* file;
  int line;
};
void wait_at_barrier(Where where);
void wait_at_warp_barrier(Where where);

// Every lane of the warp comes with its operand; when all have, finish(operands of the 32 lanes) runs once
// and all go on. `what` names the exchange: lanes that meet in different ones have diverged.
void meet_in_warp(const char* what, Where where, void* operand, void (*finish)(void* const* operands));
// The same with the 128 threads of a warp group.
void meet_in_group(const char* what, Where where, void* operand, void (*finish)(void* const* operands));
// Until is_ready(argument), which somebody else brings about.
void wait_until(const char* what, Where where, bool (*is_ready)(void*), void* argument);
void let_others_run();  // before the running thread goes on
// Notes that this barrier has run; whether the test leaves it out.
bool is_skipped(Where where);

[[noreturn]] void report(const char* format, ...) __attribute__((format(printf, 1, 2)));
bool in_kernel();

// The running thread, as shared memory's bookkeeping sees it.
struct Moment {
  int thread;
  uint64_t block;          // a number of its own for every block that ever ran
  uint32_t barriers;       // that the block has passed
  uint32_t warp_barriers;  // that the warp has passed since
};
Moment now();
uint64_t& proxy_fences();  // that the running thread has passed
uint64_t proxy_fences_of(int thread);
size_t dynamic_shared_bytes();

}  // namespace cuda_host
