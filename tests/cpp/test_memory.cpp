// The pooled allocator through the C ABI's functions.
#include <sys/resource.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "cnnext/cnnext.h"
#include "core/error.h"
#include "core/memory.h"

using namespace cnnext;

namespace {

// Under the address sanitizer nothing is cached, so that it sees every overflow and every late use.
constexpr bool kCaches = !CHECK_ASAN;

cnnext_memory_stats stats() {
  cnnext_memory_stats s = {};
  s.size = sizeof(s);
  CHECK_EQ(cnnext_get_memory_stats(&s), CNNEXT_OK);
  return s;
}

const size_t kSizes[] = {0,    1,     63,    64,    65,      511,     512,           513,     1000,    4096,
                         4097, 65535, 65536, 65537, 1 << 20, 4 << 20, (4 << 20) + 1, 9999999, 33 << 20};

void blocks_are_aligned_and_writable() {
  std::vector<char*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (size_t size : kSizes) {
      char* block = static_cast<char*>(cnnext_alloc(size));
      CHECK(block != nullptr);
      CHECK_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u);
      std::memset(block, static_cast<int>(blocks.size()), size);
      blocks.push_back(block);
    }
  }
  size_t i = 0;
  for (int round = 0; round < 3; ++round) {
    for (size_t size : kSizes) {
      bool whole = true;  // no other block overlaps it
      for (size_t b = 0; b < size; ++b) whole = whole && blocks[i][b] == static_cast<char>(i);
      CHECK(whole);
      ++i;
    }
  }
  for (char* block : blocks) cnnext_free(block);
  CHECK_EQ(stats().in_use_bytes, 0u);
}

void null_is_ignored() { cnnext_free(nullptr); }

void blocks_are_reused() {
  if (!kCaches) return;
  for (size_t size : kSizes) {
    void* first = cnnext_alloc(size);
    cnnext_free(first);
    const uint64_t hits = stats().cache_hits;
    void* second = cnnext_alloc(size);
    CHECK_EQ(first, second);
    CHECK_EQ(stats().cache_hits, hits + 1);
    cnnext_free(second);
  }
}

void at_most_an_eighth_is_wasted() {
  for (size_t size = 512; size < size_t{1} << 30; size += size / 7 + 1) {
    const uint64_t before = stats().in_use_bytes;
    void* block = cnnext_alloc(size);
    CHECK(block != nullptr);
    const uint64_t taken = stats().in_use_bytes - before;
    CHECK(taken >= size && taken <= size + size / 8 + 64);
    cnnext_free(block);
  }
  cnnext_empty_cache();
}

void a_waiting_block_serves_down_to_half_of_it() {
  if (!kCaches) return;
  constexpr size_t kLarge = size_t{8} << 20;
  cnnext_empty_cache();
  void* const large = cnnext_alloc(kLarge);
  cnnext_free(large);
  const uint64_t in_use = stats().in_use_bytes;
  void* const half = cnnext_alloc(kLarge / 2);
  CHECK_EQ(half, large);
  CHECK_EQ(stats().in_use_bytes, in_use + kLarge / 2);
  void* const another = cnnext_alloc(kLarge);  // the first is taken
  CHECK(another != large);
  cnnext_free(half);
  CHECK_EQ(stats().in_use_bytes, in_use + kLarge);
  void* const less = cnnext_alloc(kLarge / 2 - kLarge / 16);
  CHECK(less != large);
  cnnext_free(less);
  cnnext_free(another);
  cnnext_empty_cache();
}

void statistics_add_up() {
  cnnext_empty_cache();
  const cnnext_memory_stats before = stats();
  CHECK_EQ(before.cached_bytes, 0u);
  void* a = cnnext_alloc(1024);
  void* b = cnnext_alloc(1 << 20);
  cnnext_memory_stats now = stats();
  CHECK_EQ(now.in_use_bytes, before.in_use_bytes + 1024 + (1 << 20));
  CHECK_EQ(now.allocations, before.allocations + 2);
  CHECK(now.peak_in_use_bytes >= now.in_use_bytes);
  cnnext_free(a);
  cnnext_free(b);
  now = stats();
  CHECK_EQ(now.in_use_bytes, before.in_use_bytes);
  if (kCaches) CHECK_EQ(now.cached_bytes, 1024u + (1 << 20));
  cnnext_empty_cache();
  CHECK_EQ(stats().cached_bytes, 0u);
  CHECK_EQ(cnnext_get_memory_stats(nullptr), CNNEXT_INVALID_VALUE);
  cnnext_memory_stats short_one = {};
  short_one.size = 8;
  CHECK_EQ(cnnext_get_memory_stats(&short_one), CNNEXT_INVALID_VALUE);
}

void impossible_sizes_give_null() {
  for (size_t size : {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 64, size_t{1} << 63, (size_t{1} << 63) - 1,
                      (size_t{1} << 47) + 1, (size_t{1} << 46) + (size_t{1} << 45)}) {
    CHECK(cnnext_alloc(size) == nullptr);
  }
}

void memory_may_run_out() {
  if (CHECK_ASAN || CHECK_TSAN) return;  // their own address space is far above the limit
  CHECK_EQ(check::in_child([] {
             std::vector<void*> cached;
             for (int i = 0; i < 4; ++i) cached.push_back(cnnext_alloc(40 << 20));
             for (void* block : cached) cnnext_free(block);
             const rlimit limit = {rlim_t{256} << 20, rlim_t{256} << 20};
             CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
             void* big = cnnext_alloc(150 << 20);  // fits only once the cache is given back
             CHECK(big != nullptr);
             CHECK(cnnext_alloc(150 << 20) == nullptr);
             CHECK(cnnext_alloc(3 << 20) != nullptr);
             cnnext_free(big);
           }),
           0);
}

// The limit is read once: each case in a process of its own.
void the_cache_is_bounded() {
  if (!kCaches || CHECK_TSAN) return;
  for (const char* megabytes : {"0", "1", "50", "200"}) {
    CHECK_EQ(check::in_child([megabytes] {
               execl("/proc/self/exe", "test_memory", "--limit", megabytes, nullptr);
               CHECK(!"execl");
             }),
             0);
  }
}

int check_limit(const char* megabytes) {
  setenv("CNNEXT_CACHE_MB", megabytes, 1);
  const uint64_t limit = std::strtoull(megabytes, nullptr, 10) << 20;
  CHECK_EQ(stats().cache_limit_bytes, limit);
  std::mt19937 random(1);
  std::vector<void*> live;
  for (int i = 0; i < 4000; ++i) {
    if (live.size() < 40 || random() % 2) {
      const size_t size = size_t{1} << (random() % 24);
      live.push_back(cnnext_alloc(size + random() % size));
    } else {
      std::swap(live[random() % live.size()], live.back());
      cnnext_free(live.back());
      live.pop_back();
    }
    CHECK(stats().cached_bytes <= limit);
  }
  for (void* block : live) cnnext_free(block);
  const cnnext_memory_stats s = stats();
  CHECK_EQ(s.in_use_bytes, 0u);
  CHECK(s.cached_bytes <= limit);
  if (limit >= (50u << 20)) CHECK(s.cached_bytes > limit / 4);  // it does cache
  if (limit == 0) CHECK_EQ(s.cache_hits, 0u);
  return check::result();
}

void the_oldest_goes_first() {
  if (!kCaches || CHECK_TSAN) return;
  CHECK_EQ(check::in_child([] {
             execl("/proc/self/exe", "test_memory", "--oldest", nullptr);
             CHECK(!"execl");
           }),
           0);
}

int check_oldest() {
  setenv("CNNEXT_CACHE_MB", "100", 1);  // 50 for small lists at most, so that 50 remain for large blocks
  void* blocks[3] = {cnnext_alloc(16 << 20), cnnext_alloc(18 << 20), cnnext_alloc(60 << 20)};
  cnnext_free(blocks[0]);
  cnnext_free(blocks[1]);
  cnnext_free(blocks[2]);  // larger than the limit: it pushes everything out, itself too
  CHECK_EQ(stats().cached_bytes, 0u);
  blocks[0] = cnnext_alloc(16 << 20);
  blocks[1] = cnnext_alloc(18 << 20);
  blocks[2] = cnnext_alloc(24 << 20);
  cnnext_free(blocks[0]);
  cnnext_free(blocks[1]);
  cnnext_free(blocks[2]);
  CHECK_EQ(stats().cached_bytes, uint64_t{18 + 24} << 20);
  return check::result();
}

void wrong_setting_is_reported() {
  for (const char* text : {"-1", "many", "1.5", "10MB"}) {
    setenv("CNNEXT_CACHE_MB", text, 1);
    bool thrown = false;
    try {
      check_memory_settings();
    } catch (const Error& e) {
      thrown = e.status == CNNEXT_INVALID_VALUE && std::strstr(e.what(), text);
    }
    CHECK(thrown);
  }
  unsetenv("CNNEXT_CACHE_MB");
  check_memory_settings();
}

void many_threads_at_once() {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      std::mt19937 random(static_cast<unsigned>(t));
      struct Owned {
        unsigned char* block;
        size_t size;
      };
      std::vector<Owned> live;
      for (int i = 0; i < 3000; ++i) {
        if (live.size() < 8 || random() % 2) {
          const size_t size = 1 + random() % (random() % 16 == 0 ? 200000 : 2000);
          auto* block = static_cast<unsigned char*>(cnnext_alloc(size));
          block[0] = block[size - 1] = static_cast<unsigned char>(t + 1);
          live.push_back({block, size});
        } else {
          std::swap(live[random() % live.size()], live.back());
          const Owned last = live.back();
          if (last.block[0] != t + 1 || last.block[last.size - 1] != t + 1) wrong.fetch_add(1);
          cnnext_free(last.block);
          live.pop_back();
        }
        if (i % 1000 == 0) cnnext_empty_cache();
      }
      for (const Owned& o : live) cnnext_free(o.block);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_EQ(stats().in_use_bytes, 0u);
}

void a_block_may_be_freed_by_another_thread() {
  void* block = cnnext_alloc(300);
  std::thread([block] { cnnext_free(block); }).join();
  CHECK_EQ(stats().in_use_bytes, 0u);
}

void works_after_fork() {
  if (CHECK_TSAN) return;
  std::atomic<bool> stop{false};
  std::thread busy([&stop] {        // may hold any lock at the moment of the fork
    while (!stop && !CHECK_ASAN) {  // the sanitizer's own allocator does not survive such a fork
      cnnext_free(cnnext_alloc(100));
      cnnext_free(cnnext_alloc(100000));
    }
  });
  void* mine = cnnext_alloc(5000);
  for (int round = 0; round < 50; ++round) {
    CHECK_EQ(check::in_child([mine] {
               cnnext_free(mine);
               for (size_t size : kSizes) {
                 void* block = cnnext_alloc(size);
                 CHECK(block != nullptr);
                 cnnext_free(block);
               }
               cnnext_empty_cache();
             }),
             0);
  }
  stop = true;
  busy.join();
  cnnext_free(mine);
}

// In a debug build an assertion stops the program; elsewhere the lists must stay sound.
void freeing_twice_harms_no_list() {
  if (CHECK_ASAN) {
    CHECK(check::in_child([] {
            void* block = cnnext_alloc(100);
            cnnext_free(block);
            std::fclose(stderr);  // the sanitizer's report is expected
            cnnext_free(block);
          }) != 0);
    return;
  }
#ifdef NDEBUG
  for (size_t size : {size_t{100}, size_t{100000}}) {
    void* block = cnnext_alloc(size);
    cnnext_free(block);
    cnnext_free(block);
    void* first = cnnext_alloc(size);
    void* second = cnnext_alloc(size);
    CHECK(first != second);
    cnnext_free(first);
    cnnext_free(second);
  }
  alignas(64) static char foreign[256];
  cnnext_free(foreign + 64);
  cnnext_free(foreign + 65);
  CHECK_EQ(stats().in_use_bytes, 0u);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3) return check_limit(argv[2]);
  if (argc == 2) return check_oldest();
  RUN(blocks_are_aligned_and_writable);
  RUN(null_is_ignored);
  RUN(blocks_are_reused);
  RUN(at_most_an_eighth_is_wasted);
  RUN(a_waiting_block_serves_down_to_half_of_it);
  RUN(statistics_add_up);
  RUN(impossible_sizes_give_null);
  RUN(memory_may_run_out);
  RUN(the_cache_is_bounded);
  RUN(the_oldest_goes_first);
  RUN(wrong_setting_is_reported);
  RUN(many_threads_at_once);
  RUN(a_block_may_be_freed_by_another_thread);
  RUN(works_after_fork);
  RUN(freeing_twice_harms_no_list);
  return check::result();
}
