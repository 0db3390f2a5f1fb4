// The optimisers' updates: `count` parameters in one call, each with its gradient and state in its own order.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/views.h"

namespace cnnext {
namespace {

void check_rate(double value, const char* name) {
  if (!std::isfinite(value) || value < 0.0) {
    fail_value(name, " is ", value, "; it must be finite and at least 0");
  }
}

void check_beta(double value, const char* name) {
  if (!(value >= 0.0 && value < 1.0)) fail_value(name, " is ", value, "; it must lie in [0, 1)");
}

// One list of tensors; written ones may share memory with nothing.
struct List {
  const Tensor* tensors;
  const char* name;
  bool written;
};

std::string element_name(const List& list, int64_t i) { return concat(list.name, "[", i, "]"); }

void check_list(const List& list, const List& params, int64_t count) {
  if (!list.tensors) fail_value(list.name, " is NULL, but count is ", count);
  for (int64_t i = 0; i < count; ++i) {
    const std::string name = element_name(list, i);
    if (&list == &params) {
      check_input(&list.tensors[i], name.c_str());
      check_float(list.tensors[i], name.c_str());
    } else {
      check_float_like(&list.tensors[i], name.c_str(), params.tensors[i], element_name(params, i).c_str());
    }
    if (list.written && numel(list.tensors[i]) > 0) {
      Tensor t = list.tensors[i];
      describe_output(&t, name.c_str(), t.dtype, t.ndim, t.shape, Format::kNCHW);
    }
  }
}

struct Range {
  const char *begin, *end;
  const List* list;
  int64_t index;
};

Range range_of(const List& list, int64_t index) {
  const Tensor& t = list.tensors[index];
  int64_t low = 0, high = 0;
  for (int i = 0; i < t.ndim; ++i) {
    const int64_t reach = (t.shape[i] - 1) * t.strides[i];
    (reach < 0 ? low : high) += reach;
  }
  const char* base = static_cast<const char*>(t.data);
  const int64_t size = dtype_size(t.dtype);
  return {base + low * size, base + (high + 1) * size, &list, index};
}

// Refuses a written tensor whose memory meets another tensor's; one sweep over the sorted ranges.
void check_apart(const List* lists, int num_lists, int64_t count) {
  std::vector<Range> ranges;
  for (int k = 0; k < num_lists; ++k) {
    for (int64_t i = 0; i < count; ++i) {
      if (numel(lists[k].tensors[i]) > 0) ranges.push_back(range_of(lists[k], i));
    }
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  const Range *furthest = nullptr, *furthest_written = nullptr;
  const auto reaches = [](const Range* earlier, const Range& r) { return earlier && earlier->end > r.begin; };
  for (const Range& r : ranges) {
    const Range* other = reaches(furthest_written, r)              ? furthest_written
                         : r.list->written && reaches(furthest, r) ? furthest
                                                                   : nullptr;
    if (other) {
      fail_value(element_name(*other->list, other->index), " and ", element_name(*r.list, r.index),
                 " share memory; what the step updates must lie apart from everything else");
    }
    if (!furthest || r.end > furthest->end) furthest = &r;
    if (r.list->written && (!furthest_written || r.end > furthest_written->end)) furthest_written = &r;
  }
}

// All on one device; names with numbers are put together only for messages.
void place_lists(Call& call, const List* lists, int num_lists, int64_t count) {
  call.place(lists[0].tensors[0], "params[0]");
  for (int k = 0; k < num_lists; ++k) {
    for (int64_t i = k == 0 ? 1 : 0; i < count; ++i) {
      const Tensor& t = lists[k].tensors[i];
      call.place(t, call.can_join(t) ? lists[k].name : element_name(lists[k], i).c_str());
    }
  }
  call.settle();
}

void check_lists(const List* lists, int num_lists, int64_t count) {
  if (count < 0) fail_value("count is ", count, "; it must be at least 0");
  if (count == 0) return;
  for (int k = 0; k < num_lists; ++k) check_list(lists[k], lists[0], count);
  check_apart(lists, num_lists, count);
}

// The tensors of a list in the memory order of the parameters.
std::vector<Tensor> dense_list(Call& call, const Tensor* tensors, const std::vector<Tensor>& params) {
  std::vector<Tensor> result;
  for (size_t i = 0; i < params.size(); ++i) result.push_back(call.dense_like(tensors[i], params[i]));
  return result;
}

std::vector<Tensor> dense_params(Call& call, const Tensor* params, int64_t count) {
  std::vector<Tensor> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(dense_any(call, params[i]));
  return result;
}

void write_back_list(Call& call, const std::vector<Tensor>& dense, const Tensor* originals) {
  for (size_t i = 0; i < dense.size(); ++i) write_back(call, dense[i], originals[i]);
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_sgd_step(const cnnext_context* context, const cnnext_sgd_params* p,
                                         int64_t count, cnnext_tensor* params, const cnnext_tensor* grads,
                                         cnnext_tensor* buffers) {
  return guard([&] {
    check_params(p, sizeof(*p), "settings");
    check_rate(p->lr, "lr");
    check_rate(p->momentum, "momentum");
    check_rate(p->weight_decay, "weight_decay");
    if (!std::isfinite(p->dampening)) fail_value("dampening is ", p->dampening, "; it must be finite");
    if (p->nesterov && (p->momentum == 0.0 || p->dampening != 0.0)) {
      fail_value("nesterov needs a momentum above 0 and dampening 0; they are ", p->momentum, " and ",
                 p->dampening);
    }
    const bool buffered = p->momentum != 0.0;
    const List lists[] = {
        {params, "params", true}, {grads, "grads", false}, {buffers, "momentum_buffers", true}};
    check_lists(lists, buffered ? 3 : 2, count);
    if (count == 0) return;

    Call call(context);
    place_lists(call, lists, buffered ? 3 : 2, count);
    std::vector<Tensor> param = dense_params(call, params, count);
    std::vector<Tensor> grad = dense_list(call, grads, param);
    std::vector<Tensor> buffer;
    if (buffered) buffer = dense_list(call, buffers, param);
    SgdDesc d{*p, count, param.data(), grad.data(), buffered ? buffer.data() : nullptr};
    CNNEXT_RUN(call, sgd_step, d);
    write_back_list(call, param, params);
    write_back_list(call, buffer, buffers);
  });
}

extern "C" cnnext_status cnnext_adam_step(const cnnext_context* context, const cnnext_adam_params* p,
                                          int64_t count, cnnext_tensor* params, const cnnext_tensor* grads,
                                          cnnext_tensor* exp_avgs, cnnext_tensor* exp_avg_sqs,
                                          cnnext_tensor* max_exp_avg_sqs) {
  return guard([&] {
    check_params(p, sizeof(*p), "settings");
    check_rate(p->lr, "lr");
    check_beta(p->beta1, "beta1");
    check_beta(p->beta2, "beta2");
    check_rate(p->eps, "eps");
    check_rate(p->weight_decay, "weight_decay");
    if (p->step < 1) fail_value("step is ", p->step, "; it counts from 1");
    const List lists[] = {{params, "params", true},
                          {grads, "grads", false},
                          {exp_avgs, "exp_avgs", true},
                          {exp_avg_sqs, "exp_avg_sqs", true},
                          {max_exp_avg_sqs, "max_exp_avg_sqs", true}};
    check_lists(lists, max_exp_avg_sqs ? 5 : 4, count);
    if (count == 0) return;

    Call call(context);
    place_lists(call, lists, max_exp_avg_sqs ? 5 : 4, count);
    std::vector<Tensor> param = dense_params(call, params, count);
    std::vector<Tensor> grad = dense_list(call, grads, param);
    std::vector<Tensor> avg = dense_list(call, exp_avgs, param);
    std::vector<Tensor> avg_sq = dense_list(call, exp_avg_sqs, param);
    std::vector<Tensor> max_sq;
    if (max_exp_avg_sqs) max_sq = dense_list(call, max_exp_avg_sqs, param);
    AdamDesc d{*p,
               count,
               param.data(),
               grad.data(),
               avg.data(),
               avg_sq.data(),
               max_exp_avg_sqs ? max_sq.data() : nullptr};
    CNNEXT_RUN(call, adam_step, d);
    write_back_list(call, param, params);
    write_back_list(call, avg, exp_avgs);
    write_back_list(call, avg_sq, exp_avg_sqs);
    write_back_list(call, max_sq, max_exp_avg_sqs);
  });
}
