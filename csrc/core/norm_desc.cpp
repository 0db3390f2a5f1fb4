// Batch normalisation as torch has it: the biased variance normalises, the unbiased one goes into
// running_var; beside 16-bit x the saved statistics are float32, and the other vectors may be.
#include "core/norm_desc.h"

#include <cmath>

namespace cnnext {

void check_batch_norm_params(const cnnext_batch_norm_params* params) {
  check_params(params, sizeof(*params), "params");
  if (!std::isfinite(params->eps) || params->eps < 0.0) {
    fail_value("eps is ", params->eps, "; it must be finite and positive");
  }
  if (params->training && params->eps == 0.0) fail_value("eps is 0; it must be positive in training");
  const int32_t activation = params->activation;
  if (activation != CNNEXT_ACT_NONE && activation != CNNEXT_ACT_RELU && activation != CNNEXT_ACT_RELU6) {
    fail_value("activation is ", activation, "; batch norm's must be none (0), ReLU (1) or ReLU6 (2)");
  }
  if (std::isnan(params->momentum)) fail_value("momentum is nan; it must be a number");
}

BatchNormDesc make_batch_norm_desc(const cnnext_batch_norm_params& params, const Tensor& x,
                                   const ChannelShape& shape) {
  if (params.training && shape.N * shape.inner == 1) {
    fail_value("Expected more than 1 value per channel when training, but x has shape ", shape_string(x));
  }
  BatchNormDesc d{};
  d.N = shape.N;
  d.C = shape.C;
  d.inner = shape.inner;
  d.format = shape.format;
  d.dtype = x.dtype;
  d.training = params.training != 0;
  d.activation = params.activation;
  d.eps = params.eps;
  d.momentum = params.momentum;
  d.x = d.weight = d.bias = d.running_mean = d.running_var = d.y = d.save_mean = d.save_invstd = absent();
  d.grad_y = d.grad_x = d.grad_weight = d.grad_bias = absent();
  return d;
}

namespace {

// (N, C, ...); torch also lets an empty vector pass, as no channels.
ChannelShape batch_norm_shape(const Tensor& x, const char* name) {
  if (x.ndim == 1 && x.shape[0] == 0) return {0, 0, 1, Format::kNHWC};
  check_ndim(x, name, 2, CNNEXT_MAX_NDIM);
  return channel_shape(x);
}

constexpr char kPerChannel[] = "one value for each channel (axis 1 of x)";

void check_parameter(const Tensor* t, const char* name, const Tensor& x, int64_t C) {
  check_input(t, name);
  check_float(*t, name);
  if (!is_half(x.dtype)) {
    check_same_dtype(x, "x", *t, name);
  } else if (t->dtype != x.dtype && t->dtype != CNNEXT_FLOAT32) {
    fail_type(name, " has dtype ", dtype_name(t->dtype), ", but x has ", dtype_name(x.dtype), "; it must be ",
              dtype_name(x.dtype), " or float32");
  }
  check_shape(*t, name, {C}, kPerChannel);
}

int32_t dtype_of_statistics(int32_t dtype) { return is_half(dtype) ? CNNEXT_FLOAT32 : dtype; }

void check_statistics(const Tensor* t, const char* name, const Tensor& x, int64_t C) {
  check_parameter(t, name, x, C);
  const int32_t wanted = dtype_of_statistics(x.dtype);
  if (t->dtype != wanted) {
    fail_type(name, " has dtype ", dtype_name(t->dtype), "; beside ", dtype_name(x.dtype), " x it must be ",
              dtype_name(wanted), ", as the forward saves it");
  }
}

// The running statistics that training updates: writable, and apart from everything else.
void check_running(Tensor* t, const char* name, const Tensor& x, int64_t C, bool training) {
  check_parameter(t, name, x, C);
  if (!training || C == 0) return;
  describe_output(t, name, t->dtype, 1, &C, Format::kNCHW);
  if (overlap(*t, x)) fail_value(name, " shares memory with x; training updates it");
}

void check_running_stats(const cnnext_batch_norm_params& params, const Tensor& x, int64_t C, Tensor* mean,
                         Tensor* var) {
  if (!params.training && !(mean && var)) {
    fail_value(mean ? "running_var" : "running_mean",
               " is missing; both running statistics are needed when training is off");
  }
  if (!mean != !var) {
    fail_value(mean ? "running_var" : "running_mean",
               " is missing; running_mean and running_var must both be given or both be left out");
  }
  if (!mean) return;
  check_running(mean, "running_mean", x, C, params.training);
  check_running(var, "running_var", x, C, params.training);
  if (params.training && overlap(*mean, *var)) fail_value("running_mean and running_var share memory");
}

Tensor optional_vector(Call& call, const Tensor* t) {
  if (!t) return absent();
  const Tensor v = call.contiguous(*t);
  call.avoid(v);
  return v;
}

bool describe_optional(Tensor* out, const char* name, int32_t dtype, int64_t C) {
  return out && describe_output(out, name, dtype, 1, &C, Format::kNCHW);
}

Tensor optional_output(Call& call, const Tensor* t) { return t ? call.output(*t, Format::kNCHW) : absent(); }

}  // namespace

void check_batch_norm_vectors(const cnnext_batch_norm_params& params, const Tensor& x, int64_t C,
                              const BatchNormVectors& v) {
  if (v.weight) check_parameter(v.weight, "weight", x, C);
  if (v.bias) check_parameter(v.bias, "bias", x, C);
  if (v.weight && v.bias) check_same_dtype(*v.weight, "weight", *v.bias, "bias");
  check_running_stats(params, x, C, v.running_mean, v.running_var);
}

bool describe_saved_statistics(const BatchNormVectors& v, int32_t dtype, int64_t C) {
  const int32_t saved = dtype_of_statistics(dtype);
  const bool dry = describe_optional(v.save_mean, "save_mean", saved, C);
  return describe_optional(v.save_invstd, "save_invstd", saved, C) || dry;
}

void read_batch_norm_vectors(Call& call, const BatchNormVectors& v, BatchNormDesc* d) {
  d->weight = optional_vector(call, v.weight);
  d->bias = optional_vector(call, v.bias);
  d->running_mean = optional_vector(call, v.running_mean);
  d->running_var = optional_vector(call, v.running_var);
  d->save_mean = optional_output(call, v.save_mean);
  d->save_invstd = optional_output(call, v.save_invstd);
}

void write_back_running_statistics(Call& call, const BatchNormDesc& d, const BatchNormVectors& v) {
  if (!d.training || !v.running_mean || call.exec().planning()) return;
  write_back(call, d.running_mean, *v.running_mean);
  write_back(call, d.running_var, *v.running_var);
}

}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_batch_norm(const cnnext_context* context,
                                           const cnnext_batch_norm_params* params, const cnnext_tensor* x,
                                           const cnnext_tensor* weight, const cnnext_tensor* bias,
                                           cnnext_tensor* running_mean, cnnext_tensor* running_var,
                                           cnnext_tensor* y, cnnext_tensor* save_mean,
                                           cnnext_tensor* save_invstd) {
  return guard([&] {
    Call call(context,
              {{x, "x"},
               {weight, "weight"},
               {bias, "bias"},
               {running_mean, "running_mean"},
               {running_var, "running_var"}},
              {{y, "y"}, {save_mean, "save_mean"}, {save_invstd, "save_invstd"}});
    check_batch_norm_params(params);
    check_input(x, "x");
    check_float(*x, "x");
    const ChannelShape shape = batch_norm_shape(*x, "x");
    BatchNormDesc d = make_batch_norm_desc(*params, *x, shape);
    const BatchNormVectors vectors{weight, bias, running_mean, running_var, save_mean, save_invstd};
    check_batch_norm_vectors(*params, *x, d.C, vectors);
    bool dry = describe_channel_output(y, "y", *x);
    dry |= describe_saved_statistics(vectors, x->dtype, d.C);
    if (dry) return;

    d.x = channel_input(call, *x, d.format);
    call.avoid(d.x);
    read_batch_norm_vectors(call, vectors, &d);
    d.y = channel_output(call, *y, d.format);
    CNNEXT_RUN(call, batch_norm_forward, d);
    write_back_running_statistics(call, d, vectors);
  });
}

extern "C" cnnext_status cnnext_batch_norm_activation_backward(
    const cnnext_context* context, const cnnext_batch_norm_params* params, const cnnext_tensor* grad_y,
    const cnnext_tensor* x, const cnnext_tensor* y, const cnnext_tensor* weight,
    const cnnext_tensor* save_mean, const cnnext_tensor* save_invstd, cnnext_tensor* grad_x,
    cnnext_tensor* grad_weight, cnnext_tensor* grad_bias) {
  return guard([&] {
    Call call(context,
              {{grad_y, "grad_y"},
               {x, "x"},
               {y, "y"},
               {weight, "weight"},
               {save_mean, "save_mean"},
               {save_invstd, "save_invstd"}},
              {{grad_x, "grad_x"}, {grad_weight, "grad_weight"}, {grad_bias, "grad_bias"}});
    check_batch_norm_params(params);
    check_input(x, "x");
    check_float(*x, "x");
    check_float_like(grad_y, "grad_y", *x, "x");
    if (params->activation) check_float_like(y, "y", *x, "x");
    const ChannelShape shape = batch_norm_shape(*x, "x");
    BatchNormDesc d = make_batch_norm_desc(*params, *x, shape);
    if (weight) check_parameter(weight, "weight", *x, d.C);
    check_statistics(save_mean, "save_mean", *x, d.C);
    check_statistics(save_invstd, "save_invstd", *x, d.C);
    const int32_t parameters = weight ? weight->dtype : x->dtype;
    bool dry = grad_x && describe_channel_output(grad_x, "grad_x", *x);
    dry |= describe_optional(grad_weight, "grad_weight", parameters, d.C);
    dry |= describe_optional(grad_bias, "grad_bias", parameters, d.C);
    if (dry || !(grad_x || grad_weight || grad_bias)) return;

    d.x = channel_input(call, *x, d.format);
    call.avoid(d.x);
    d.grad_y = channel_input(call, *grad_y, d.format);
    call.avoid(d.grad_y);
    if (d.activation) {
      d.y = channel_input(call, *y, d.format);
      call.avoid(d.y);
    }
    d.weight = optional_vector(call, weight);
    d.save_mean = optional_vector(call, save_mean);
    d.save_invstd = optional_vector(call, save_invstd);
    if (grad_x) d.grad_x = channel_output(call, *grad_x, d.format);
    d.grad_weight = optional_output(call, grad_weight);
    d.grad_bias = optional_output(call, grad_bias);
    CNNEXT_RUN(call, batch_norm_backward, d);
  });
}

extern "C" cnnext_status cnnext_batch_norm_backward(const cnnext_context* context,
                                                    const cnnext_batch_norm_params* params,
                                                    const cnnext_tensor* grad_y, const cnnext_tensor* x,
                                                    const cnnext_tensor* weight,
                                                    const cnnext_tensor* save_mean,
                                                    const cnnext_tensor* save_invstd, cnnext_tensor* grad_x,
                                                    cnnext_tensor* grad_weight, cnnext_tensor* grad_bias) {
  return cnnext_batch_norm_activation_backward(context, params, grad_y, x, nullptr, weight, save_mean,
                                               save_invstd, grad_x, grad_weight, grad_bias);
}
