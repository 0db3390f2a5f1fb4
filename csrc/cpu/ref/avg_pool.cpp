// Average pooling by its definition, over windows and adaptive, and their gradients.
#include "cpu/ref/avg_window.h"
#include "cpu/ref/ref.h"
#include "cpu/ref/rows.h"

namespace cnnext {
namespace {

template <class T>
void forward(const Pool2dDesc& d, Exec& exec, bool adaptive) {
  const T* x = static_cast<const T*>(d.x.data);
  T* y = static_cast<T*>(d.y.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  const AvgWindows windows{d, adaptive};
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
  const AvgWindows windows{d, adaptive};
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
