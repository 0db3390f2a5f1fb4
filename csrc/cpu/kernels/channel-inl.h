// See channel.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/channel.h"
#include "cpu/kernels/elementwise-inl.h"

namespace cnnext {
namespace {

// ---- rows ----

// Four sums at a time hide the latency of an addition.
template <int kSums, class Term>
inline void sum_row(int64_t count, float* out, const Term& term) {
  constexpr int L = Vec::kLanes, kUnroll = 4;
  Vec sums[kUnroll][kSums];
  for (auto& group : sums)
    for (Vec& s : group) s = Vec::zero();
  int64_t i = 0;
  for (; i + kUnroll * L <= count; i += kUnroll * L) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) term(i + u * L, L, LoadVector{}, sums[u]);
  }
  for (; i + L <= count; i += L) term(i, L, LoadVector{}, sums[0]);
  if (i < count) {
    const int left = static_cast<int>(count - i);
    term(i, left, LoadTail{left}, sums[1]);
  }
  for (int k = 0; k < kSums; ++k) {
    out[k] = reduce_add((sums[0][k] + sums[1][k]) + (sums[2][k] + sums[3][k]));
  }
}

float row_sum(const float* x, int64_t count) {
  float sum;
  sum_row<1>(count, &sum, [=](int64_t i, int, auto load, Vec* s) { s[0] = s[0] + load(x + i); });
  return sum;
}

// A tail's missing lanes are 0, which less the shift is not 0.
template <class Load>
inline Vec less_shift(const float* x, int n, Load load, Vec shift, const float* shifts) {
  return load(x) - (n == Vec::kLanes ? shift : load(shifts));
}

Moments row_moments(const float* x, int64_t count) {
  const float mean = row_sum(x, count) / static_cast<float>(count);
  const Vec shift = Vec::set1(mean);
  float shifts[Vec::kLanes], sums[2];
  shift.store(shifts);
  sum_row<2>(count, sums, [=, &shifts](int64_t i, int n, auto load, Vec* s) {
    const Vec v = less_shift(x + i, n, load, shift, shifts);
    s[0] = s[0] + v;
    s[1] = fma(v, v, s[1]);
  });
  return {mean, sums[0], sums[1]};
}

Dots row_dots(const float* grad, const float* x, int64_t count, float mean) {
  const Vec shift = Vec::set1(mean);
  float sums[2];
  sum_row<2>(count, sums, [=](int64_t i, int, auto load, Vec* s) {
    const Vec g = load(grad + i);  // 0 in a tail's missing lanes
    s[0] = s[0] + g;
    s[1] = fma(g, load(x + i) - shift, s[1]);
  });
  return {sums[0], sums[1]};
}

void row_affine(const float* x, float* y, int64_t count, float mean, float scale, float bias) {
  const Vec m = Vec::set1(mean), a = Vec::set1(scale), b = Vec::set1(bias);
  run_flat(y, count, false, [=](int64_t i, auto load) { return fma(load(x + i) - m, a, b); });
}

void row_grad(const float* grad, const float* x, float* y, int64_t count, float mean, float scale,
              float slope, float bias) {
  const Vec m = Vec::set1(mean), a = Vec::set1(scale), k = Vec::set1(slope), b = Vec::set1(bias);
  run_flat(y, count, false,
           [=](int64_t i, auto load) { return fma(load(x + i) - m, k, fma(load(grad + i), a, b)); });
}

// ---- columns ----

// body(first column, load, store, width tag) for tiles of 4 vectors, single vectors and the tail.
template <int kVectors>
struct TileWidth {
  static constexpr int kCount = kVectors;
};

template <class Body>
inline void for_tiles(int64_t columns, const Body& body) {
  constexpr int L = Vec::kLanes;
  int64_t c = 0;
  for (; c + 4 * L <= columns; c += 4 * L) body(c, LoadVector{}, StoreVector{}, TileWidth<4>{});
  for (; c + L <= columns; c += L) body(c, LoadVector{}, StoreVector{}, TileWidth<1>{});
  if (c < columns) {
    const int left = static_cast<int>(columns - c);
    body(c, LoadTail{left}, StoreTail{left}, TileWidth<1>{});
  }
}

// out[v] = the sum over rows of term(row, v).
template <int kVectors, class Term>
inline void sum_rows(int64_t rows, Vec (&out)[kVectors], const Term& term) {
  Vec odd[kVectors];
  for (int v = 0; v < kVectors; ++v) out[v] = odd[v] = Vec::zero();
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      out[v] = term(r, v, out[v]);
      odd[v] = term(r + 1, v, odd[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    if (r < rows) out[v] = term(r, v, out[v]);
    out[v] = out[v] + odd[v];
  }
}

void column_sums(const ColumnArgs& a) {
  for_tiles(a.columns, [&](int64_t c, auto load, auto store, auto width) {
    constexpr int kVectors = decltype(width)::kCount, L = Vec::kLanes;
    Vec sums[kVectors];
    sum_rows(a.rows, sums, [&](int64_t r, int v, Vec s) { return s + load(a.x + r * a.step + c + v * L); });
    for (int v = 0; v < kVectors; ++v) store(sums[v], a.sums + c + v * L);
  });
}

void column_moments(const ColumnArgs& a) {
  const Vec share = Vec::set1(1.f / static_cast<float>(a.rows));
  for_tiles(a.columns, [&](int64_t c, auto load, auto store, auto width) {
    constexpr int kVectors = decltype(width)::kCount, L = Vec::kLanes;
    const auto x = [&](int64_t r, int v) { return load(a.x + r * a.step + c + v * L); };
    Vec shift[kVectors], sums[kVectors], squares[kVectors];
    sum_rows(a.rows, shift, [&](int64_t r, int v, Vec s) { return s + x(r, v); });
    for (Vec& s : shift) s = s * share;
    sum_rows(a.rows, sums, [&](int64_t r, int v, Vec s) { return s + (x(r, v) - shift[v]); });
    sum_rows(a.rows, squares, [&](int64_t r, int v, Vec s) {
      const Vec d = x(r, v) - shift[v];
      return fma(d, d, s);
    });
    for (int v = 0; v < kVectors; ++v) {
      store(shift[v], a.shift + c + v * L);
      store(sums[v], a.sums + c + v * L);
      store(squares[v], a.other + c + v * L);
    }
  });
}

void column_dots(const ColumnArgs& a) {
  for_tiles(a.columns, [&](int64_t c, auto load, auto store, auto width) {
    constexpr int kVectors = decltype(width)::kCount, L = Vec::kLanes;
    Vec shift[kVectors], sums[kVectors], dots[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      shift[v] = load(a.shift + c + v * L);
      sums[v] = dots[v] = Vec::zero();
    }
    for (int64_t r = 0; r < a.rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = r * a.step + c + v * L;
        const Vec g = load(a.grad + at);
        sums[v] = sums[v] + g;
        dots[v] = fma(g, load(a.x + at) - shift[v], dots[v]);
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      store(sums[v], a.sums + c + v * L);
      store(dots[v], a.other + c + v * L);
    }
  });
}

void column_affine(const AffineColumns& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.columns;
    run_flat(a.y + r * a.columns, a.columns, false, [&](int64_t i, auto load) {
      return fma(load(x + i) - load(a.mean + i), load(a.scale + i), load(a.bias + i));
    });
  }
}

void column_grad(const GradColumns& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float *x = a.x + r * a.columns, *grad = a.grad + r * a.columns;
    run_flat(a.y + r * a.columns, a.columns, false, [&](int64_t i, auto load) {
      const Vec straight = fma(load(grad + i), load(a.scale + i), load(a.bias + i));
      return fma(load(x + i) - load(a.mean + i), load(a.slope + i), straight);
    });
  }
}

constexpr ChannelUkernels kChannelUkernels = {row_sum,       row_moments, row_dots,       row_affine,
                                              row_grad,      column_sums, column_moments, column_dots,
                                              column_affine, column_grad};

}  // namespace
}  // namespace cnnext
