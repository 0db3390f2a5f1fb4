#include "bed.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "context.h"
#include "fake_memory.h"
#include "fault_handler.h"
#include "mbarrier.h"
#include "shared_memory.h"
#include "tma.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_host {
namespace {

constexpr int kMostThreads = 1024;
constexpr size_t kStack = 160 * 1024;

enum class State { kReady, kAtBarrier, kInWarp, kWaiting, kDone };

struct Thread {
  Context context;
  State state;
  uint3 index;
  Where where;
  const char* what;
  void* operand;
  bool (*is_ready)(void*);  // of one that waits
  uint64_t proxy_fences;
};

struct Block {
  Thread threads[kMostThreads];
  int count, done, at_barrier;
  int in_warp[kMostThreads / kWarp], in_group[kMostThreads / kGroup];
  uint32_t warp_barriers[kMostThreads / kWarp];
  uint32_t barriers;
  uint64_t number;
  std::vector<int> order;  // in which threads get their turns
};

struct Bed {
  Block block;
  Context scheduler;
  unsigned char* stacks;
  int current = -1;  // -1: no kernel runs
  void (*body)(void*);
  void* argument;
  size_t shared_bytes;
  bool failed;
  std::string report;
  std::mutex mutex;

  Bed() {
    stacks = static_cast<unsigned char*>(mmap(nullptr, kMostThreads * kStack, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  }
  Thread& thread() { return block.threads[current]; }
};

Bed& bed() {
  static Bed* const the_bed = new Bed;
  return *the_bed;
}

void back_to_scheduler() {
  Bed& b = bed();
  switch_context(&b.thread().context, &b.scheduler);
}

void thread_main() {
  Bed& b = bed();
  b.body(b.argument);
  b.thread().state = State::kDone;
  ++b.block.done;
  back_to_scheduler();
}

std::string name_of(const Thread& t) {
  char text[256];
  const char* const slash = strrchr(t.where.file, '/');
  const char* const file = slash ? slash + 1 : t.where.file;
  snprintf(text, sizeof(text), "thread (%u, %u, %u) %s at %s:%d", t.index.x, t.index.y, t.index.z, t.what,
           file, t.where.line);
  return text;
}

void start_block(uint64_t number, uint3 index, dim3 shape, const std::vector<int>& order) {
  Bed& b = bed();
  Block& block = b.block;
  blockIdx = index;
  block.count = static_cast<int>(shape.x * shape.y * shape.z);
  block.done = block.at_barrier = 0;
  block.barriers = 0;
  block.number = number;
  block.order = order;
  std::fill(std::begin(block.in_warp), std::end(block.in_warp), 0);
  std::fill(std::begin(block.in_group), std::end(block.in_group), 0);
  std::fill(std::begin(block.warp_barriers), std::end(block.warp_barriers), 0);
  start_shared_memory(b.shared_bytes);
  start_mbarriers();
  start_tma();
  start_wgmma();
  for (int i = 0; i < block.count; ++i) {
    Thread& t = block.threads[i];
    t.state = State::kReady;
    const unsigned n = static_cast<unsigned>(i);
    t.index = {n % shape.x, n / shape.x % shape.y, n / (shape.x * shape.y)};
    t.where = {"", 0};
    t.what = "running";
    t.proxy_fences = 0;
    prepare(&t.context, b.stacks + static_cast<size_t>(i) * kStack, kStack, thread_main);
  }
}

// Nobody can go on: somebody waits for a thread that is elsewhere.
void report_stuck() {
  Bed& b = bed();
  std::string waiting, elsewhere;
  for (int i = 0; i < b.block.count; ++i) {
    const Thread& t = b.block.threads[i];
    if (t.state == State::kDone) {
      elsewhere = "a thread that has ended";
    } else if (waiting.empty()) {
      waiting = name_of(t);
    } else if (name_of(t) != waiting && elsewhere.empty()) {
      elsewhere = name_of(t);
    }
  }
  b.failed = true;
  b.report = "deadlock: " + waiting + " waits for " + (elsewhere.empty() ? "others" : elsewhere);
}

void run_block() {
  Bed& b = bed();
  while (!b.failed && b.block.done < b.block.count) {
    bool moved = false;
    for (const int i : b.block.order) {
      Thread& t = b.block.threads[i];
      if (t.state == State::kWaiting && t.is_ready(t.operand)) t.state = State::kReady;
      if (t.state != State::kReady) continue;
      moved = true;
      b.current = i;
      threadIdx = t.index;
      switch_context(&b.scheduler, &t.context);
      if (b.failed) break;
    }
    if (!moved && !finish_a_copy()) report_stuck();
  }
  b.current = -1;
}

// A meeting of `size` threads from a multiple of it on, of whom *came are there already.
void meet(const char* what, Where where, void* operand, void (*finish)(void* const*), int size, int* came) {
  Bed& b = bed();
  Block& block = b.block;
  Thread& t = b.thread();
  t.where = where;
  t.what = what;
  t.operand = operand;
  t.state = State::kInWarp;
  if (++*came < size) return back_to_scheduler();
  const int first = b.current / size * size;
  void* operands[kGroup];
  for (int lane = 0; lane < size; ++lane) {
    Thread& other = block.threads[first + lane];
    if (strcmp(other.what, what) != 0 || other.where.line != where.line) {
      report("%s while %s", name_of(t).c_str(), name_of(other).c_str());
    }
    operands[lane] = other.operand;
  }
  finish(operands);
  for (int lane = 0; lane < size; ++lane) block.threads[first + lane].state = State::kReady;
  *came = 0;
}

// Warps in a shuffled order, lanes of a warp too.
std::vector<int> thread_order(int count, uint64_t seed) {
  std::vector<int> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  if (seed == 0) return order;
  std::mt19937_64 random(seed);
  const unsigned warps = static_cast<unsigned>(count / kWarp),
                 first = static_cast<unsigned>(random() % warps);
  const unsigned flip = static_cast<unsigned>(random() % kWarp);
  for (int i = 0; i < count; ++i) {
    const unsigned n = static_cast<unsigned>(i), warp = (n / kWarp + first) % warps, lane = n % kWarp ^ flip;
    order[n] = static_cast<int>(warp * kWarp + lane);
  }
  return order;
}

}  // namespace

Control& control() {
  static Control* const the_control = new Control;
  return *the_control;
}

const std::string& last_report() { return bed().report; }
bool in_kernel() { return bed().current >= 0; }
size_t dynamic_shared_bytes() { return bed().shared_bytes; }

Moment now() {
  const Bed& b = bed();
  return {b.current, b.block.number, b.block.barriers, b.block.warp_barriers[b.current / kWarp]};
}

void let_others_run() { back_to_scheduler(); }

uint64_t& proxy_fences() { return bed().thread().proxy_fences; }
uint64_t proxy_fences_of(int thread) { return bed().block.threads[thread].proxy_fences; }

void report(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  Bed& b = bed();
  char where[160];
  snprintf(where, sizeof(where), "block (%u, %u, %u) thread (%u, %u, %u): ", blockIdx.x, blockIdx.y,
           blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  b.report = std::string(where) + text;
  b.failed = true;
  for (;;) back_to_scheduler();  // which gives this thread no further turn
}

// Notes that the barrier has run. Threads come here often, so what is found once is not looked up by name
// again.
bool is_skipped(Where where) {
  static std::vector<Where> known;
  if (control().seen.empty()) known.clear();  // a test has begun a new list
  const auto same = [&](const Where& w) { return w.file == where.file && w.line == where.line; };
  if (std::none_of(known.begin(), known.end(), same)) {
    known.push_back(where);
    control().seen.insert({where.file, where.line});
  }
  return where.line == control().skipped.second && control().skipped.first == where.file;
}

void wait_at_barrier(Where where) {
  if (is_skipped(where)) return;
  Bed& b = bed();
  Block& block = b.block;
  Thread& t = b.thread();
  t.where = where;
  t.what = "waiting at the barrier";
  t.state = State::kAtBarrier;
  if (++block.at_barrier < block.count) return back_to_scheduler();
  for (int i = 0; i < block.count; ++i) {
    const Thread& other = block.threads[i];
    if (other.where.line != where.line || strcmp(other.where.file, where.file) != 0) {
      report("%s while %s", name_of(t).c_str(), name_of(other).c_str());
    }
  }
  for (int i = 0; i < block.count; ++i) block.threads[i].state = State::kReady;
  block.at_barrier = 0;
  ++block.barriers;
}

void meet_in_warp(const char* what, Where where, void* operand, void (*finish)(void* const*)) {
  Bed& b = bed();
  meet(what, where, operand, finish, kWarp, &b.block.in_warp[b.current / kWarp]);
}
void meet_in_group(const char* what, Where where, void* operand, void (*finish)(void* const*)) {
  Bed& b = bed();
  if (b.block.count % kGroup != 0) report("%s in a block of %d threads", what, b.block.count);
  meet(what, where, operand, finish, kGroup, &b.block.in_group[b.current / kGroup]);
}

void wait_until(const char* what, Where where, bool (*is_ready)(void*), void* argument) {
  if (is_ready(argument)) return;
  Thread& t = bed().thread();
  t.where = where;
  t.what = what;
  t.operand = argument;
  t.is_ready = is_ready;
  t.state = State::kWaiting;
  back_to_scheduler();
}

void wait_at_warp_barrier(Where where) {
  if (is_skipped(where)) return;
  static const char* const what = "at the warp's barrier";
  meet_in_warp(what, where, nullptr, [](void* const*) {
    Bed& b = bed();
    ++b.block.warp_barriers[b.current / kWarp];
  });
}

cudaError_t run_grid(dim3 grid, dim3 shape, size_t shared_bytes, void (*body)(void*), void* argument) {
  Bed& b = bed();
  const std::lock_guard<std::mutex> lock(b.mutex);
  const uint64_t threads = uint64_t{shape.x} * shape.y * shape.z, blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > kMostThreads || threads % kWarp != 0 || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      shared_bytes > control().shared_limit) {
    return note_error(cudaErrorInvalidConfiguration);
  }
  const FaultHandler handler;
  blockDim = shape;
  gridDim = grid;
  b.body = body;
  b.argument = argument;
  b.shared_bytes = shared_bytes;
  b.failed = false;
  const std::vector<int> order = thread_order(static_cast<int>(threads), control().order);
  const uint64_t first = control().order % blocks;
  static uint64_t blocks_ever = 0;
  for (uint64_t i = 0; i < blocks && !b.failed; ++i) {
    const uint64_t at = control().order ? blocks - 1 - (i + first) % blocks : i;
    const uint3 index = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                         static_cast<unsigned>(at / grid.x / grid.y)};
    start_block(++blocks_ever, index, shape, order);
    run_block();
    control().threads += threads;
  }
  if (!b.failed) b.report = describe_damage();
  return note_error(b.failed || !b.report.empty() ? cudaErrorLaunchFailure : cudaSuccess);
}

}  // namespace cuda_host
