// Average pools over windows and adaptive ones, and their gradients by gather. One thread an output (NCHW),
// or the outputs of 16 bytes of channels (NHWC); where a window is large and the layout NCHW (global
// pooling), a warp an output.
#include "cuda/ops.cuh"
#include "cuda/pool.cuh"
#include "cuda/reduce.cuh"

namespace cnnext::cuda {
namespace {

// Both kinds of window, of one axis. first and step: where the taps lie.
struct AvgTaps {
  int64_t first, step, count, counted;
};
struct AvgAxis {
  WindowAxis window;
  bool adaptive, with_padding;

  CNNEXT_DEVICE AvgTaps taps(int64_t p) const {
    if (adaptive) {
      const Range all = AdaptiveAxis{window.size, window.windows}.elements(p);
      return {all.begin, 1, all.end - all.begin, all.end - all.begin};
    }
    const Range inside = window.taps(p);
    return {window.position(p, inside.begin), window.dilation.divisor(), inside.end - inside.begin,
            window.counted(p, with_padding)};
  }
  CNNEXT_DEVICE Range windows_over(int64_t i) const {
    return adaptive ? AdaptiveAxis{window.size, window.windows}.windows_over(i) : window.windows_over(i);
  }
  CNNEXT_DEVICE bool covers(int64_t p, int64_t i) const { return adaptive || window.tap_at(p, i) >= 0; }
};
struct AvgShape {
  AvgAxis rows, columns;
  int64_t divisor_override;

  AvgShape(const Pool2dDesc& d, bool adaptive)
      : rows{PoolShape(d).rows, adaptive, d.count_include_pad != 0},
        columns{PoolShape(d).columns, adaptive, d.count_include_pad != 0},
        divisor_override(d.divisor_override) {}
  // What an average is multiplied by; 0 where no tap counts.
  CNNEXT_DEVICE float share(const AvgTaps& row, const AvgTaps& column) const {
    if (divisor_override != 0) return 1 / static_cast<float>(divisor_override);
    const int64_t taps = row.counted * column.counted;
    return taps == 0 ? 0 : 1 / static_cast<float>(taps);
  }
};

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    avg_pool_forward(AvgShape s, Images<V, kNhwc> from, Images<V, kNhwc> to, const T* x, T* y) {
  for (int64_t item = first_item(); item < to.count(); item += item_step()) {
    const Pixel at = to.pixel(item);
    const AvgTaps rows = s.rows.taps(at.row), columns = s.columns.taps(at.column);
    const int64_t base = from.base(at);
    Vec<float, V> sum{};
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t t = 0; t < columns.count; ++t) {
        const int64_t offset =
            from.offset(base, rows.first + r * rows.step, columns.first + t * columns.step);
        const Vec<float, V> values = to_floats(load<V>(x + offset));
#pragma unroll
        for (int j = 0; j < V; ++j) sum[j] += values[j];
      }
    }
    const float share = s.share(rows, columns);
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] *= share;
    store(y + to.offset(to.base(at), at.row, at.column), from_floats<T>(sum));
  }
}

// A lane's part of a sum of `count` elements in a run: 16 bytes at a time where they are many and aligned.
template <class T>
CNNEXT_DEVICE float sum_of_run(const T* x, int64_t count) {
  constexpr int V = kWidest<T>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  float sum = 0;
  if (count < 32 * V) {
    for (int64_t i = lane; i < count; i += 32) sum += to_float(x[i]);
    return sum;
  }
  const bool wide = reinterpret_cast<uintptr_t>(x) % 16 == 0;  // either way in the same order
  for (int64_t k = lane * V; k < count; k += 32 * V) {
    if (wide && k + V <= count) {
      const Vec<float, V> values = to_floats(load<V>(x + k));
#pragma unroll
      for (int j = 0; j < V; ++j) sum += values[j];
    } else {
      for (int64_t j = k; j < least(k + V, count); ++j) sum += to_float(x[j]);
    }
  }
  return sum;
}

// The same of a window's taps, row by row.
template <class T>
CNNEXT_DEVICE float sum_of_taps(const T* x, int64_t width, const AvgTaps& rows, const AvgTaps& columns) {
  const int64_t first = rows.first * width + columns.first;
  if (columns.count == width && columns.step == 1 && rows.step == 1) {
    return sum_of_run(x + first, rows.count * width);
  }
  // 32 taps further in steps of rows and columns: one division for all of them.
  const auto wrap = static_cast<unsigned>(least(columns.count, 33));  // no lane and no step reaches more
  const unsigned row_step = 32 / wrap, column_step = 32 % wrap;
  int64_t r = threadIdx.x % 32 / wrap, t = threadIdx.x % 32 % wrap;
  float sum = 0;
  while (r < rows.count) {
    sum += to_float(x[first + r * rows.step * width + t * columns.step]);
    r += row_step, t += column_step;
    if (t >= columns.count) t -= columns.count, ++r;
  }
  return sum;
}

// NCHW: the lanes of a warp share a window's taps.
template <class T>
__global__ void __launch_bounds__(kBlock)
    avg_pool_forward_large(AvgShape s, Images<1, false> from, Images<1, false> to, const T* x, T* y) {
  for (int64_t item = first_item() / 32; item < to.count(); item += item_step() / 32) {
    const Pixel at = to.pixel(item);
    const AvgTaps rows = s.rows.taps(at.row), columns = s.columns.taps(at.column);
    const bool none = rows.count * columns.count == 0;
    float sum = none ? 0 : sum_of_taps(x + from.base(at), from.row_step(), rows, columns);
    sum = group_sum<32>(sum);
    if (threadIdx.x % 32 == 0) {
      y[to.offset(to.base(at), at.row, at.column)] = from_float<T>(sum * s.share(rows, columns));
    }
  }
}

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    avg_pool_backward(AvgShape s, Images<V, kNhwc> to, Images<V, kNhwc> from, T* grad_x, const T* grad_y) {
  for (int64_t item = first_item(); item < to.count(); item += item_step()) {
    const Pixel at = to.pixel(item);
    const int64_t base = from.base(at);
    const Range rows = s.rows.windows_over(at.row), columns = s.columns.windows_over(at.column);
    Vec<float, V> sum{};
    for (int64_t p = rows.begin; p < rows.end; ++p) {
      if (!s.rows.covers(p, at.row)) continue;
      const AvgTaps row = s.rows.taps(p);
      for (int64_t q = columns.begin; q < columns.end; ++q) {
        if (!s.columns.covers(q, at.column)) continue;
        const float share = s.share(row, s.columns.taps(q));
        const Vec<float, V> grad = to_floats(load<V>(grad_y + from.offset(base, p, q)));
#pragma unroll
        for (int j = 0; j < V; ++j) sum[j] += grad[j] * share;
      }
    }
    store(grad_x + to.offset(to.base(at), at.row, at.column), from_floats<T>(sum));
  }
}

// Taps of the largest window, roughly.
int64_t window_size(const Pool2dDesc& d, bool adaptive) {
  if (adaptive) return ceil_div(d.H, d.P) * ceil_div(d.W, d.Q);
  return least(d.R, d.H) * least(d.S, d.W);
}

Ran forward(const Pool2dDesc& d, Exec& exec, const char* name, const char* kernel, bool adaptive) {
  const Op op{name, exec, d.x};
  const AvgShape shape(d, adaptive);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T* x = data<const T>(d.x);
    T* y = data<T>(d.y);
    dispatch_images<T>(d, {x, y}, [&](auto v, auto nhwc) {
      constexpr int V = decltype(v)::value;
      constexpr bool kNhwc = decltype(nhwc)::value;
      const Images<V, kNhwc> from(d.N, d.C, d.H, d.W), to(d.N, d.C, d.P, d.Q);
      if constexpr (!kNhwc) {
        if (window_size(d, adaptive) >= 32) {
          launch_flat(op, avg_pool_forward_large<T>, blocks_for(to.count() * 32, kBlock), shape, from, to, x,
                      y);
          return;
        }
      }
      launch_flat(op, avg_pool_forward<T, V, kNhwc>, blocks_for(to.count(), kBlock), shape, from, to, x, y);
    });
  });
  return known ? op.done(kernel) : Ran::kUnsupported;
}

Ran backward(const Pool2dDesc& d, Exec& exec, const char* name, const char* kernel, bool adaptive) {
  const Op op{name, exec, d.x};
  const AvgShape shape(d, adaptive);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    dispatch_images<T>(d, {d.x.data, d.y.data}, [&](auto v, auto nhwc) {
      constexpr int V = decltype(v)::value;
      constexpr bool kNhwc = decltype(nhwc)::value;
      const Images<V, kNhwc> to(d.N, d.C, d.H, d.W), from(d.N, d.C, d.P, d.Q);
      launch_flat(op, avg_pool_backward<T, V, kNhwc>, blocks_for(to.count(), kBlock), shape, to, from,
                  data<T>(d.x), data<const T>(d.y));
    });
  });
  return known ? op.done(kernel) : Ran::kUnsupported;
}

}  // namespace

Ran avg_pool2d_forward(const Pool2dDesc& d, Exec& exec) {
  return forward(d, exec, "avg_pool2d_forward", "cuda/avg_pool_forward", false);
}
Ran avg_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  return backward(d, exec, "avg_pool2d_backward", "cuda/avg_pool_backward", false);
}
Ran adaptive_avg_pool2d_forward(const Pool2dDesc& d, Exec& exec) {
  return forward(d, exec, "adaptive_avg_pool2d_forward", "cuda/adaptive_avg_pool_forward", true);
}
Ran adaptive_avg_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  return backward(d, exec, "adaptive_avg_pool2d_backward", "cuda/adaptive_avg_pool_backward", true);
}

}  // namespace cnnext::cuda
