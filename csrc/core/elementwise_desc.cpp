// Element-wise ops run over one flat run in memory order; a second operand is brought to the first one's
// order.
#include <cmath>

#include "core/views.h"

namespace cnnext {
namespace {

void check_kind(int32_t kind, double alpha) {
  if (kind < CNNEXT_ACT_RELU || kind > CNNEXT_ACT_TANH) {
    fail_value("kind is ", kind, "; it must be one of cnnext_activation's ", CNNEXT_ACT_RELU, " (relu) to ",
               CNNEXT_ACT_TANH, " (tanh)");
  }
  if (kind == CNNEXT_ACT_LEAKY_RELU && std::isnan(alpha)) {
    fail_value("alpha (negative_slope) is nan; it must be a number");
  }
}

ElementwiseDesc make_elementwise_desc(const Tensor& x, int32_t kind, double alpha) {
  ElementwiseDesc d{};
  d.numel = numel(x);
  d.dtype = x.dtype;
  d.kind = kind;
  d.alpha = alpha;
  d.x = x;
  d.grad = d.y = absent();
  return d;
}

// y may be the same view as an input: every element is read before it is written.
void set_output(Call& call, ElementwiseDesc* d, const Tensor& y) {
  call.avoid(d->x);
  if (present(d->grad)) call.avoid(d->grad);
  call.allow_same(true);
  d->y = call.output_like(y, d->x);
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_activation_forward(const cnnext_context* context, int32_t kind, double alpha,
                                                   const cnnext_tensor* x, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}});
    check_input(x, "x");
    check_any_float(*x, "x");
    check_kind(kind, alpha);
    if (describe_output_like(y, "y", *x) || numel(*y) == 0) return;
    ElementwiseDesc d = make_elementwise_desc(dense_any(call, *x), kind, alpha);
    set_output(call, &d, *y);
    CNNEXT_RUN(call, activation_forward, d);
  });
}

extern "C" cnnext_status cnnext_activation_backward(const cnnext_context* context, int32_t kind, double alpha,
                                                    const cnnext_tensor* grad_y, const cnnext_tensor* x,
                                                    cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {x, "x"}}, {{grad_x, "grad_x"}});
    check_input(x, "x");
    check_any_float(*x, "x");
    check_any_float_like(grad_y, "grad_y", *x, "x");
    check_kind(kind, alpha);
    if (describe_output_like(grad_x, "grad_x", *x) || numel(*grad_x) == 0) return;
    ElementwiseDesc d = make_elementwise_desc(dense_any(call, *x), kind, alpha);
    d.grad = call.dense_like(*grad_y, d.x);
    set_output(call, &d, *grad_x);
    CNNEXT_RUN(call, activation_backward, d);
  });
}

extern "C" cnnext_status cnnext_add(const cnnext_context* context, const cnnext_tensor* a,
                                    const cnnext_tensor* b, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{a, "a"}, {b, "b"}}, {{y, "y"}});
    check_input(a, "a");
    check_any_float(*a, "a");
    check_any_float_like(b, "b", *a, "a");
    if (describe_output_like(y, "y", *a) || numel(*y) == 0) return;
    ElementwiseDesc d = make_elementwise_desc(dense_any(call, *a), CNNEXT_ACT_NONE, 0.0);
    d.grad = call.dense_like(*b, d.x);
    set_output(call, &d, *y);
    CNNEXT_RUN(call, add, d);
  });
}

extern "C" cnnext_status cnnext_dropout(const cnnext_context* context, double p, uint64_t seed,
                                        uint64_t offset, const cnnext_tensor* x, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}});
    check_input(x, "x");
    check_float(*x, "x");
    if (!(p >= 0.0 && p <= 1.0)) fail_value("p is ", p, "; a dropout probability must lie between 0 and 1");
    if (describe_output_like(y, "y", *x) || numel(*y) == 0) return;
    ElementwiseDesc d = make_elementwise_desc(dense_any(call, *x), CNNEXT_ACT_NONE, p);
    d.seed = seed;
    d.offset = offset;
    set_output(call, &d, *y);
    CNNEXT_RUN(call, dropout, d);
  });
}
