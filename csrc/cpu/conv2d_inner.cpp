#include "cpu/conv2d_inner.h"

#include <algorithm>

#include "cpu/conv2d_k.h"

namespace cnnext {
namespace {

// Above so many rows, packing the weights is paid back.
constexpr int64_t kMaxRowsShort = 12, kMaxRowsLong = 48, kMaxRowsBackward = 8;
constexpr int64_t kMinLength = 32, kLongLength = 256;
constexpr int64_t kTaskFloats = 1 << 14;  // of weights
constexpr int64_t kChunkVectors = 128;    // of a sum: the rows of x stay in L1, rounding errors small
constexpr int64_t kMaxOutputs = 1024;     // of a backward task: its rows stay in L1

// y (rows, outputs) <- x (rows, length), w (outputs, length).
struct Shape {
  int64_t rows, outputs, length;
};

Shape shape_of(const Conv2dDesc& d) { return {d.N * d.P * d.Q, d.K, d.C * d.R * d.S}; }

// Whether x is a matrix of rows as they lie, and w too.
bool is_product(const Conv2dDesc& d) {
  if (d.dtype != CNNEXT_FLOAT32 || d.groups != 1 || d.variant == ConvVariant::kDirect) return false;
  if (d.pad_top || d.pad_bottom || d.pad_left || d.pad_right) return false;
  const bool pointwise = d.R == 1 && d.S == 1 && d.stride_h == 1 && d.stride_w == 1 &&
                         (d.format == Format::kNHWC || d.H * d.W == 1);
  const bool whole = d.R == d.H && d.S == d.W && (d.format == d.w_format || d.R * d.S == 1);
  return pointwise || whole;
}

// bias, residual and activation of outputs [k0, k1) of every row.
void finish(const Conv2dDesc& d, const Shape& s, int64_t k0, int64_t k1) {
  const float* bias = present(d.bias) ? static_cast<const float*>(d.bias.data) : nullptr;
  const float* residual = present(d.residual) ? static_cast<const float*>(d.residual.data) : nullptr;
  if (!bias && !residual && d.activation == CNNEXT_ACT_NONE) return;
  for (int64_t r = 0; r < s.rows; ++r) {
    float* y = static_cast<float*>(d.y.data) + r * s.outputs;
    for (int64_t k = k0; bias && k < k1; ++k) y[k] += bias[k];
    for (int64_t k = k0; residual && k < k1; ++k) y[k] += residual[r * s.outputs + k];
    if (d.activation != CNNEXT_ACT_NONE) {
      conv_activate(d.activation, static_cast<float>(d.activation_alpha), y + k0, k1 - k0);
    }
  }
}

}  // namespace

bool inner_product_supports_forward(const Conv2dDesc& d) {
  const Shape s = shape_of(d);
  return is_product(d) && s.length >= kMinLength &&
         s.rows <= (s.length >= kLongLength ? kMaxRowsLong : kMaxRowsShort);
}

bool inner_product_supports_backward_data(const Conv2dDesc& d) {
  const Shape s = shape_of(d);
  return is_product(d) && !present(d.bias) && s.length >= kMinLength && s.rows <= kMaxRowsBackward;
}

void inner_product_forward(const Conv2dDesc& d, Exec& exec) {
  const Shape s = shape_of(d);
  const int64_t each = std::max<int64_t>(4, kTaskFloats / s.length / 4 * 4);
  const int64_t tasks = (s.outputs + each - 1) / each;
  const auto* x = static_cast<const float*>(d.x.data);
  const auto* w = static_cast<const float*>(d.w.data);
  auto* y = static_cast<float*>(d.y.data);
  const int64_t chunk = kChunkVectors * ukernels().lanes;
  exec.ran(ukernels().inner_product.dot_name);
  exec.offers(ConvVariant::kDirect);
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t k0 = task * each, k1 = std::min(s.outputs, k0 + each);
    for (int64_t c = 0; c < s.length; c += chunk) {
      ukernels().inner_product.dot({x + c, s.length, s.rows, w + k0 * s.length + c, s.length, k1 - k0,
                                    std::min(chunk, s.length - c), y + k0, s.outputs, c > 0});
    }
    finish(d, s, k0, k1);
  });
}

void inner_product_backward_data(const Conv2dDesc& d, Exec& exec) {
  const Shape s = shape_of(d);
  // Long pieces of few rows of w, so that the prefetchers follow.
  const int64_t parts = std::clamp<int64_t>(s.outputs * s.length / kTaskFloats, 1, 8);
  const int64_t each = std::min((s.length / parts + 63) / 64 * 64, kMaxOutputs);
  const int64_t tasks = (s.length + each - 1) / each;
  const auto* y = static_cast<const float*>(d.y.data);
  const auto* w = static_cast<const float*>(d.w.data);
  auto* x = static_cast<float*>(d.x.data);
  exec.ran(ukernels().inner_product.axpy_name);
  exec.offers(ConvVariant::kDirect);
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t j = task * each;
    ukernels().inner_product.axpy(
        {y, s.outputs, s.rows, w + j, s.length, s.outputs, std::min(each, s.length - j), x + j, s.length});
  });
}

}  // namespace cnnext
