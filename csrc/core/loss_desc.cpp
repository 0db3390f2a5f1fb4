// Cross-entropy over axis 1 of x, or over the only axis of an unbatched x, as torch has it.
#include <cmath>

#include "core/views.h"

namespace cnnext {
namespace {

void check_loss_params(const cnnext_cross_entropy_params* params) {
  check_params(params, sizeof(*params), "params");
  if (params->reduction < CNNEXT_REDUCTION_NONE || params->reduction > CNNEXT_REDUCTION_SUM) {
    fail_value("reduction is ", params->reduction, "; it must be 0 (none), 1 (mean) or 2 (sum)");
  }
  if (!(params->label_smoothing >= 0.0 && params->label_smoothing <= 1.0)) {
    fail_value("label_smoothing is ", params->label_smoothing, "; it must lie between 0 and 1");
  }
}

// x's shape without its class axis: the shape of class indices and of unreduced losses.
Tensor per_position(const Tensor& x, int32_t dtype) {
  Tensor t{};
  t.dtype = dtype;
  t.device_type = x.device_type;
  t.device_id = x.device_id;
  const int class_axis = x.ndim == 1 ? 0 : 1;
  for (int i = 0; i < x.ndim; ++i) {
    if (i != class_axis) t.shape[t.ndim++] = x.shape[i];
  }
  set_contiguous(&t);
  return t;
}

void check_target(const Tensor* target, const Tensor& x, const cnnext_cross_entropy_params& params) {
  check_input(target, "target");
  if (!is_integer(target->dtype)) {
    check_float(*target, "target");
    check_float_like(target, "target", x, "x");
    if (params.ignore_index >= 0) {
      fail_value("ignore_index is ", params.ignore_index,
                 "; it has no meaning for a target of class probabilities");
    }
    return;
  }
  const Tensor expected = per_position(x, target->dtype);
  if (same_shape(*target, expected)) return;
  if (same_shape(*target, x)) {
    fail_type("target has dtype ", dtype_name(target->dtype),
              " and x's shape; class probabilities must have a floating-point dtype");
  }
  fail_value("target has shape ", shape_string(*target), "; class indices for x of shape ", shape_string(x),
             " must have ", shape_string(expected));
}

CrossEntropyDesc make_cross_entropy_desc(const cnnext_cross_entropy_params& params, const Tensor& x,
                                         const Tensor& target) {
  const ChannelShape shape = channel_shape(x);
  CrossEntropyDesc d{};
  d.N = shape.N;
  d.C = shape.C;
  d.inner = shape.inner;
  d.format = shape.format;
  d.ignore_index = params.ignore_index;
  d.dtype = x.dtype;
  d.target_is_index = is_integer(target.dtype);
  d.reduction = params.reduction;
  d.label_smoothing = params.label_smoothing;
  d.x = d.target = d.weight = d.loss = d.grad_loss = d.grad_x = absent();
  return d;
}

template <class From>
void widen(const void* from, int64_t* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int64_t>(static_cast<const From*>(from)[i]);
}

// Class indices as row-major int64; on CUDA of the dtype that they have, which its kernels read.
Tensor index_target(Call& call, const Tensor& target) {
  Tensor t = call.contiguous(target);
  if (t.dtype == CNNEXT_INT64 || call.on_device()) return t;
  const int64_t count = numel(t);
  int64_t* to = call.exec().scratch_array<int64_t>(count);
  switch (t.dtype) {
    case CNNEXT_UINT8:
      widen<uint8_t>(t.data, to, count);
      break;
    case CNNEXT_INT8:
      widen<int8_t>(t.data, to, count);
      break;
    case CNNEXT_UINT16:
      widen<uint16_t>(t.data, to, count);
      break;
    case CNNEXT_INT16:
      widen<int16_t>(t.data, to, count);
      break;
    default:
      widen<int32_t>(t.data, to, count);
      break;
  }
  t.data = to;
  t.dtype = CNNEXT_INT64;
  return t;
}

void check_classes(const Tensor& target, int64_t C, int64_t ignore_index) {
  const int64_t* values = static_cast<const int64_t*>(target.data);
  const int64_t count = numel(target);
  for (int64_t i = 0; i < count; ++i) {
    if ((values[i] < 0 || values[i] >= C) && values[i] != ignore_index) {
      fail_value("target holds ", values[i], " (element ", i, "); class indices must lie between 0 and ",
                 C - 1, ", or equal ignore_index (", ignore_index, ")");
    }
  }
}

void set_inputs(Call& call, CrossEntropyDesc* d, const Tensor& x, const Tensor& target,
                const Tensor* weight) {
  d->x = channel_input(call, x, d->format);
  if (d->target_is_index) {
    d->target = index_target(call, target);
    if (target.device_type == CNNEXT_CPU) check_classes(d->target, d->C, d->ignore_index);
  } else {
    d->target = channel_input(call, target, d->format);
  }
  if (weight) d->weight = call.contiguous(*weight);
  call.avoid(d->x);
  call.avoid(d->target);
  if (weight) call.avoid(d->weight);
}

void check_loss_inputs(const cnnext_cross_entropy_params* params, const Tensor* x, const Tensor* target,
                       const Tensor* weight) {
  check_loss_params(params);
  check_input(x, "x");
  check_float(*x, "x");
  check_ndim(*x, "x", 1, CNNEXT_MAX_NDIM);
  check_target(target, *x, *params);
  if (weight) {
    check_vector(weight, "weight", *x, x->shape[x->ndim == 1 ? 0 : 1], "one value for each class of x");
  }
}

// What the loss looks like: one value, or one for each position.
Tensor loss_like(const Tensor& x, int32_t reduction) {
  Tensor t = per_position(x, x.dtype);
  if (reduction != CNNEXT_REDUCTION_NONE) t.ndim = 0;
  return t;
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_cross_entropy(const cnnext_context* context,
                                              const cnnext_cross_entropy_params* params,
                                              const cnnext_tensor* x, const cnnext_tensor* target,
                                              const cnnext_tensor* weight, cnnext_tensor* loss) {
  return guard([&] {
    Call call(context, {{x, "x"}, {target, "target"}, {weight, "weight"}}, {{loss, "loss"}});
    check_loss_inputs(params, x, target, weight);
    const Tensor result = loss_like(*x, params->reduction);
    if (describe_output_like(loss, "loss", result) || numel(*loss) == 0) return;
    CrossEntropyDesc d = make_cross_entropy_desc(*params, *x, *target);
    set_inputs(call, &d, *x, *target, weight);
    d.loss = call.output(*loss, Format::kNCHW);
    CNNEXT_RUN(call, cross_entropy_forward, d);
  });
}

extern "C" cnnext_status cnnext_cross_entropy_backward(const cnnext_context* context,
                                                       const cnnext_cross_entropy_params* params,
                                                       const cnnext_tensor* grad_loss, const cnnext_tensor* x,
                                                       const cnnext_tensor* target,
                                                       const cnnext_tensor* weight, cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_loss, "grad_loss"}, {x, "x"}, {target, "target"}, {weight, "weight"}},
              {{grad_x, "grad_x"}});
    check_loss_inputs(params, x, target, weight);
    const Tensor result = loss_like(*x, params->reduction);
    check_float_like(grad_loss, "grad_loss", result, "the loss");
    if (describe_channel_output(grad_x, "grad_x", *x) || numel(*grad_x) == 0) return;
    CrossEntropyDesc d = make_cross_entropy_desc(*params, *x, *target);
    set_inputs(call, &d, *x, *target, weight);
    d.grad_loss = call.contiguous(*grad_loss);
    call.avoid(d.grad_loss);
    d.grad_x = channel_output(call, *grad_x, d.format);
    CNNEXT_RUN(call, cross_entropy_backward, d);
  });
}
