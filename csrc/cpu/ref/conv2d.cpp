// Convolution by its definition, one row of outputs at a time: a row of double accumulators, and for each tap
// one pass along it. Taps that lie in the padding are never touched, so they contribute nothing, whatever the
// weight.
#include "cpu/ref/activation.h"
#include "cpu/ref/ref.h"
#include "cpu/ref/rows.h"
#include "cpu/ref/window.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;

template <class T>
struct ConvViews {
  T *x, *w, *y;
  ImageStrides xs, ws, ys;
  int64_t group_c, group_k;  // channels of a group on either side

  explicit ConvViews(const Conv2dDesc& d)
      : x(static_cast<T*>(d.x.data)),
        w(static_cast<T*>(d.w.data)),
        y(static_cast<T*>(d.y.data)),
        xs(image_strides(d.x)),
        ws(image_strides(d.w)),
        ys(image_strides(d.y)),
        group_c(d.C / d.groups),
        group_k(d.K / d.groups) {}
};

template <class T>
void forward(const Conv2dDesc& d, Exec& exec) {
  const ConvViews<T> v(d);
  const T* bias = static_cast<const T*>(d.bias.data);
  const T* residual = static_cast<const T*>(d.residual.data);
  for_each_sum(exec, d.N * d.K * d.P, v.group_c * d.R * d.S * d.Q, d.Q, kTasks, [&](int64_t i, double* row) {
    const int64_t n = i / (d.K * d.P), k = i / d.P % d.K, p = i % d.P;
    const int64_t c0 = k / v.group_k * v.group_c;
    for (int64_t c = 0; c < v.group_c; ++c) {
      for (int64_t r = 0; r < d.R; ++r) {
        const int64_t h = p * d.stride_h + r * d.dilation_h - d.pad_top;
        if (h < 0 || h >= d.H) continue;
        for (int64_t s = 0; s < d.S; ++s) {
          const int64_t offset = s * d.dilation_w - d.pad_left;
          const TapRange q = positions_inside(offset, d.stride_w, d.W, d.Q);
          const double weight = v.w[k * v.ws.n + c * v.ws.c + r * v.ws.h + s * v.ws.w];
          const int64_t base = n * v.xs.n + (c0 + c) * v.xs.c + h * v.xs.h + offset * v.xs.w;
          const int64_t step = d.stride_w * v.xs.w;
          for (int64_t j = q.begin; j < q.end; ++j) row[j] += weight * v.x[base + j * step];
        }
      }
    }
    const int64_t base = n * v.ys.n + k * v.ys.c + p * v.ys.h;
    for (int64_t j = 0; j < d.Q; ++j) {
      const int64_t at = base + j * v.ys.w;
      if (bias) row[j] += bias[k];
      if (residual) row[j] += residual[at];
      v.y[at] = static_cast<T>(ref_activate(d.activation, d.activation_alpha, row[j]));
    }
  });
}

template <class T>
void backward_data(const Conv2dDesc& d, Exec& exec) {
  const ConvViews<T> v(d);
  const T* bias = static_cast<const T*>(d.bias.data);
  for_each_sum(exec, d.N * d.C * d.H, v.group_k * d.R * d.S * d.Q, d.W, kTasks, [&](int64_t i, double* row) {
    const int64_t n = i / (d.C * d.H), c = i / d.H % d.C, h = i % d.H;
    const int64_t group = c / v.group_c;
    for (int64_t k = group * v.group_k; k < (group + 1) * v.group_k; ++k) {
      for (int64_t r = 0; r < d.R; ++r) {
        const int64_t scaled = h + d.pad_top - r * d.dilation_h;  // p * stride_h
        if (scaled < 0 || scaled % d.stride_h != 0 || scaled / d.stride_h >= d.P) continue;
        const int64_t p = scaled / d.stride_h;
        for (int64_t s = 0; s < d.S; ++s) {
          const int64_t offset = s * d.dilation_w - d.pad_left;
          const TapRange q = positions_inside(offset, d.stride_w, d.W, d.Q);
          const double weight = v.w[k * v.ws.n + c % v.group_c * v.ws.c + r * v.ws.h + s * v.ws.w];
          const T* y = v.y + n * v.ys.n + k * v.ys.c + p * v.ys.h;
          for (int64_t j = q.begin; j < q.end; ++j) row[j * d.stride_w + offset] += weight * y[j * v.ys.w];
        }
      }
    }
    T* x = v.x + n * v.xs.n + c * v.xs.c + h * v.xs.h;
    for (int64_t j = 0; j < d.W; ++j) x[j * v.xs.w] = static_cast<T>(bias ? row[j] + bias[c] : row[j]);
  });
}

template <class T>
void backward_weights(const Conv2dDesc& d, Exec& exec) {
  const ConvViews<T> v(d);
  for_each_sum(exec, d.K * v.group_c * d.R * d.S, d.N * d.P * d.Q, d.Q, kTasks, [&](int64_t i, double* row) {
    const int64_t k = i / (v.group_c * d.R * d.S), c = i / (d.R * d.S) % v.group_c;
    const int64_t r = i / d.S % d.R, s = i % d.S;
    const int64_t image_c = k / v.group_k * v.group_c + c;
    const int64_t offset = s * d.dilation_w - d.pad_left;
    const TapRange q = positions_inside(offset, d.stride_w, d.W, d.Q);
    for (int64_t n = 0; n < d.N; ++n) {
      for (int64_t p = 0; p < d.P; ++p) {
        const int64_t h = p * d.stride_h + r * d.dilation_h - d.pad_top;
        if (h < 0 || h >= d.H) continue;
        const int64_t base = n * v.xs.n + image_c * v.xs.c + h * v.xs.h + offset * v.xs.w;
        const T* y = v.y + n * v.ys.n + k * v.ys.c + p * v.ys.h;
        const int64_t step = d.stride_w * v.xs.w;
        for (int64_t j = q.begin; j < q.end; ++j) {
          row[j] += static_cast<double>(y[j * v.ys.w]) * static_cast<double>(v.x[base + j * step]);
        }
      }
    }
    double sum = 0;
    for (int64_t j = q.begin; j < q.end; ++j) sum += row[j];
    v.w[k * v.ws.n + c * v.ws.c + r * v.ws.h + s * v.ws.w] = static_cast<T>(sum);
  });
}

}  // namespace

Ran ref_conv2d_forward(const Conv2dDesc& desc, Exec& exec) {
  dispatch_any_float(desc.dtype, [&](auto t) { forward<decltype(t)>(desc, exec); });
  exec.ran("ref/conv2d_forward");
  return Ran::kDone;
}

Ran ref_conv2d_backward_data(const Conv2dDesc& desc, Exec& exec) {
  dispatch_any_float(desc.dtype, [&](auto t) { backward_data<decltype(t)>(desc, exec); });
  exec.ran("ref/conv2d_backward_data");
  return Ran::kDone;
}

Ran ref_conv2d_backward_weights(const Conv2dDesc& desc, Exec& exec) {
  dispatch_any_float(desc.dtype, [&](auto t) { backward_weights<decltype(t)>(desc, exec); });
  exec.ran("ref/conv2d_backward_weights");
  return Ran::kDone;
}

}  // namespace cnnext
