// Blocks with a 64-byte header in front, cached by size class.
//
// Small blocks (up to 64 KiB) wait in one short last-in-first-out list a class, behind a spin lock each.
// Large blocks wait in lists behind one mutex and in one queue by age: the oldest go back to the system when
// the cache is over its limit. A new block is at most an eighth larger than what was asked for; a large one
// that waits also serves smaller requests whose own class has none, down to half of it, so that layers
// whose sizes shrink do not each keep memory of their own.
#include "core/memory.h"

#include <atomic>
#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "cnnext/cnnext.h"
#include "core/error.h"
#include "core/host_limits.h"

#if defined(__SANITIZE_ADDRESS__)
#define CNNEXT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CNNEXT_ASAN 1
#endif
#endif
#ifdef CNNEXT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cnnext {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20;
constexpr size_t kMapFrom = size_t{4} << 20;         // blocks from here on are mapped, and huge pages advised
constexpr size_t kMaxBytes = size_t{1} << 47;        // more than any address space: refused without asking
constexpr size_t kSmallListBytes = size_t{1} << 20;  // what one small class keeps at most
constexpr uint64_t kMaxLimit = uint64_t{4} << 30;

// ---- size classes: multiples of 64 up to 512, then eight to a doubling ----
constexpr int kNumSmall = 8 + 8 * 7;     // up to 64 KiB
constexpr int kNumClasses = 8 + 8 * 38;  // up to 2^47
constexpr int kLentClasses = 9;  // a waiting large block serves so many, from its own down: one doubling

int class_of(size_t bytes) {
  if (bytes <= 512) return bytes == 0 ? 0 : static_cast<int>((bytes - 1) / 64);
  const int top = 63 - __builtin_clzll(bytes - 1);  // 2^top < bytes <= 2^(top+1), top >= 9
  const int eighth = static_cast<int>((bytes - 1) >> (top - 3)) & 7;
  return 8 + 8 * (top - 9) + eighth;
}

size_t class_capacity(int index) {
  if (index < 8) return 64 * static_cast<size_t>(index + 1);
  const int top = 9 + (index - 8) / 8, eighth = (index - 8) % 8;
  return (size_t{8} + static_cast<size_t>(eighth) + 1) << (top - 3);
}

// ---- headers ----
struct alignas(kAlign) Header {
  uint64_t mark;                    // kLive or kCached, mixed with the address
  int32_t size_class, asked_class;  // its own, and that of what it holds
  size_t capacity;
  Header *class_next, *class_prev;  // small blocks use class_next alone
  Header *age_next, *age_prev;
};
static_assert(sizeof(Header) == kAlign, "the header takes one cache line");

constexpr uint64_t kLive = 0x636e6e6578744c56, kCached = 0x636e6e6578744341;
uint64_t mark_of(const Header* h, uint64_t kind) { return kind ^ reinterpret_cast<uint64_t>(h); }
void* payload(Header* h) { return h + 1; }

// ---- locks ----
class SpinLock {
 public:
  void lock() {
    for (int tries = 0; held_.exchange(true, std::memory_order_acquire); ++tries) {
      while (held_.load(std::memory_order_relaxed)) {
        if (++tries > 64) sched_yield();  // the holder may have been preempted
      }
    }
  }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> held_{false};
};

// ---- state ----
// Constant-initialised and never destroyed, so that frees while the process ends are harmless.
struct alignas(kAlign) SmallClass {
  SpinLock lock;
  Header* head = nullptr;
  size_t bytes = 0;
  uint64_t allocations = 0, hits = 0;
};
SmallClass small_classes[kNumSmall];

std::mutex large_mutex;  // guards everything in this group
Header* large_heads[kNumClasses];
Header *oldest = nullptr, *newest = nullptr;
size_t large_cached = 0;
uint64_t large_allocations = 0, large_hits = 0;

std::atomic<uint64_t> in_use{0}, peak_in_use{0};
std::atomic<uint64_t> cache_limit{0};  // set once, before the first block exists
std::atomic<void (*)()> other_pool{nullptr};

// The limit's two parts: each small class's list, and all large blocks together.
size_t small_list_limit() {
  const uint64_t share = cache_limit.load(std::memory_order_relaxed) / (2 * kNumSmall);
  return share < kSmallListBytes ? static_cast<size_t>(share) : kSmallListBytes;
}
uint64_t large_limit() {
  return cache_limit.load(std::memory_order_relaxed) - kNumSmall * small_list_limit();
}

// ---- blocks from and to the system ----
#ifdef CNNEXT_ASAN
constexpr bool kUseCache = false;

// The exact size, and a poisoned header: the sanitizer sees one byte too far on either side.
Header* system_alloc(size_t bytes, int) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlign, sizeof(Header) + bytes) != 0) return nullptr;
  return static_cast<Header*>(memory);
}
void system_free(Header* h) { std::free(h); }
void poison(Header* h) { ASAN_POISON_MEMORY_REGION(h, sizeof(Header)); }
void unpoison(Header* h) { ASAN_UNPOISON_MEMORY_REGION(h, sizeof(Header)); }
#else
constexpr bool kUseCache = true;
void poison(Header*) {}
void unpoison(Header*) {}

size_t mapped_bytes(size_t capacity) { return (sizeof(Header) + capacity + kPage - 1) / kPage * kPage; }

// A mapping that starts on a huge page's boundary: map more, then cut off both ends.
void* map_aligned(size_t bytes) {
  const size_t wide = bytes + kHugePage;
  void* const memory = mmap(nullptr, wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(memory);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before) munmap(begin, before);
  if (wide - before > bytes) munmap(begin + before + bytes, wide - before - bytes);
#ifdef MADV_HUGEPAGE
  madvise(begin + before, bytes, MADV_HUGEPAGE);  // advice: a kernel without huge pages may refuse it
#endif
  return begin + before;
}

Header* system_alloc(size_t, int size_class) {
  const size_t capacity = class_capacity(size_class);
  void* memory = nullptr;
  if (capacity >= kMapFrom) {
    memory = map_aligned(mapped_bytes(capacity));
  } else if (posix_memalign(&memory, kAlign, sizeof(Header) + capacity) != 0) {
    memory = nullptr;
  }
  return static_cast<Header*>(memory);
}

void system_free(Header* h) {
  if (h->capacity >= kMapFrom) {
    munmap(h, mapped_bytes(h->capacity));
  } else {
    std::free(h);
  }
}
#endif

// ---- the large blocks' lists; large_mutex is held ----
void large_push(Header* h) {
  Header*& head = large_heads[h->size_class];
  h->class_prev = nullptr;
  h->class_next = head;
  if (head) head->class_prev = h;
  head = h;
  h->age_next = nullptr;
  h->age_prev = newest;
  (newest ? newest->age_next : oldest) = h;
  newest = h;
  large_cached += h->capacity;
}

void large_remove(Header* h) {
  (h->class_prev ? h->class_prev->class_next : large_heads[h->size_class]) = h->class_next;
  if (h->class_next) h->class_next->class_prev = h->class_prev;
  (h->age_prev ? h->age_prev->age_next : oldest) = h->age_next;
  (h->age_next ? h->age_next->age_prev : newest) = h->age_prev;
  large_cached -= h->capacity;
}

// Takes the oldest blocks out until the cache is within `limit`; returns them chained by class_next, to be
// given back without the lock.
Header* large_evict(uint64_t limit) {
  Header* out = nullptr;
  while (oldest && large_cached > limit) {
    Header* h = oldest;
    large_remove(h);
    h->mark = 0;
    h->class_next = out;
    out = h;
  }
  return out;
}

void free_chain(Header* h) {
  while (h) {
    Header* next = h->class_next;
    system_free(h);
    h = next;
  }
}

// ---- once: the limit, and the locks' life across fork ----
void lock_all() {
  for (SmallClass& c : small_classes) c.lock.lock();
  large_mutex.lock();
}
void unlock_all() {
  large_mutex.unlock();
  for (SmallClass& c : small_classes) c.lock.unlock();
}

const char* cache_setting() {
  const char* text = std::getenv("CNNEXT_CACHE_MB");
  return text && *text ? text : nullptr;
}
std::optional<int64_t> parse_cache_setting(const char* text) { return parse_int(text, 0, int64_t{1} << 30); }

uint64_t decide_limit() {
  if (const auto megabytes = parse_cache_setting(cache_setting())) {
    return static_cast<uint64_t>(*megabytes) << 20;
  }
  const uint64_t quarter = memory_limit_bytes() / 4;
  return quarter == 0 || quarter > kMaxLimit ? kMaxLimit : quarter;
}

void start() {
  static std::once_flag once;
  std::call_once(once, [] {
    cache_limit.store(kUseCache ? decide_limit() : 0, std::memory_order_relaxed);
    pthread_atfork(lock_all, unlock_all, unlock_all);
  });
}

void count_in(size_t capacity) {
  const uint64_t now = in_use.fetch_add(capacity, std::memory_order_relaxed) + capacity;
  uint64_t peak = peak_in_use.load(std::memory_order_relaxed);
  while (now > peak && !peak_in_use.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

void empty_cache() {
  for (SmallClass& c : small_classes) {
    Header* chain = nullptr;
    {
      std::lock_guard<SpinLock> held(c.lock);
      for (Header* h = c.head; h; h = h->class_next) h->mark = 0;
      chain = std::exchange(c.head, nullptr);
      c.bytes = 0;
    }
    free_chain(chain);
  }
  Header* chain = nullptr;
  {
    std::lock_guard<std::mutex> held(large_mutex);
    chain = large_evict(0);
  }
  free_chain(chain);
#if defined(__GLIBC__)
  malloc_trim(0);  // blocks below 4 MiB are malloc's, which keeps them otherwise
#endif
}

// ---- allocation ----
Header* take_cached(int size_class) {
  Header* h = nullptr;
  if (size_class < kNumSmall) {
    SmallClass& c = small_classes[size_class];
    std::lock_guard<SpinLock> held(c.lock);
    ++c.allocations;
    h = c.head;
    if (!h) return nullptr;
    ++c.hits;
    c.head = h->class_next;
    c.bytes -= h->capacity;
    h->mark = mark_of(h, kLive);
  } else {
    std::lock_guard<std::mutex> held(large_mutex);
    ++large_allocations;
    const int end = size_class + kLentClasses < kNumClasses ? size_class + kLentClasses : kNumClasses;
    for (int i = size_class; i < end && !h; ++i) h = large_heads[i];
    if (!h) return nullptr;
    ++large_hits;
    large_remove(h);
    h->mark = mark_of(h, kLive);
  }
  return h;
}

Header* make_block(size_t bytes, int size_class) noexcept {
  start();
  Header* h = system_alloc(bytes, size_class);
  if (!h) {  // our own cache may be what fills the memory
    empty_cache();
    h = system_alloc(bytes, size_class);
    if (!h) return nullptr;
  }
  h->size_class = size_class;
  h->capacity = class_capacity(size_class);
  h->mark = mark_of(h, kLive);
  return h;
}

// Each free_* looks at the mark under its lock, so that of two threads that free a block only one does. Says
// whether the block was live.
bool free_small(Header* h) {
  SmallClass& c = small_classes[h->size_class];
  {
    std::lock_guard<SpinLock> held(c.lock);
    if (h->mark != mark_of(h, kLive)) return false;
    in_use.fetch_sub(class_capacity(h->asked_class), std::memory_order_relaxed);
    if (c.bytes + h->capacity <= small_list_limit()) {
      h->mark = mark_of(h, kCached);
      h->class_next = c.head;
      c.head = h;
      c.bytes += h->capacity;
      return true;
    }
    h->mark = 0;
  }
  system_free(h);
  return true;
}

bool free_large(Header* h) {
  Header* evicted = nullptr;
  {
    std::lock_guard<std::mutex> held(large_mutex);
    if (h->mark != mark_of(h, kLive)) return false;
    in_use.fetch_sub(class_capacity(h->asked_class), std::memory_order_relaxed);
    h->mark = mark_of(h, kCached);
    large_push(h);
    evicted = large_evict(large_limit());
  }
  free_chain(evicted);
  return true;
}

bool free_block(void* block) {
  if (reinterpret_cast<uintptr_t>(block) % kAlign != 0) return false;
  Header* h = static_cast<Header*>(block) - 1;
  unpoison(h);
  if (h->mark != mark_of(h, kLive)) return false;
  return h->size_class < kNumSmall ? free_small(h) : free_large(h);
}

}  // namespace

void* pool_alloc(size_t bytes) noexcept {
  if (bytes > kMaxBytes) return nullptr;
  const int size_class = class_of(bytes);
  Header* h = take_cached(size_class);
  if (!h) h = make_block(bytes, size_class);
  if (!h) return nullptr;
  h->asked_class = size_class;
  count_in(class_capacity(size_class));
  void* const block = payload(h);
  poison(h);
  return block;
}

// A pointer that is not a live block of ours is a bug of the caller's: it stops a debug build; elsewhere it
// is left alone, because a leak is better than a list with a stranger in it.
void pool_free(void* block) noexcept {
  if (!block) return;
  const bool was_live = free_block(block);
  assert(was_live && "cnnext_free: not a live block of cnnext_alloc");
#ifdef CNNEXT_ASAN
  if (!was_live) std::free(static_cast<Header*>(block) - 1);  // has the sanitizer report where it came from
#else
  (void)was_live;
#endif
}

void also_empty(void (*pool)()) { other_pool.store(pool); }

void check_memory_settings() {
  const char* text = cache_setting();
  if (text && !parse_cache_setting(text)) {
    fail_value("CNNEXT_CACHE_MB is \"", text, "\"; it must be a whole number of megabytes, 0 or more");
  }
}

}  // namespace cnnext

using namespace cnnext;

extern "C" {

void* cnnext_alloc(size_t bytes) { return pool_alloc(bytes); }
void cnnext_free(void* block) { pool_free(block); }

void cnnext_empty_cache(void) {
  empty_cache();
  if (const auto pool = other_pool.load()) pool();
}

cnnext_status cnnext_get_memory_stats(cnnext_memory_stats* stats) {
  return guard([&] {
    if (!stats) fail_value("stats is NULL");
    if (stats->size < sizeof(cnnext_memory_stats)) {
      fail_value("stats->size is ", stats->size, "; it must be at least ", sizeof(cnnext_memory_stats));
    }
    start();
    cnnext_memory_stats s = {};
    s.size = stats->size;
    s.in_use_bytes = in_use.load(std::memory_order_relaxed);
    s.peak_in_use_bytes = peak_in_use.load(std::memory_order_relaxed);
    s.cache_limit_bytes = cache_limit.load(std::memory_order_relaxed);
    for (SmallClass& c : small_classes) {
      std::lock_guard<SpinLock> held(c.lock);
      s.cached_bytes += c.bytes;
      s.allocations += c.allocations;
      s.cache_hits += c.hits;
    }
    {
      std::lock_guard<std::mutex> held(large_mutex);
      s.cached_bytes += large_cached;
      s.allocations += large_allocations;
      s.cache_hits += large_hits;
    }
    *stats = s;
  });
}

}  // extern "C"
