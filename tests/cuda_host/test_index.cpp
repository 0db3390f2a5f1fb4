// csrc/cuda/index.cuh and terms.cuh against plain division and plain loops.
#include <cuda_runtime.h>

#include <random>

#include "check.h"
#include "cpu/ref/avg_window.h"
#include "cuda/index.cuh"
#include "cuda/terms.cuh"

using namespace cnnext::cuda;

namespace {

void fast_division() {
  std::mt19937_64 random(1);
  constexpr int64_t kMost = INT64_MAX;
  const auto check_at = [](int64_t n, int64_t d) {
    int64_t rest = n;
    const int64_t quotient = FastDivisor(d).split(&rest);
    CHECK_EQ(quotient, n / d);
    CHECK_EQ(rest, n % d);
  };
  for (int64_t d = 1; d < 70; ++d) {
    for (int64_t n = 0; n < 300; ++n) check_at(n, d);
  }
  for (int i = 0; i < 100000; ++i) {
    const int64_t d = static_cast<int64_t>(random() >> (2 + random() % 62)) + 1;
    const int64_t n = static_cast<int64_t>(random() >> (1 + random() % 63)), multiple = n / d * d;
    for (const int64_t at :
         {n, multiple, multiple > 0 ? multiple - 1 : 0, kMost, kMost / d * d, kMost / d * d - 1}) {
      check_at(at, d);
    }
  }
  static_assert(FastDivisor(7).divide(48) == 6, "constant expressions too");
}

void fast_division_of_32_bits() {
  std::mt19937 random(2);
  for (int i = 0; i < 100000; ++i) {
    const int32_t d = static_cast<int32_t>(random() >> (2 + random() % 30)) + 1;
    const int32_t n = static_cast<int32_t>(random() >> (1 + random() % 31)), multiple = n / d * d;
    for (const int32_t at : {n, multiple, multiple > 0 ? multiple - 1 : 0, INT32_MAX, INT32_MAX / d * d}) {
      int32_t rest = at;
      CHECK_EQ(DivisorOf<int32_t>(d).split(&rest), at / d);
      CHECK_EQ(rest, at % d);
    }
  }
}

// In 32 bits as in 64.
void check_narrow(const WindowAxis& wide, int64_t p) {
  const WindowAxisOf<int32_t> narrow = wide.as<int32_t>();
  const auto small = static_cast<int32_t>(p);
  CHECK_EQ(narrow.taps(small).begin, wide.taps(p).begin);
  CHECK_EQ(narrow.taps(small).end, wide.taps(p).end);
  CHECK_EQ(narrow.counted(small, true), wide.counted(p, true));
  for (int64_t i = 0; i < wide.size; ++i) {
    const auto at = static_cast<int32_t>(i);
    const Range over = wide.windows_over(i);
    CHECK_EQ(narrow.windows_over(at).begin, over.begin);
    CHECK_EQ(narrow.windows_over(at).end, over.end);
    if (p >= over.begin && p < over.end) CHECK_EQ(narrow.tap_at(small, at), wide.tap_at(p, i));
  }
}

void windows_along_an_axis() {
  for (int64_t size = 1; size <= 9; ++size) {
    for (int64_t kernel = 1; kernel <= 4; ++kernel) {
      for (int64_t stride = 1; stride <= 4; ++stride) {
        for (int64_t dilation = 1; dilation <= 3; ++dilation) {
          for (int64_t pad = 0; pad <= dilation * (kernel - 1); ++pad) {
            const int64_t count = 5, pad_end = 1;
            const WindowAxis axis{
                size, count, kernel, pad, pad_end, FastDivisor(stride), FastDivisor(dilation)};
            for (int64_t p = 0; p < count; ++p) {
              const cnnext::WindowTaps taps = cnnext::window_taps(p, stride, pad, dilation, kernel, size);
              const Range mine = axis.taps(p);
              check_narrow(axis, p);
              CHECK_EQ(mine.end - mine.begin, taps.end - taps.begin);
              if (mine.end > mine.begin) CHECK_EQ(mine.begin, taps.begin);
              for (const bool padded : {false, true}) {
                const auto all =
                    cnnext::window_along(p, stride, pad, pad_end, dilation, kernel, size, padded);
                CHECK_EQ(axis.counted(p, padded), all.counted);
              }
              // The windows over an element are those with a tap there.
              for (int64_t i = 0; i < size; ++i) {
                int64_t tap = -1;
                for (int64_t t = 0; t < kernel; ++t) tap = axis.position(p, t) == i ? t : tap;
                const Range over = axis.windows_over(i);
                if (p >= over.begin && p < over.end) {
                  CHECK_EQ(axis.tap_at(p, i), tap);
                } else {
                  CHECK_EQ(tap, -1);
                }
              }
            }
          }
        }
      }
    }
  }
}

void adaptive_windows() {
  for (int64_t size = 1; size <= 12; ++size) {
    for (int64_t count = 1; count <= 15; ++count) {
      const AdaptiveAxis axis{size, count};
      for (int64_t p = 0; p < count; ++p) {
        const auto want = cnnext::adaptive_along(p, count, size);
        const Range mine = axis.elements(p);
        CHECK_EQ(mine.begin, want.taps.start);
        CHECK_EQ(mine.end - mine.begin, want.taps.end);
        for (int64_t i = 0; i < size; ++i) {
          const Range over = axis.windows_over(i);
          CHECK_EQ(p >= over.begin && p < over.end, i >= mine.begin && i < mine.end);
        }
      }
    }
  }
}

// Every product of a tap and a result's position that reaches an image position is in exactly one phase.
void phases_of_backward_data() {
  for (int64_t size = 1; size <= 9; ++size) {
    for (int64_t kernel = 1; kernel <= 5; ++kernel) {
      for (int64_t stride = 1; stride <= 5; ++stride) {
        for (int64_t dilation = 1; dilation <= 4; ++dilation) {
          for (int64_t pad = 0; pad <= 6; ++pad) {
            int64_t seen[9] = {}, wanted[9] = {};
            for (int64_t phase = 0; phase < stride; ++phase) {
              const ConvPhase f = conv_phase(phase, size, kernel, stride, dilation, pad);
              for (int64_t i = 0; i < f.count; ++i) {
                const int64_t h = f.first + i * stride;
                CHECK(h >= 0 && h < size);
                seen[h] += 1000;
                for (int64_t j = 0; j < f.taps; ++j) {
                  const int64_t r = f.tap + j * f.tap_step, p = i + f.result - j * f.result_step;
                  CHECK(r < kernel);
                  CHECK_EQ(p * stride - pad + r * dilation, h);
                  ++seen[h];
                }
              }
            }
            for (int64_t h = 0; h < size; ++h) {
              wanted[h] = 1000;
              for (int64_t r = 0; r < kernel; ++r) wanted[h] += (h + pad - r * dilation) % stride == 0;
              CHECK_EQ(seen[h], wanted[h]);
            }
          }
        }
      }
    }
  }
}

// Where terms lie, from the start and by steps of every length, against their digits.
void walks_over_terms() {
  const Offsets of_inner{3, -70, 1, 0}, of_middle{-50, 11, 0, 2}, of_outer{1000, 7, 5, 1};
  const auto equal = [](const Offsets& x, const Offsets& y) {
    return x.a == y.a && x.b == y.b && x.h == y.h && x.w == y.w;
  };
  for (int64_t inner = 1; inner <= 5; ++inner) {
    for (int64_t middle = 1; middle <= 5; ++middle) {
      const TermWalk walk(inner, middle, of_inner, of_middle, of_outer);
      for (int64_t by = 1; by <= 40; ++by) {
        const TermWalk::Step step = walk.step(by);
        for (int64_t first = 0; first < 30; ++first) {
          TermWalk::Term term = walk.start(first);
          for (int64_t k = first; k < first + 4 * by; k += by) {
            const Offsets want =
                k % inner * of_inner + k / inner % middle * of_middle + k / inner / middle * of_outer;
            CHECK(equal(term.at, want));
            walk.advance(&term, step);
          }
        }
      }
    }
  }
}

}  // namespace

int main() {
  RUN(fast_division);
  RUN(fast_division_of_32_bits);
  RUN(windows_along_an_axis);
  RUN(adaptive_windows);
  RUN(phases_of_backward_data);
  RUN(walks_over_terms);
  return check::result();
}
