// Average pooling by its definition, over windows and adaptive, and their gradients.
#include "cpu/ref/ref.h"
#include "cpu/ref/rows.h"
#include "cpu/ref/window.h"

namespace cnnext {
namespace {

// One window along one axis: the taps in the image, and how many count towards the divisor.
struct AvgTaps {
  WindowTaps taps;
  int64_t counted;
};

// Where padding counts, so do the taps in the padding, but not those that ceil_mode lets reach beyond it.
AvgTaps window_along(int64_t p, int64_t stride, int64_t pad_begin, int64_t pad_end, int64_t dilation,
                     int64_t kernel, int64_t size, bool count_include_pad) {
  const WindowTaps taps = window_taps(p, stride, pad_begin, dilation, kernel, size);
  if (!count_include_pad) return {taps, taps.end - taps.begin};
  const int64_t padded = pad_begin + size + pad_end;
  return {taps, positions_inside(p * stride, dilation, padded, kernel).end};
}

// torch's: from floor(p * size / count) up to ceil((p + 1) * size / count).
AvgTaps adaptive_along(int64_t p, int64_t count, int64_t size) {
  const int64_t begin = p * size / count, end = ((p + 1) * size + count - 1) / count;
  return {{begin, 1, 0, end - begin}, end - begin};
}

struct Windows {
  const Pool2dDesc& d;
  bool adaptive;

  AvgTaps row(int64_t p) const {
    if (adaptive) return adaptive_along(p, d.P, d.H);
    return window_along(p, d.stride_h, d.pad_top, d.pad_bottom, d.dilation_h, d.R, d.H, d.count_include_pad);
  }
  AvgTaps column(int64_t q) const {
    if (adaptive) return adaptive_along(q, d.Q, d.W);
    return window_along(q, d.stride_w, d.pad_left, d.pad_right, d.dilation_w, d.S, d.W, d.count_include_pad);
  }
  // 0 where no tap counts: such a window has no tap in the image either, and its average is 0.
  double divisor(const AvgTaps& row, const AvgTaps& column) const {
    if (d.divisor_override != 0) return static_cast<double>(d.divisor_override);
    return static_cast<double>(row.counted) * static_cast<double>(column.counted);
  }
};

template <class T>
void forward(const Pool2dDesc& d, Exec& exec, bool adaptive) {
  const T* x = static_cast<const T*>(d.x.data);
  T* y = static_cast<T*>(d.y.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  const Windows windows{d, adaptive};
  for_each_item(exec, d.N * d.C * d.P, adaptive ? d.H * d.W : row_work(d), [&](int64_t i) {
    const int64_t n = i / (d.C * d.P), c = i / d.P % d.C, p = i % d.P;
    const AvgTaps row = windows.row(p);
    for (int64_t q = 0; q < d.Q; ++q) {
      const AvgTaps column = windows.column(q);
      double sum = 0;
      for (int64_t r = row.taps.begin; r < row.taps.end; ++r) {
        const int64_t base = n * xs.n + c * xs.c + row.taps.at(r) * xs.h;
        for (int64_t s = column.taps.begin; s < column.taps.end; ++s) {
          sum += x[base + column.taps.at(s) * xs.w];
        }
      }
      const double divisor = windows.divisor(row, column);
      y[n * ys.n + c * ys.c + p * ys.h + q * ys.w] = static_cast<T>(divisor != 0 ? sum / divisor : 0);
    }
  });
}

template <class T>
void backward(const Pool2dDesc& d, Exec& exec, bool adaptive) {
  const T* y = static_cast<const T*>(d.y.data);
  T* x = static_cast<T*>(d.x.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  const Windows windows{d, adaptive};
  for_each_sum(exec, d.N * d.C, d.H * d.W, d.H * d.W, exec.num_threads(), [&](int64_t i, double* sums) {
    const int64_t n = i / d.C, c = i % d.C;
    for (int64_t p = 0; p < d.P; ++p) {
      const AvgTaps row = windows.row(p);
      for (int64_t q = 0; q < d.Q; ++q) {
        const AvgTaps column = windows.column(q);
        const double divisor = windows.divisor(row, column);
        if (divisor == 0) continue;
        const double share = y[n * ys.n + c * ys.c + p * ys.h + q * ys.w] / divisor;
        for (int64_t r = row.taps.begin; r < row.taps.end; ++r) {
          for (int64_t s = column.taps.begin; s < column.taps.end; ++s) {
            sums[row.taps.at(r) * d.W + column.taps.at(s)] += share;
          }
        }
      }
    }
    for (int64_t j = 0; j < d.H * d.W; ++j) {
      x[n * xs.n + c * xs.c + j / d.W * xs.h + j % d.W * xs.w] = static_cast<T>(sums[j]);
    }
  });
}

}  // namespace

Ran ref_avg_pool2d_forward(const Pool2dDesc& desc, Exec& exec) {
  dispatch_float(desc.dtype, [&](auto t) { forward<decltype(t)>(desc, exec, false); });
  exec.ran("ref/avg_pool2d_forward");
  return Ran::kDone;
}

Ran ref_avg_pool2d_backward(const Pool2dDesc& desc, Exec& exec) {
  dispatch_float(desc.dtype, [&](auto t) { backward<decltype(t)>(desc, exec, false); });
  exec.ran("ref/avg_pool2d_backward");
  return Ran::kDone;
}

Ran ref_adaptive_avg_pool2d_forward(const Pool2dDesc& desc, Exec& exec) {
  dispatch_float(desc.dtype, [&](auto t) { forward<decltype(t)>(desc, exec, true); });
  exec.ran("ref/adaptive_avg_pool2d_forward");
  return Ran::kDone;
}

Ran ref_adaptive_avg_pool2d_backward(const Pool2dDesc& desc, Exec& exec) {
  dispatch_float(desc.dtype, [&](auto t) { backward<decltype(t)>(desc, exec, true); });
  exec.ran("ref/adaptive_avg_pool2d_backward");
  return Ran::kDone;
}

}  // namespace cnnext
