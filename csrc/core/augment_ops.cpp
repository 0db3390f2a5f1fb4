// The ABI functions that prepare images.
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "core/augment.h"
#include "core/views.h"

namespace cnnext {
namespace {

void check_dtype(const Tensor& t, const char* name, int32_t dtype) {
  if (t.dtype == dtype) return;
  fail_type(name, " has dtype ", dtype_name(t.dtype), "; it must be ", dtype_name(dtype));
}

void check_on_host(Call& call, const char* op) {
  if (call.on_device()) fail_not_implemented(op, " prepares images on the host; these are on a CUDA device");
  if (call.exec().planning()) fail_not_implemented(op, " has no plan");
}

// A row-major operand of that dtype; nullptr where it is not given.
template <class T>
const T* operand(Call& call, const Tensor* t) {
  return t ? static_cast<const T*>(call.contiguous(*t).data) : nullptr;
}

// Whether it is a dry run.
bool describe_host_output(Tensor* y, int ndim, const int64_t* shape,
                          std::initializer_list<const Tensor*> inputs) {
  if (describe_output(y, "y", CNNEXT_FLOAT32, ndim, shape, Format::kNCHW)) return true;
  if (!is_contiguous(*y)) fail_value("y's strides are not row-major; they must be");
  for (const Tensor* input : inputs) {
    if (input && numel(*y) > 0 && overlap(*input, *y)) {
      fail_value("y and an input share memory; they must lie apart");
    }
  }
  return false;
}

void check_color(const Tensor& color, const Tensor& x) {
  check_input(&color, "color");
  check_dtype(color, "color", CNNEXT_FLOAT32);
  const int64_t N = x.shape[0], C = x.shape[1];
  const bool is_matrix = color.ndim == 3 && color.shape[2] == C + 1 && C <= kMaxColorChannels;
  if (color.ndim == 3 && (color.shape[0] == 1 || color.shape[0] == N) && color.shape[1] == C &&
      (color.shape[2] == 2 || is_matrix)) {
    return;
  }
  fail_value("color has shape ", shape_string(color), "; for x of shape ", shape_string(x),
             " it must be (N or 1, C, 2), or (N or 1, C, C + 1) for C <= ", kMaxColorChannels);
}

void check_erase(const Tensor& erase, int64_t N) {
  check_input(&erase, "erase");
  check_dtype(erase, "erase", CNNEXT_INT64);
  if (erase.ndim == 3 && erase.shape[0] == N && erase.shape[2] == 4) return;
  fail_value("erase has shape ", shape_string(erase), "; it must be (", N, ", R, 4)");
}

void check_rectangles(const AugmentDesc& d) {
  const auto lies_in = [](int64_t begin, int64_t length, int64_t size) {
    return begin >= 0 && length >= 0 && begin <= size && length <= size - begin;
  };
  for (int64_t i = 0; i < d.N * d.rectangles; ++i) {
    const int64_t* r = d.erase + 4 * i;
    if (lies_in(r[0], r[2], d.P) && lies_in(r[1], r[3], d.Q)) continue;
    fail_value("erase[", i / d.rectangles, "] is ", r[2], "x", r[3], " at (", r[0], ", ", r[1],
               "); it must lie inside ", d.P, "x", d.Q);
  }
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_augment(const cnnext_context* context, const cnnext_augment_params* params,
                                        const cnnext_tensor* x, const cnnext_tensor* affine,
                                        const cnnext_tensor* color, const cnnext_tensor* erase,
                                        const cnnext_tensor* erase_value, cnnext_tensor* y) {
  return guard([&] {
    Call call(
        context,
        {{x, "x"}, {affine, "affine"}, {color, "color"}, {erase, "erase"}, {erase_value, "erase_value"}},
        {{y, "y"}});
    check_on_host(call, "augment");
    check_params(params, sizeof(*params), "params");
    check_input(x, "x");
    check_ndim(*x, "x", 4, 4);
    if (x->dtype != CNNEXT_UINT8 && x->dtype != CNNEXT_FLOAT32) {
      fail_type("x has dtype ", dtype_name(x->dtype), "; it must be uint8 or float32");
    }
    if (params->height < 0 || params->width < 0) {
      fail_value("height and width are ", params->height, " and ", params->width,
                 "; they must be at least 0");
    }
    if (!std::isfinite(params->scale)) fail_value("scale is ", params->scale, "; it must be finite");
    AugmentDesc d{};
    d.N = x->shape[0], d.C = x->shape[1], d.H = x->shape[2], d.W = x->shape[3];
    d.P = params->height ? params->height : d.H;
    d.Q = params->width ? params->width : d.W;
    const int64_t planes = checked_mul(d.N, d.C, "y");
    checked_mul(checked_mul(d.P, d.Q, "height * width"), std::max<int64_t>(planes, 1) * 4, "y");
    if (affine) {
      check_input(affine, "affine");
      check_dtype(*affine, "affine", CNNEXT_FLOAT64);
      check_shape(*affine, "affine", {d.N, 2, 3}, "a map for each image");
    } else if (d.P != d.H || d.Q != d.W) {
      fail_value("y's size is ", d.P, "x", d.Q, ", x's ", d.H, "x", d.W,
                 "; without affine they must be equal");
    }
    if (color) check_color(*color, *x);
    if (erase) check_erase(*erase, d.N);
    if (erase_value) {
      check_input(erase_value, "erase_value");
      check_dtype(*erase_value, "erase_value", CNNEXT_FLOAT32);
      check_shape(*erase_value, "erase_value", {d.C}, "a value for each channel");
    }
    const int64_t shape[] = {d.N, d.C, d.P, d.Q};
    if (describe_host_output(y, 4, shape, {x, affine, color, erase, erase_value}) || numel(*y) == 0) return;
    d.bytes = x->dtype == CNNEXT_UINT8;
    d.bilinear = params->bilinear;
    d.clamp = params->clamp;
    d.scale = static_cast<float>(params->scale);
    d.x = call.contiguous(*x).data;
    d.affine = operand<double>(call, affine);
    d.color = operand<float>(call, color);
    d.color_terms = color ? color->shape[2] : 0;
    d.color_stride = color && color->shape[0] > 1 ? d.C * d.color_terms : 0;
    d.erase = operand<int64_t>(call, erase);
    d.rectangles = erase ? erase->shape[1] : 0;
    d.erase_value = operand<float>(call, erase_value);
    d.y = static_cast<float*>(y->data);
    if (erase) check_rectangles(d);
    augment(d, call.exec());
  });
}

extern "C" cnnext_status cnnext_mix_images(const cnnext_context* context, const cnnext_tensor* x,
                                           const cnnext_tensor* partner, const cnnext_tensor* weight,
                                           cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {partner, "partner"}, {weight, "weight"}}, {{y, "y"}});
    check_on_host(call, "mix_images");
    check_input(x, "x");
    check_dtype(*x, "x", CNNEXT_FLOAT32);
    check_ndim(*x, "x", 1, CNNEXT_MAX_NDIM);
    check_input(partner, "partner");
    check_dtype(*partner, "partner", CNNEXT_INT64);
    check_shape(*partner, "partner", {x->shape[0]}, "one for each image");
    check_input(weight, "weight");
    check_dtype(*weight, "weight", CNNEXT_FLOAT32);
    check_shape(*weight, "weight", {x->shape[0]}, "one for each image");
    if (describe_host_output(y, x->ndim, x->shape, {x, partner, weight}) || numel(*y) == 0) return;
    MixDesc d{};
    d.N = x->shape[0];
    d.inner = numel(*x) / d.N;
    d.x = operand<float>(call, x);
    d.partner = operand<int64_t>(call, partner);
    d.weight = operand<float>(call, weight);
    d.y = static_cast<float*>(y->data);
    for (int64_t n = 0; n < d.N; ++n) {
      if (d.partner[n] >= 0 && d.partner[n] < d.N) continue;
      fail_value("partner[", n, "] is ", d.partner[n], "; it must lie between 0 and ", d.N - 1);
    }
    mix_images(d, call.exec());
  });
}
