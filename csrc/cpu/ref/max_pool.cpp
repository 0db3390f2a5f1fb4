// Max-pool by its definition: the taps of a window in row-major order. The first of equal values stays; NaN
// beats every number, and the last NaN stays (torch's order on the CPU). Padding is not a tap.
#include <limits>

#include "core/pool_index.h"
#include "cpu/ref/ref.h"
#include "cpu/ref/rows.h"
#include "cpu/ref/window.h"

namespace cnnext {
namespace {

// The least value of a type: -inf, but for integers.
template <class T>
T lowest() {
  using Limits = std::numeric_limits<T>;
  if constexpr (Limits::is_integer) return Limits::lowest();
  return static_cast<T>(-std::numeric_limits<double>::infinity());
}

template <class T>
void forward(const Pool2dDesc& d, Exec& exec) {
  const T* x = static_cast<const T*>(d.x.data);
  T* y = static_cast<T*>(d.y.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  const bool window_codes = d.index_kind == CNNEXT_INDEX_WINDOW;
  for_each_item(exec, d.N * d.C * d.P, row_work(d), [&](int64_t i) {
    const int64_t n = i / (d.C * d.P), c = i / d.P % d.C, p = i % d.P;
    const WindowTaps rows = window_taps(p, d.stride_h, d.pad_top, d.dilation_h, d.R, d.H);
    for (int64_t q = 0; q < d.Q; ++q) {
      const WindowTaps columns = window_taps(q, d.stride_w, d.pad_left, d.dilation_w, d.S, d.W);
      T best = lowest<T>();
      int64_t code = kNoTap;
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        for (int64_t s = columns.begin; s < columns.end; ++s) {
          const int64_t h = rows.at(r), w = columns.at(s);
          const T value = x[n * xs.n + c * xs.c + h * xs.h + w * xs.w];
          if (code == kNoTap || value > best || value != value) {
            best = value;
            code = window_codes ? r * d.S + s : h * d.W + w;
          }
        }
      }
      y[n * ys.n + c * ys.c + p * ys.h + q * ys.w] = best;
      if (!present(d.indices)) continue;
      const ImageStrides is = image_strides(d.indices);
      store_index(d.indices.data, d.index_dtype, n * is.n + c * is.c + p * is.h + q * is.w, code);
    }
  });
}

}  // namespace

Ran ref_max_pool2d_forward(const Pool2dDesc& desc, Exec& exec) {
  switch (desc.dtype) {
    case CNNEXT_UINT8:
      forward<uint8_t>(desc, exec);
      break;
    case CNNEXT_INT8:
      forward<int8_t>(desc, exec);
      break;
    default:
      dispatch_any_float(desc.dtype, [&](auto t) { forward<decltype(t)>(desc, exec); });
  }
  exec.ran("ref/max_pool2d_forward");
  return Ran::kDone;
}

}  // namespace cnnext
