// Index arithmetic of the kernels, as functions that run on the host too, where tests look at all of their
// values. Everything is 64 bits wide: tensors may have more than 2^31 elements. What ends in Of can be had
// with int32_t, too, which costs a GPU a third of that, for kernels that mostly compute where to read.
#pragma once

#include <cstdint>
#include <type_traits>

#define CNNEXT_INDEX __host__ __device__ constexpr

namespace cnnext::cuda {

CNNEXT_INDEX int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
CNNEXT_INDEX int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
CNNEXT_INDEX int64_t greatest(int64_t a, int64_t b) { return a < b ? b : a; }
CNNEXT_INDEX int64_t next_power_of_two(int64_t n) {
  int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

// The high half of a product.
CNNEXT_INDEX uint32_t multiply_high(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}
CNNEXT_INDEX uint64_t multiply_high(uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
#endif
}

// Division of 0 <= n < 2^B by a fixed 1 <= d <= 2^(B - 1), where B is 63 (31 for int32_t): n / d = n * m >>
// (B + s) with s = ceil(log2 d) and m = floor(2^(B + s) / d) + 1, which is too large by at most d / 2^(B + s)
// and so never reaches the next whole number.
template <class I>
class DivisorOf {
 public:
  DivisorOf() = default;
  CNNEXT_INDEX explicit DivisorOf(I divisor) : divisor_(divisor), multiplier_(0), shift_(0) {
    while (shift_ < kBits - 1 && (I{1} << shift_) < divisor) ++shift_;
    // 2^(B + s) / d by long division: the quotient has up to B + 1 bits, and nvcc's device code lacks 128-bit
    // literals in constexpr.
    Unsigned quotient = 0, rest = 0;
    for (int bit = kBits + shift_; bit >= 0; --bit) {
      rest = rest * 2 + (bit == kBits + shift_ ? 1 : 0);
      quotient = quotient * 2;
      if (rest >= static_cast<Unsigned>(divisor)) {
        rest -= static_cast<Unsigned>(divisor);
        quotient += 1;
      }
    }
    multiplier_ = quotient + 1;
  }
  CNNEXT_INDEX I divisor() const { return divisor_; }
  CNNEXT_INDEX I divide(I n) const {
    return static_cast<I>(multiply_high(static_cast<Unsigned>(n) * 2, multiplier_) >> shift_);
  }
  // Divides *n, and leaves the remainder in it.
  CNNEXT_INDEX I split(I* n) const {
    const I quotient = divide(*n);
    *n -= quotient * divisor_;
    return quotient;
  }

 private:
  using Unsigned = std::make_unsigned_t<I>;
  static constexpr int kBits = static_cast<int>(sizeof(I)) * 8 - 1;

  I divisor_;
  Unsigned multiplier_;
  int shift_;
};
using FastDivisor = DivisorOf<int64_t>;

template <class I>
struct RangeOf {
  I begin, end;
};
using Range = RangeOf<int64_t>;

// The whole numbers k in [0, count) with 0 <= k * step + offset < size. Dividing is for the borders only.
template <class I>
CNNEXT_INDEX RangeOf<I> steps_inside(I offset, const DivisorOf<I>& step, I size, I count) {
  I begin = 0, end = count;
  if (offset < 0) begin = step.divide(-offset - 1) + 1;
  if (begin > count) begin = count;
  if (offset + (count - 1) * step.divisor() >= size) {
    end = offset >= size ? 0 : step.divide(size - 1 - offset) + 1;
  }
  return {begin, end < begin ? begin : end};
}

// One axis of a pool: window p's tap t lies at p * stride - pad + t * dilation.
template <class I>
struct WindowAxisOf {
  I size, windows, kernel, pad, pad_end;
  DivisorOf<I> stride, dilation;

  CNNEXT_INDEX I start(I p) const { return p * stride.divisor() - pad; }
  CNNEXT_INDEX I position(I p, I tap) const { return start(p) + tap * dilation.divisor(); }
  CNNEXT_INDEX RangeOf<I> taps(I p) const { return steps_inside(start(p), dilation, size, kernel); }
  // Taps that count towards an average: with padding, but not beyond it, where ceil_mode reaches.
  CNNEXT_INDEX I counted(I p, bool with_padding) const {
    if (with_padding) return steps_inside(start(p) + pad, dilation, pad + size + pad_end, kernel).end;
    const RangeOf<I> inside = taps(p);
    return inside.end - inside.begin;
  }
  // The windows whose reach holds position i; with a dilation, not all of them have a tap there.
  CNNEXT_INDEX RangeOf<I> windows_over(I i) const {
    const I at = i + pad, reach = (kernel - 1) * dilation.divisor();
    const I begin = at > reach ? stride.divide(at - reach - 1) + 1 : 0, end = stride.divide(at) + 1;
    const I last = end < windows ? end : windows;
    return {begin, last < begin ? begin : last};
  }
  // The tap of window p at position i, or -1. p is one of windows_over(i).
  CNNEXT_INDEX I tap_at(I p, I i) const {
    I offset = i - start(p);
    const I tap = dilation.split(&offset);
    return offset == 0 ? tap : -1;
  }
  template <class To>
  WindowAxisOf<To> as() const {
    return {static_cast<To>(size),
            static_cast<To>(windows),
            static_cast<To>(kernel),
            static_cast<To>(pad),
            static_cast<To>(pad_end),
            DivisorOf<To>(static_cast<To>(stride.divisor())),
            DivisorOf<To>(static_cast<To>(dilation.divisor()))};
  }
};
using WindowAxis = WindowAxisOf<int64_t>;

// One axis of a convolution's backward-data, cut into `stride` phases: the image positions first + i * stride
// get something from the taps tap + j * tap_step alone, and there from the result's position i + result - j *
// result_step. No tap is multiplied in vain.
struct ConvPhase {
  int64_t first, count;         // image positions
  int64_t tap, tap_step, taps;  // taps; 0 of them where a phase gets nothing
  int64_t result, result_step;
};
CNNEXT_INDEX ConvPhase conv_phase(int64_t phase, int64_t size, int64_t kernel, int64_t stride,
                                  int64_t dilation, int64_t pad) {
  // Positions h with (h + pad) % stride == phase.
  const int64_t first = (phase - pad % stride + stride) % stride;
  const int64_t count = first < size ? ceil_div(size - first, stride) : 0;
  int64_t step = 1;  // after so many taps the remainder comes again
  while (step * dilation % stride != 0) ++step;
  int64_t tap = 0;
  while (tap < step && tap * dilation % stride != phase) ++tap;
  const int64_t taps = tap < step && tap < kernel ? ceil_div(kernel - tap, step) : 0;
  const int64_t above = taps == 0 ? 0 : first + pad - tap * dilation;  // a multiple of the stride
  return {first, count, tap, step, taps, above / stride, step * dilation / stride};
}

// One axis of an adaptive average pool.
struct AdaptiveAxis {
  int64_t size, windows;

  CNNEXT_INDEX Range elements(int64_t p) const {
    return {p * size / windows, ceil_div((p + 1) * size, windows)};
  }
  CNNEXT_INDEX Range windows_over(int64_t i) const {
    return windows == 0 ? Range{0, 0} : Range{i * windows / size, ceil_div((i + 1) * windows, size)};
  }
};

}  // namespace cnnext::cuda
