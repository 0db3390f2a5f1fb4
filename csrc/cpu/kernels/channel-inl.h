// See channel.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/channel.h"
#include "cpu/kernels/elementwise-inl.h"

namespace cnnext {
namespace {

// grad where gate says so; NaN there lets it pass.
template <bool kGated, class Load>
inline Vec gated(const Load& load, const float* grad, const float* gate) {
  const Vec g = load(grad);
  return kGated ? select(le(load(gate), Vec::zero()), Vec::zero(), g) : g;
}

// ---- runs ----

// Four sums at a time hide the latency of an addition; short rows take turns. term(offset, lanes, load,
// sums).
template <int kSums, class Term>
inline void sum_run(const RunArgs& a, float* out, const Term& term) {
  constexpr int L = Vec::kLanes, kUnroll = 4;
  Vec sums[kUnroll][kSums];
  for (auto& group : sums)
    for (Vec& s : group) s = Vec::zero();
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t row = r * a.step;
    int64_t i = 0;
    for (; i + kUnroll * L <= a.count; i += kUnroll * L) {
#pragma GCC unroll 4
      for (int u = 0; u < kUnroll; ++u) term(row + i + u * L, L, LoadVector{}, sums[u]);
    }
    for (; i + L <= a.count; i += L) term(row + i, L, LoadVector{}, sums[r & 1]);
    if (i < a.count) {
      const int left = static_cast<int>(a.count - i);
      term(row + i, left, LoadTail{left}, sums[2 + (r & 1)]);
    }
  }
  for (int k = 0; k < kSums; ++k) {
    out[k] = reduce_add((sums[0][k] + sums[1][k]) + (sums[2][k] + sums[3][k]));
  }
}

float run_sum(const RunArgs& a) {
  float sum;
  sum_run<1>(a, &sum, [x = a.x](int64_t i, int, auto load, Vec* s) { s[0] = s[0] + load(x + i); });
  return sum;
}

Moments run_moments(const RunArgs& a) {
  const float mean = run_sum(a) / static_cast<float>(a.rows * a.count);
  const Vec shift = Vec::set1(mean);
  float shifts[Vec::kLanes], sums[2];
  shift.store(shifts);
  sum_run<2>(a, sums, [=, x = a.x, &shifts](int64_t i, int n, auto load, Vec* s) {
    // A tail's missing lanes are 0; so must be what is taken from them.
    const Vec v = load(x + i) - (n == Vec::kLanes ? shift : load(shifts));
    s[0] = s[0] + v;
    s[1] = fma(v, v, s[1]);
  });
  return {mean, sums[0], sums[1]};
}

template <bool kGated>
inline Dots dots_of_run(const RunArgs& a, float mean) {
  const Vec shift = Vec::set1(mean);
  float sums[2];
  sum_run<2>(a, sums, [=, x = a.x, grad = a.grad, gate = a.gate](int64_t i, int, auto load, Vec* s) {
    const Vec g = gated<kGated>(load, grad + i, gate + (kGated ? i : 0));  // 0 in a tail's missing lanes
    s[0] = s[0] + g;
    s[1] = fma(g, load(x + i) - shift, s[1]);
  });
  return {sums[0], sums[1]};
}

Dots run_dots(const RunArgs& a, float mean) {
  return a.gate ? dots_of_run<true>(a, mean) : dots_of_run<false>(a, mean);
}

// The least value of a result: max(least, y) keeps a NaN.
inline Vec least_of(bool relu) { return Vec::set1(relu ? 0.f : -__builtin_inff()); }

void run_affine(const RunArgs& a, float mean, float scale, float bias) {
  const Vec m = Vec::set1(mean), k = Vec::set1(scale), b = Vec::set1(bias), least = least_of(a.relu);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.step;
    run_flat(a.y + r * a.step, a.count, a.stream,
             [=](int64_t i, auto load) { return max(least, fma(load(x + i) - m, k, b)); });
  }
  if (a.stream) stream_fence();
}

template <bool kGated>
inline void grad_of_run(const RunArgs& a, float mean, float scale, float slope, float bias) {
  const Vec m = Vec::set1(mean), k = Vec::set1(scale), l = Vec::set1(slope), b = Vec::set1(bias);
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t at = r * a.step;
    const float *x = a.x + at, *grad = a.grad + at, *gate = a.gate + (kGated ? at : 0);
    run_flat(a.y + at, a.count, a.stream, [=](int64_t i, auto load) {
      return fma(load(x + i) - m, l, fma(gated<kGated>(load, grad + i, gate + (kGated ? i : 0)), k, b));
    });
  }
  if (a.stream) stream_fence();
}

void run_grad(const RunArgs& a, float mean, float scale, float slope, float bias) {
  a.gate ? grad_of_run<true>(a, mean, scale, slope, bias) : grad_of_run<false>(a, mean, scale, slope, bias);
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

template <bool kGated>
inline void dots_of_columns(const ColumnArgs& a) {
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
        const Vec g = gated<kGated>(load, a.grad + at, a.gate + (kGated ? at : 0));
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

void column_dots(const ColumnArgs& a) { a.gate ? dots_of_columns<true>(a) : dots_of_columns<false>(a); }

void column_affine(const AffineColumns& a) {
  const Vec least = least_of(a.relu);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.columns;
    run_flat(a.y + r * a.columns, a.columns, a.stream, [&](int64_t i, auto load) {
      return max(least, fma(load(x + i) - load(a.mean + i), load(a.scale + i), load(a.bias + i)));
    });
  }
  if (a.stream) stream_fence();
}

template <bool kGated>
inline void grad_of_columns(const GradColumns& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t at = r * a.columns;
    const float *x = a.x + at, *grad = a.grad + at, *gate = a.gate + (kGated ? at : 0);
    run_flat(a.y + at, a.columns, a.stream, [&](int64_t i, auto load) {
      const Vec g = gated<kGated>(load, grad + i, gate + (kGated ? i : 0));
      const Vec straight = fma(g, load(a.scale + i), load(a.bias + i));
      return fma(load(x + i) - load(a.mean + i), load(a.slope + i), straight);
    });
  }
  if (a.stream) stream_fence();
}

void column_grad(const GradColumns& a) { a.gate ? grad_of_columns<true>(a) : grad_of_columns<false>(a); }

constexpr ChannelUkernels kChannelUkernels = {run_sum,       run_moments, run_dots,       run_affine,
                                              run_grad,      column_sums, column_moments, column_dots,
                                              column_affine, column_grad};

}  // namespace
}  // namespace cnnext
