// What this machine can do at most, measured: multiply-adds a second for each instruction set, and bytes a
// second to and from memory. Prints one line of JSON. Built on demand by bench/peak.py.
//
//   peak THREADS [fma] [memory]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec8 __attribute__((vector_size(32)));
typedef float Vec16 __attribute__((vector_size(64)));

// Read anew for every sum, so that the compiler must take them for different ones.
volatile float start_source = 0.5f;
volatile float factor_source = 0.999999f, addend_source = 1e-6f;
volatile float sink;

// A multiply-add takes about 4 cycles and two start in each: 12 independent sums keep both units busy and fit
// the 16 registers of AVX2. The compiler joins a * b + c into one instruction (-ffp-contract=fast).
#define MEASURED_LOOP(name, Vec, attribute)                                                \
  attribute double name(int64_t rounds) {                                                  \
    const Vec factor = Vec{} + factor_source, addend = Vec{} + addend_source;              \
    Vec s0 = Vec{} + start_source, s1 = Vec{} + start_source, s2 = Vec{} + start_source,   \
        s3 = Vec{} + start_source, s4 = Vec{} + start_source, s5 = Vec{} + start_source,   \
        s6 = Vec{} + start_source, s7 = Vec{} + start_source, s8 = Vec{} + start_source,   \
        s9 = Vec{} + start_source, s10 = Vec{} + start_source, s11 = Vec{} + start_source; \
    for (int64_t i = 0; i < rounds; ++i) {                                                 \
      s0 = s0 * factor + addend;                                                           \
      s1 = s1 * factor + addend;                                                           \
      s2 = s2 * factor + addend;                                                           \
      s3 = s3 * factor + addend;                                                           \
      s4 = s4 * factor + addend;                                                           \
      s5 = s5 * factor + addend;                                                           \
      s6 = s6 * factor + addend;                                                           \
      s7 = s7 * factor + addend;                                                           \
      s8 = s8 * factor + addend;                                                           \
      s9 = s9 * factor + addend;                                                           \
      s10 = s10 * factor + addend;                                                         \
      s11 = s11 * factor + addend;                                                         \
    }                                                                                      \
    const Vec sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;           \
    sink = sum[0];                                                                         \
    return 2.0 * 12 * (sizeof(Vec) / sizeof(float)) * static_cast<double>(rounds);         \
  }

MEASURED_LOOP(baseline_loop, Vec4, )
#if defined(__x86_64__)
MEASURED_LOOP(avx2_loop, Vec8, __attribute__((target("avx2,fma"))))
MEASURED_LOOP(avx512_loop, Vec16, __attribute__((target("avx512f"))))
#endif

struct Level {
  const char* isa;
  double (*loop)(int64_t rounds);
};

std::vector<Level> levels() {
  std::vector<Level> found = {{"scalar", baseline_loop}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back({"avx2", avx2_loop});
  if (__builtin_cpu_supports("avx512f")) found.push_back({"avx512", avx512_loop});
#endif
  return found;
}

// Runs body(thread) on every thread, all starting together; returns the seconds until the last is done.
double timed_together(int threads, const std::function<void(int)>& body) {
  std::atomic<int> waiting{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) {
    others.emplace_back([&, t] {
      waiting.fetch_add(1);
      while (!go) std::this_thread::yield();
      body(t);
    });
  }
  while (waiting < threads - 1) std::this_thread::yield();
  const auto start = Clock::now();
  go = true;
  body(0);
  for (std::thread& thread : others) thread.join();
  return seconds_since(start);
}

double measure_flops(const Level& level, int threads) {
  int64_t rounds = 1 << 14;
  double best = 0;
  for (int attempt = 0; attempt < 5;) {
    std::vector<double> done(static_cast<size_t>(threads));
    const double seconds =
        timed_together(threads, [&](int t) { done[static_cast<size_t>(t)] = level.loop(rounds); });
    if (seconds < 0.01) {
      rounds *= 2;
      continue;
    }
    best = std::max(best, done[0] * threads / seconds);
    ++attempt;
  }
  return best;
}

// ---- memory: arrays far larger than any cache ----
constexpr size_t kFloats = size_t{48} << 20;  // 192 MB each

float read_range(const float* p, size_t count) {
  Vec4 sums[8] = {};
  for (size_t i = 0; i + 32 <= count; i += 32) {
    for (size_t v = 0; v < 8; ++v) {
      Vec4 x;
      std::memcpy(&x, p + i + 4 * v, sizeof(x));
      sums[v] += x;
    }
  }
  Vec4 sum{};
  for (const Vec4& s : sums) sum += s;
  return sum[0];
}

struct Bandwidth {
  double read, copy;
};

Bandwidth measure_memory(int threads) {
  std::vector<float> a(kFloats, 1.0f), b(kFloats, 2.0f);
  const size_t share = kFloats / static_cast<size_t>(threads) / 32 * 32;
  const double bytes = static_cast<double>(share) * sizeof(float) * threads;
  Bandwidth best = {0, 0};
  for (int attempt = 0; attempt < 4; ++attempt) {
    double seconds =
        timed_together(threads, [&](int t) { sink = read_range(&a[static_cast<size_t>(t) * share], share); });
    best.read = std::max(best.read, bytes / seconds);
    seconds = timed_together(threads, [&](int t) {
      const size_t first = static_cast<size_t>(t) * share;
      std::memcpy(&b[first], &a[first], share * sizeof(float));
    });
    best.copy = std::max(best.copy, 2 * bytes / seconds);  // bytes read and bytes written
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  if (threads < 1 || threads > 1024) {
    std::fprintf(stderr, "usage: peak THREADS [fma] [memory]\n");
    return 2;
  }
  std::string text = "{\"threads\": " + std::to_string(threads);
  for (int i = 2; i < argc; ++i) {
    if (std::strcmp(argv[i], "fma") == 0) {
      for (const Level& level : levels()) {
        text += std::string(", \"gflops_") + level.isa +
                "\": " + std::to_string(measure_flops(level, threads) / 1e9);
      }
    } else if (std::strcmp(argv[i], "memory") == 0) {
      const Bandwidth found = measure_memory(threads);
      text += ", \"read_gbs\": " + std::to_string(found.read / 1e9);
      text += ", \"copy_gbs\": " + std::to_string(found.copy / 1e9);
    } else {
      std::fprintf(stderr, "unknown measurement %s\n", argv[i]);
      return 2;
    }
  }
  std::printf("%s}\n", text.c_str());
}
