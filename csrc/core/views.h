// What the element-wise, channel, norm, softmax and loss descriptors share: inputs and outputs of any rank,
// seen as one flat run or as (N, C, inner).
#pragma once

#include "core/call.h"

namespace cnnext {

// check_tensor, and data where there are elements.
void check_input(const Tensor* t, const char* name);
// check_input, a float dtype, and dtype, device and shape of `like`.
void check_float_like(const Tensor* t, const char* name, const Tensor& like, const char* like_name);
void check_any_float_like(const Tensor* t, const char* name, const Tensor& like, const char* like_name);
// A float vector of `length` with x's dtype and device; `rule` says what the length is.
void check_vector(const Tensor* t, const char* name, const Tensor& x, int64_t length, const char* rule);

// The axes from outermost to innermost in memory.
void memory_order(const Tensor& t, int* order);

// describe_output with the dtype, shape and order in memory of `like`.
bool describe_output_like(Tensor* out, const char* name, const Tensor& like);

// t where it is dense in some order of its axes, else a copy in format_of(t).
Tensor dense_any(Call& call, const Tensor& t);

// Writes `dense` back to `original`, of which it is a copy in another order; nothing where it is the
// original. For what an op updates in place (running statistics, parameters), which Call's staging does not
// read first.
void write_back(Call& call, const Tensor& dense, const Tensor& original);

// A tensor (N, C, ...) as N x C x inner values; ranks 1 (C), 2 (N, C) and up.
struct ChannelShape {
  int64_t N, C, inner;
  Format format;
};
ChannelShape channel_shape(const Tensor& t);
// describe_output for the result of a channel op: like's dtype and shape, C last in memory where like's is.
bool describe_channel_output(Tensor* out, const char* name, const Tensor& like);
// 4-D (N, C, 1, inner) or (N, C, H, W) views, dense in format.
Tensor channel_input(Call& call, const Tensor& t, Format format);
Tensor channel_output(Call& call, const Tensor& t, Format format);

// The optional argument t, or absent().
inline Tensor optional(const Tensor* t) { return t ? *t : absent(); }

}  // namespace cnnext
