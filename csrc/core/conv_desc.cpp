#include <algorithm>
#include <string>

#include "core/make_desc.h"

namespace cnnext {
namespace {

struct ConvWindow {
  WindowAxis height, width;
};

void check_image(const Tensor& t, const char* name) {
  check_tensor(&t, name);
  check_ndim(t, name, 3, 4);
  check_any_float(t, name);
  static const char* const axes[] = {"height", "width"};
  for (int i = 0; i < 2; ++i) {
    if (t.shape[t.ndim - 2 + i] < 1) {
      fail_value(name, " has shape ", shape_string(t), "; its ", axes[i], " must be at least 1");
    }
  }
}

void check_weight(const Tensor& w, const char* name) {
  check_tensor(&w, name);
  check_ndim(w, name, 4, 4);
  check_any_float(w, name);
  if (w.shape[0] < 1 || w.shape[2] < 1 || w.shape[3] < 1) {
    fail_value(name, " has shape ", shape_string(w), "; its axes 0, 2 and 3 must be at least 1");
  }
}

void check_conv_params(const cnnext_conv2d_params& params) {
  for (int i = 0; i < 2; ++i) check_at_least(params.stride[i], 1, "stride", i);
  for (int i = 0; i < 2; ++i) check_at_least(params.dilation[i], 1, "dilation", i);
  for (int i = 0; i < 2; ++i) {
    check_at_least(params.output_padding[i], 0, "output_padding", i);
    if (params.output_padding[i] >= std::max(params.stride[i], params.dilation[i]) &&
        params.output_padding[i] > 0) {
      fail_value("output_padding[", i, "] is ", params.output_padding[i],
                 "; it must be less than the stride ", params.stride[i], " or the dilation ",
                 params.dilation[i]);
    }
  }
  if (params.groups < 1) fail_value("groups is ", params.groups, "; it must be at least 1");
  check_activation(params.activation);
  if (params.algorithm != CNNEXT_ALGO_AUTO && params.algorithm != CNNEXT_ALGO_DIRECT) {
    fail_value("algorithm is ", params.algorithm, "; it must be 0 (auto) or 1 (direct)");
  }
}

void check_out_channels(int64_t K, int64_t groups, const char* w_name) {
  if (K % groups != 0) {
    fail_value(w_name, " has ", K, " channels on axis 0, which groups ", groups, " does not divide");
  }
}

ConvWindow window_of(const cnnext_conv2d_params& params, const Tensor& w, int64_t H, int64_t W) {
  ConvWindow window;
  window.height = {&kHeightNames, H, w.shape[2], params.stride[0], params.dilation[0], 0, 0};
  window.width = {&kWidthNames, W, w.shape[3], params.stride[1], params.dilation[1], 0, 0};
  resolve_padding(params.padding_mode, params.padding, &window.height, &window.width);
  return window;
}

// What every convolution's descriptor takes from the parameters and the weights.
Conv2dDesc start_desc(const cnnext_conv2d_params& params, const Tensor& w, const ConvWindow& window) {
  Conv2dDesc desc{};
  desc.K = w.shape[0];
  desc.C = checked_mul(w.shape[1], params.groups, "weight's channels times groups");
  desc.H = window.height.size;
  desc.W = window.width.size;
  desc.R = w.shape[2];
  desc.S = w.shape[3];
  desc.groups = params.groups;
  desc.stride_h = params.stride[0];
  desc.stride_w = params.stride[1];
  desc.dilation_h = params.dilation[0];
  desc.dilation_w = params.dilation[1];
  desc.pad_top = window.height.pad_begin;
  desc.pad_bottom = window.height.pad_end;
  desc.pad_left = window.width.pad_begin;
  desc.pad_right = window.width.pad_end;
  desc.dtype = w.dtype;
  desc.activation = params.activation;
  desc.algorithm = params.algorithm;
  desc.activation_alpha = params.activation_alpha;
  desc.x = desc.w = desc.y = desc.bias = desc.residual = absent();
  return desc;
}

// The rows at the end that conv_transpose2d's output_padding added hold the start of no window: seen from the
// image side, the image is that much shorter.
int64_t window_count(WindowAxis axis, int64_t output_padding) {
  axis.size -= output_padding;
  return windows_that_fit(axis);
}

// What P, Q and the padded image say about the rest. A stride between windows of which there is one, and a
// dilation between taps of which there is one, are 1: kernels are chosen by them. Every offset into the
// padded image fits 64 bits, so that below here index arithmetic need not be checked.
void finish_desc(Conv2dDesc* desc, const ConvWindow& window) {
  const char* what = "the padded image's number of elements";
  int64_t elements = checked_mul(std::max<int64_t>(desc->N, 1), std::max<int64_t>(desc->C, 1), what);
  elements = checked_mul(elements, padded_size(window.height), what);
  elements = checked_mul(elements, padded_size(window.width), what);
  checked_mul(elements, 8, what);
  if (desc->P == 1) desc->stride_h = 1;
  if (desc->Q == 1) desc->stride_w = 1;
  if (desc->R == 1) desc->dilation_h = 1;
  if (desc->S == 1) desc->dilation_w = 1;
}

int64_t transposed_size(const WindowAxis& axis, int64_t output_padding) {
  const char* what = axis.names->output;
  int64_t size = checked_mul(axis.size - 1, axis.stride, what);
  size = checked_add(size, effective_kernel(axis), what);
  size = checked_add(size, output_padding, what);
  size = checked_add(checked_add(size, -axis.pad_begin, what), -axis.pad_end, what);
  if (size < 1) {
    fail_value(what, " would be ", size, ": padding ", axis.pad_begin, " and ", axis.pad_end,
               " leave nothing of it; it must be at least 1");
  }
  return size;
}

}  // namespace

void check_activation(int32_t kind) {
  check_in_range(kind, CNNEXT_ACT_NONE, CNNEXT_ACT_TANH, "activation (a cnnext_activation)");
}

Conv2dDesc make_conv2d_desc(const cnnext_conv2d_params& params, const Tensor& x, const char* x_name,
                            const Tensor& w, const char* w_name) {
  check_image(x, x_name);
  check_weight(w, w_name);
  check_same_dtype(x, x_name, w, w_name);
  check_conv_params(params);
  check_out_channels(w.shape[0], params.groups, w_name);
  const Tensor image = batched(x);
  const ConvWindow window = window_of(params, w, image.shape[2], image.shape[3]);
  Conv2dDesc desc = start_desc(params, w, window);
  if (desc.C != image.shape[1]) {
    fail_value(w_name, " has ", w.shape[1], " input channels per group times groups ", params.groups, " = ",
               desc.C, ", but ", x_name, " has ", image.shape[1], " channels");
  }
  desc.N = image.shape[0];
  desc.P = window_count(window.height, params.output_padding[0]);
  desc.Q = window_count(window.width, params.output_padding[1]);
  desc.format = format_of(x);
  finish_desc(&desc, window);
  return desc;
}

Conv2dDesc make_conv_transpose2d_desc(const cnnext_conv2d_params& params, const Tensor& x, const Tensor& w) {
  check_image(x, "x");
  check_weight(w, "weight");
  check_same_dtype(x, "x", w, "weight");
  check_conv_params(params);
  check_out_channels(w.shape[0], params.groups, "weight");
  if (w.shape[1] < 1) {
    fail_value("weight has shape ", shape_string(w), "; its output channels per group must be at least 1");
  }
  if (params.padding_mode == CNNEXT_PAD_SAME) {
    fail_value("padding_mode is 1 (same); conv_transpose2d takes explicit padding or valid");
  }
  const Tensor image = batched(x);
  if (w.shape[0] != image.shape[1]) {
    fail_value("weight has ", w.shape[0], " input channels on axis 0, but x has ", image.shape[1],
               " channels");
  }
  ConvWindow window = window_of(params, w, image.shape[2], image.shape[3]);
  const int64_t H = transposed_size(window.height, params.output_padding[0]);
  const int64_t W = transposed_size(window.width, params.output_padding[1]);
  window.height.size = H;
  window.width.size = W;
  Conv2dDesc desc = start_desc(params, w, window);
  desc.N = image.shape[0];
  desc.P = image.shape[2];
  desc.Q = image.shape[3];
  desc.format = format_of(x);
  finish_desc(&desc, window);
  return desc;
}

void check_bias(const Tensor& bias, int64_t length, const Tensor& w, const char* rule) {
  check_tensor(&bias, "bias");
  check_same_dtype(w, "weight", bias, "bias");
  check_shape(bias, "bias", {length}, rule);
}

Conv2dDesc make_pack_weight_desc(const cnnext_conv2d_params& params, const Tensor& w,
                                 const int64_t* input_shape) {
  check_weight(w, "weight");
  check_conv_params(params);
  check_out_channels(w.shape[0], params.groups, "weight");
  if (input_shape) {
    Tensor x{};
    x.dtype = w.dtype;
    x.device_type = w.device_type;
    x.device_id = w.device_id;
    x.ndim = 4;
    std::copy(input_shape, input_shape + 4, x.shape);
    return make_conv2d_desc(params, x, "input_shape", w, "weight");
  }
  ConvWindow window{};
  if (params.padding_mode != CNNEXT_PAD_SAME) window = window_of(params, w, 0, 0);
  return start_desc(params, w, window);
}

}  // namespace cnnext
