// Where arguments are judged and shapes computed. Each make_*_desc throws an Error that names the argument,
// its value and the rule; what it returns is complete but for the tensors' data, which the ABI function fills
// in from Call (dense views, staged outputs).
#pragma once

#include "core/call.h"

namespace cnnext {

// ---- shared by convolution and pooling ----

// "stride[0] is 0; it must be at least 1".
void check_at_least(int64_t value, int64_t low, const char* name, int index);
void check_in_range(int64_t value, int64_t low, int64_t high, const char* name);

// What messages call an axis. Literals: text is put together only when something is wrong.
struct AxisNames {
  const char *axis, *kernel, *padded, *output;
};
extern const AxisNames kHeightNames, kWidthNames;

// One axis of a sliding window, with the padding resolved.
struct WindowAxis {
  const AxisNames* names;
  int64_t size, kernel, stride, dilation, pad_begin, pad_end;
};

// dilation * (kernel - 1) + 1: how far apart the window's ends lie. Overflow is a ValueError.
int64_t effective_kernel(const WindowAxis& axis);
// size + pad_begin + pad_end, checked.
int64_t padded_size(const WindowAxis& axis);
// Fills in the padding for a cnnext_padding_mode; explicit padding must be at least 0.
void resolve_padding(int32_t mode, const int64_t* padding, WindowAxis* height, WindowAxis* width);
// How many windows fit (floor), at least 1: "the kernel's effective height 5 exceeds the padded height 4".
int64_t windows_that_fit(const WindowAxis& axis);

// (C,H,W) as (1,C,H,W); 4-D as it is.
inline Tensor batched(const Tensor& t) { return t.ndim == 3 ? with_batch_axis(t) : t; }
// A tensor that is about to be read has data, unless it is empty.
void check_has_data(const Tensor& t, const char* name);
// An operand in the form that descriptors promise: an image, weights (and which of the two orders), a vector.
Tensor read(Call& call, const Tensor& t, const char* name, Format format);
Tensor read_weight(Call& call, const Tensor& w, Format* w_format);
Tensor read_bias(Call& call, const Tensor& bias);
// The metadata of an output whose shape is an input (grad_x, grad_weight, max_unpool2d's y): its shape, with
// the dtype that it will have. In a dry run the caller has set ndim and shape alone.
Tensor output_shape(const Tensor* out, const char* name, int32_t dtype);
// Of two tensors of one call, which format both are brought to: the one that copies fewer elements.
Format common_format(const Tensor& a, const Tensor& b);
// The image shape (N,C,H,W), or (C,H,W) where the call is unbatched.
struct ImageShape {
  int ndim;
  int64_t dims[4];
};
ImageShape image_shape(bool is_batched, int64_t N, int64_t C, int64_t H, int64_t W);
Tensor shaped(const ImageShape& shape, int32_t dtype);  // metadata only, row-major

// ---- convolution ----

// x: the image side, (N,C,H,W) or (C,H,W); w: (K,C/groups,R,S). The names are what messages call them.
// Forward, backward-data (x is grad_x) and backward-weights (w is grad_weight) alike.
Conv2dDesc make_conv2d_desc(const cnnext_conv2d_params& params, const Tensor& x, const char* x_name,
                            const Tensor& w, const char* w_name);
// The same descriptor with the roles exchanged: x (N,K,P,Q) is the feature side, the result (N,C,H,W) the
// image side, w (K,C/groups,R,S) in torch's (C_in, C_out/groups, R, S).
// (P - 1) * stride + effective kernel + output_padding == H + pads. torch allows output_padding up to the
// larger of stride and dilation, so P may be less than the number of windows that fit. make_conv2d_desc takes
// output_padding off the image first: conv_transpose2d's gradients are conv2d calls with the same parameters.
Conv2dDesc make_conv_transpose2d_desc(const cnnext_conv2d_params& params, const Tensor& x, const Tensor& w);
// bias: (length), dtype and device as the weights'.
void check_bias(const Tensor& bias, int64_t length, const Tensor& w, const char* rule);
void check_activation(int32_t kind);
// N, H, W, P, Q stay 0 where input_shape is null.
Conv2dDesc make_pack_weight_desc(const cnnext_conv2d_params& params, const Tensor& w,
                                 const int64_t* input_shape);
// A packed weight serves the stride, padding, dilation and groups that it was packed for; activation and
// algorithm are free.
void check_packed_geometry(const cnnext_conv2d_params& params, const cnnext_packed_weight& w);

// ---- pooling ----

// x: the large side, (N,C,H,W) or (C,H,W). The element type is not judged here. Window indices' dtype follows
// from the kernel.
Pool2dDesc make_pool2d_desc(const cnnext_pool2d_params& params, const Tensor& x, const char* x_name);
// The same for a pooled side of any size: what max_unpool2d needs, where (P, Q) is the caller's.
Pool2dDesc make_unpool2d_desc(const cnnext_pool2d_params& params, const Tensor& y, const char* y_name,
                              const Tensor& x, const char* x_name);
// output_size: h, w; -1 keeps the input's.
Pool2dDesc make_adaptive_pool2d_desc(const int64_t* output_size, const Tensor& x, const char* x_name);
// What conv2d gives for x and w, pooled. Messages about the pool begin with "pool: ".
ConvPoolDesc make_conv_pool_desc(const cnnext_conv2d_params& conv, const cnnext_pool2d_params& pool,
                                 const Tensor& x, const Tensor& w);
// The dtype of a cnnext_index_kind's codes for a window of R x S taps.
int32_t index_dtype(int32_t kind, int64_t R, int64_t S);

}  // namespace cnnext
