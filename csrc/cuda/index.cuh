// Index arithmetic of the kernels, as functions that run on the host too, where tests look at all of their
// values. Everything is 64 bits wide: tensors may have more than 2^31 elements.
#pragma once

#include <cstdint>

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

// The high half of a 128-bit product.
CNNEXT_INDEX uint64_t multiply_high(uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
#endif
}

// Division of 0 <= n < 2^63 by a fixed d >= 1: n / d = n * m >> (63 + s) with s = ceil(log2 d) and
// m = floor(2^(63 + s) / d) + 1, which is too large by at most d / 2^(63 + s) and so never reaches the next
// whole number.
class FastDivisor {
 public:
  FastDivisor() = default;
  CNNEXT_INDEX explicit FastDivisor(int64_t divisor) : divisor_(divisor), multiplier_(0), shift_(0) {
    while (shift_ < 62 && (int64_t{1} << shift_) < divisor) ++shift_;
    // 2^(63 + s) / d by long division: the quotient has up to 64 bits, and nvcc's device code lacks 128-bit
    // literals in constexpr.
    uint64_t quotient = 0, rest = 0;
    for (int bit = 63 + shift_; bit >= 0; --bit) {
      rest = rest * 2 + (bit == 63 + shift_ ? 1 : 0);
      quotient = quotient * 2;
      if (rest >= static_cast<uint64_t>(divisor)) {
        rest -= static_cast<uint64_t>(divisor);
        quotient += 1;
      }
    }
    multiplier_ = quotient + 1;
  }
  CNNEXT_INDEX int64_t divisor() const { return divisor_; }
  CNNEXT_INDEX int64_t divide(int64_t n) const {
    return static_cast<int64_t>(multiply_high(static_cast<uint64_t>(n) * 2, multiplier_) >> shift_);
  }
  // Divides *n, and leaves the remainder in it.
  CNNEXT_INDEX int64_t split(int64_t* n) const {
    const int64_t quotient = divide(*n);
    *n -= quotient * divisor_;
    return quotient;
  }

 private:
  int64_t divisor_;
  uint64_t multiplier_;
  int shift_;
};

struct Range {
  int64_t begin, end;
};

// The whole numbers k in [0, count) with 0 <= k * step + offset < size. Dividing is for the borders only.
CNNEXT_INDEX Range steps_inside(int64_t offset, const FastDivisor& step, int64_t size, int64_t count) {
  int64_t begin = 0, end = count;
  if (offset < 0) begin = least(step.divide(-offset - 1) + 1, count);
  if (offset + (count - 1) * step.divisor() >= size) {
    end = offset >= size ? 0 : step.divide(size - 1 - offset) + 1;
  }
  return {begin, greatest(end, begin)};
}

// One axis of a pool: window p's tap t lies at p * stride - pad + t * dilation.
struct WindowAxis {
  int64_t size, windows, kernel, pad, pad_end;
  FastDivisor stride, dilation;

  CNNEXT_INDEX int64_t start(int64_t p) const { return p * stride.divisor() - pad; }
  CNNEXT_INDEX int64_t position(int64_t p, int64_t tap) const { return start(p) + tap * dilation.divisor(); }
  CNNEXT_INDEX Range taps(int64_t p) const { return steps_inside(start(p), dilation, size, kernel); }
  // Taps that count towards an average: with padding, but not beyond it, where ceil_mode reaches.
  CNNEXT_INDEX int64_t counted(int64_t p, bool with_padding) const {
    if (with_padding) return steps_inside(start(p) + pad, dilation, pad + size + pad_end, kernel).end;
    const Range inside = taps(p);
    return inside.end - inside.begin;
  }
  // The windows whose reach holds position i; with a dilation, not all of them have a tap there.
  CNNEXT_INDEX Range windows_over(int64_t i) const {
    const int64_t at = i + pad, reach = (kernel - 1) * dilation.divisor();
    const int64_t begin = at > reach ? stride.divide(at - reach - 1) + 1 : 0;
    return {begin, greatest(begin, least(stride.divide(at) + 1, windows))};
  }
  // The tap of window p at position i, or -1. p is one of windows_over(i).
  CNNEXT_INDEX int64_t tap_at(int64_t p, int64_t i) const {
    int64_t offset = i - start(p);
    const int64_t tap = dilation.split(&offset);
    return offset == 0 ? tap : -1;
  }
};

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
