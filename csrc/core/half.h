// The 16-bit floats as values: read as float, written with one rounding to the nearest, ties to even. NaN
// stays NaN, what is too large becomes infinite. For baseline code; kernels have conversions of their own.
#pragma once

#include <cstdint>
#include <cstring>

namespace cnnext {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The float towards zero, its last bit set where that is inexact: rounding it again to fewer bits gives what
// rounding the double at once would.
inline float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = nearest;
  if (back == value || value != value) return nearest;
  uint32_t bits = float_bits(nearest);
  const bool away = value < 0 ? back < value : back > value;
  return float_from_bits((bits - (away ? 1 : 0)) | 1);
}

struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const uint32_t b = float_bits(value);
    const bool nan = (b & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(nan ? (b >> 16) | 0x40u : (b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
  }
  explicit BFloat16(double value) : BFloat16(round_to_odd(value)) {}
  operator float() const { return float_from_bits(static_cast<uint32_t>(bits) << 16); }
};

struct Float16 {
  uint16_t bits;

  Float16() = default;
  explicit Float16(float value) {
    const uint32_t b = float_bits(value), sign = b >> 16 & 0x8000u, magnitude = b & 0x7fffffffu;
    uint32_t result;
    if (magnitude > 0x7f800000u) {
      result = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    } else if (magnitude >= 0x47800000u) {  // 2^16 and above
      result = 0x7c00u;
    } else if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves multiples of 2^-24 in the low bits
      result = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      result = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    }
    bits = static_cast<uint16_t>(sign | result);
  }
  explicit Float16(double value) : Float16(round_to_odd(value)) {}
  operator float() const {
    const uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude >= 0x400u) return float_from_bits(sign | ((magnitude << 13) + (112u << 23)));
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
};

}  // namespace cnnext
