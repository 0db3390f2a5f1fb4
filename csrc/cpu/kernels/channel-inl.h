// See channel.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/channel.h"
#include "cpu/kernels/elementwise-inl.h"

namespace cnnext {
namespace {

// How many of a gate's bounds are looked at: none, 0, or 0 and 6.
template <int kBounds>
struct Bounds {
  static constexpr int kCount = kBounds;
};
template <class Body>
inline auto with_bounds(const Gate& gate, const Body& body) {
  return gate.y == nullptr ? body(Bounds<0>{}) : gate.six ? body(Bounds<2>{}) : body(Bounds<1>{});
}

// grad[at] where the gate lets it pass; at a NaN it does.
template <int kBounds, class Load>
inline Vec gated(const Load& load, const float* grad, const float* y, int64_t at) {
  Vec g = load(grad + at);
  if constexpr (kBounds > 0) {
    const Vec result = load(y + at);
    g = select(le(result, Vec::zero()), Vec::zero(), g);
    if constexpr (kBounds > 1) g = select(le(Vec::set1(6), result), Vec::zero(), g);
  }
  return g;
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

template <int kBounds>
inline Dots dots_of_run(const RunArgs& a, float mean) {
  const Vec shift = Vec::set1(mean);
  float sums[2];
  sum_run<2>(a, sums, [=, x = a.x, grad = a.grad, y = a.gate.y](int64_t i, int, auto load, Vec* s) {
    const Vec g = gated<kBounds>(load, grad, y, i);  // 0 in a tail's missing lanes
    s[0] = s[0] + g;
    s[1] = fma(g, load(x + i) - shift, s[1]);
  });
  return {sums[0], sums[1]};
}

Dots run_dots(const RunArgs& a, float mean) {
  return with_bounds(a.gate, [&](auto bounds) { return dots_of_run<decltype(bounds)::kCount>(a, mean); });
}

// Cuts a result to a range; the order of operands keeps a NaN.
struct Cut {
  Vec least, most;
  explicit Cut(const Range& range) : least(Vec::set1(range.least)), most(Vec::set1(range.most)) {}
  Vec operator()(Vec y) const { return min(most, max(least, y)); }
};

void run_affine(const RunArgs& a, float mean, float scale, float bias) {
  const Vec m = Vec::set1(mean), k = Vec::set1(scale), b = Vec::set1(bias);
  const Cut cut(a.range);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.step;
    run_flat(a.y + r * a.step, a.count, a.stream,
             [=](int64_t i, auto load) { return cut(fma(load(x + i) - m, k, b)); });
  }
  if (a.stream) stream_fence();
}

template <int kBounds>
inline void grad_of_run(const RunArgs& a, float mean, float scale, float slope, float bias) {
  const Vec m = Vec::set1(mean), k = Vec::set1(scale), l = Vec::set1(slope), b = Vec::set1(bias);
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t at = r * a.step;
    const float *x = a.x + at, *grad = a.grad + at, *y = a.gate.from(at).y;
    run_flat(a.y + at, a.count, a.stream, [=](int64_t i, auto load) {
      return fma(load(x + i) - m, l, fma(gated<kBounds>(load, grad, y, i), k, b));
    });
  }
  if (a.stream) stream_fence();
}

void run_grad(const RunArgs& a, float mean, float scale, float slope, float bias) {
  with_bounds(a.gate,
              [&](auto bounds) { grad_of_run<decltype(bounds)::kCount>(a, mean, scale, slope, bias); });
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

template <int kBounds>
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
        const Vec g = gated<kBounds>(load, a.grad, a.gate.y, at);
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

void column_dots(const ColumnArgs& a) {
  with_bounds(a.gate, [&](auto bounds) { dots_of_columns<decltype(bounds)::kCount>(a); });
}

void column_affine(const AffineColumns& a) {
  const Cut cut(a.range);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.columns;
    run_flat(a.y + r * a.columns, a.columns, a.stream, [&](int64_t i, auto load) {
      return cut(fma(load(x + i) - load(a.mean + i), load(a.scale + i), load(a.bias + i)));
    });
  }
  if (a.stream) stream_fence();
}

template <int kBounds>
inline void grad_of_columns(const GradColumns& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t at = r * a.columns;
    const float *x = a.x + at, *grad = a.grad + at, *y = a.gate.from(at).y;
    run_flat(a.y + at, a.columns, a.stream, [&](int64_t i, auto load) {
      const Vec g = gated<kBounds>(load, grad, y, i);
      const Vec straight = fma(g, load(a.scale + i), load(a.bias + i));
      return fma(load(x + i) - load(a.mean + i), load(a.slope + i), straight);
    });
  }
  if (a.stream) stream_fence();
}

void column_grad(const GradColumns& a) {
  with_bounds(a.gate, [&](auto bounds) { grad_of_columns<decltype(bounds)::kCount>(a); });
}

constexpr ChannelUkernels kChannelUkernels = {run_sum,       run_moments, run_dots,       run_affine,
                                              run_grad,      column_sums, column_moments, column_dots,
                                              column_affine, column_grad};

}  // namespace
}  // namespace cnnext
