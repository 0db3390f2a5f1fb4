// See max_pool_bytes.h. Vectors of 64 bytes, which the compiler cuts to the instruction set's.
#pragma once

#include "cpu/kernels/max_pool_bytes.h"

namespace cnnext {
namespace {

constexpr int kByteLanes = 64;

template <class Byte>
struct ByteVector {
  typedef Byte Raw __attribute__((vector_size(kByteLanes)));
  Raw v;
  // Missing lanes hold 0.
  static inline ByteVector load(const uint8_t* p, int n) {
    ByteVector r = {};
    if (n == kByteLanes)
      __builtin_memcpy(&r.v, p, kByteLanes);
    else
      __builtin_memcpy(&r.v, p, static_cast<size_t>(n));
    return r;
  }
  static inline ByteVector set1(uint8_t value) { return {Raw{} + static_cast<Byte>(value)}; }
  inline void store(uint8_t* p, int n) const {
    if (n == kByteLanes)
      __builtin_memcpy(p, &v, kByteLanes);
    else
      __builtin_memcpy(p, &v, static_cast<size_t>(n));
  }
};

template <class Byte>
inline void max_pool_bytes_vector(const MaxPoolBytes& a, int64_t i, int n) {
  using Vector = ByteVector<Byte>;
  Vector best = Vector::set1(static_cast<Byte>(-1) < 0 ? 0x80 : 0);
  const int read = a.first ? kByteLanes : n;
  Vector number = a.first ? Vector::load(a.first + i, read) : Vector::set1(a.tap_numbers[0]);
  for (int64_t t = 0; t < a.num_taps; ++t) {
    const Vector value = Vector::load(a.taps[t] + i, read), tap = Vector::set1(a.tap_numbers[t]);
    const auto above = value.v > best.v;
    best.v = above ? value.v : best.v;
    number.v = above ? tap.v : number.v;
  }
  best.store(a.y + i, n);
  number.store(a.numbers + i, n);
}

template <class Byte>
void max_pool_bytes_as(const MaxPoolBytes& a) {
  int64_t i = 0;
  for (; i + kByteLanes <= a.count; i += kByteLanes) max_pool_bytes_vector<Byte>(a, i, kByteLanes);
  if (i < a.count) max_pool_bytes_vector<Byte>(a, i, static_cast<int>(a.count - i));
}

void max_pool_bytes(const MaxPoolBytes& a) {
  a.is_signed ? max_pool_bytes_as<int8_t>(a) : max_pool_bytes_as<uint8_t>(a);
}

constexpr MaxPoolBytesUkernels kMaxPoolBytesUkernels = {max_pool_bytes};

}  // namespace
}  // namespace cnnext
