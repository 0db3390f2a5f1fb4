#include "core/views.h"

namespace cnnext {
namespace {

int resolve_dim(int32_t dim, const Tensor& x) {
  const int ndim = x.ndim == 0 ? 1 : x.ndim;  // a 0-d tensor has dim 0 and -1, as in torch
  if (dim < -ndim || dim >= ndim) {
    fail_value("dim is ", dim, "; for x of shape ", shape_string(x), " it must lie between ", -ndim, " and ",
               ndim - 1);
  }
  return dim < 0 ? dim + ndim : dim;
}

// x is dense in some order of its axes: the axes outside `dim` in memory are the outer ones, whatever their
// names.
SoftmaxDesc make_softmax_desc(const Tensor& x, int dim, int32_t log) {
  SoftmaxDesc d{};
  d.outer = d.dim = d.inner = 1;
  d.dtype = x.dtype;
  d.log = log != 0;
  d.x = d.y = d.grad_y = d.grad_x = absent();
  int order[CNNEXT_MAX_NDIM];
  memory_order(x, order);
  bool inside = false;
  for (int i = 0; i < x.ndim; ++i) {
    if (order[i] == dim) {
      d.dim = x.shape[dim];
      inside = true;
    } else {
      (inside ? d.inner : d.outer) *= x.shape[order[i]];
    }
  }
  return d;
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_softmax(const cnnext_context* context, int32_t dim, int32_t log,
                                        const cnnext_tensor* x, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}});
    check_input(x, "x");
    check_float(*x, "x");
    const int axis = resolve_dim(dim, *x);
    if (describe_output_like(y, "y", *x) || numel(*y) == 0) return;
    const Tensor dense = dense_any(call, *x);
    SoftmaxDesc d = make_softmax_desc(dense, axis, log);
    d.x = dense;
    call.avoid(d.x);
    d.y = call.output_like(*y, d.x);
    CNNEXT_RUN(call, softmax_forward, d);
  });
}

extern "C" cnnext_status cnnext_softmax_backward(const cnnext_context* context, int32_t dim, int32_t log,
                                                 const cnnext_tensor* grad_y, const cnnext_tensor* y,
                                                 cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {y, "y"}}, {{grad_x, "grad_x"}});
    check_input(y, "y");
    check_float(*y, "y");
    check_float_like(grad_y, "grad_y", *y, "y");
    const int axis = resolve_dim(dim, *y);
    if (describe_output_like(grad_x, "grad_x", *y) || numel(*grad_x) == 0) return;
    const Tensor dense = dense_any(call, *y);
    SoftmaxDesc d = make_softmax_desc(dense, axis, log);
    d.y = dense;
    d.grad_y = call.dense_like(*grad_y, dense);
    call.avoid(d.y);
    call.avoid(d.grad_y);
    d.grad_x = call.output_like(*grad_x, dense);
    CNNEXT_RUN(call, softmax_backward, d);
  });
}
