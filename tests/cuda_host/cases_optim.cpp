#include "cases.h"

using namespace cnnext;

namespace {

// The tensors of a list on one side, as a descriptor points to them.
struct List {
  std::vector<ArgPtr> args;
  mutable std::vector<Tensor> tensors;
  Tensor* on(Side side) const {
    tensors.clear();
    for (const ArgPtr& arg : args) tensors.push_back(arg->on(side));
    return tensors.data();
  }
};

List make_list(Suite& suite, const std::vector<int64_t>& sizes, int32_t dtype, bool positive = false) {
  List list;
  for (const int64_t size : sizes) {  // every third is not aligned to 16 bytes
    const int64_t shift = list.args.size() % 3 == 0 ? 1 : 0;
    list.args.push_back(suite.arg({size}, dtype, Format::kNCHW, shift));
    for (int64_t i = 0; i < size && positive; ++i) {
      float& value = list.args.back()->values()[i];
      value = value < 0 ? -value : value;
    }
    list.args.back()->upload();
  }
  return list;
}

std::vector<ArgPtr> together(std::initializer_list<const List*> lists) {
  std::vector<ArgPtr> all;
  for (const List* list : lists) all.insert(all.end(), list->args.begin(), list->args.end());
  return all;
}

void run_sgd(Suite& suite, const std::vector<int64_t>& sizes, int32_t dtype, cnnext_sgd_params p) {
  const List params = make_list(suite, sizes, dtype), grads = make_list(suite, sizes, dtype);
  const List buffers = make_list(suite, sizes, dtype);
  const auto desc = [&](Side side) {
    SgdDesc d{};
    d.params = p;
    d.count = static_cast<int64_t>(sizes.size());
    d.param = params.on(side), d.grad = grads.on(side);
    d.buffer = p.momentum != 0 ? buffers.on(side) : nullptr;
    return d;
  };
  suite.check<SgdDesc>(describe("sgd", dtype, {static_cast<int64_t>(sizes.size()), p.nesterov, p.first_step}),
                       &OpTable::sgd_step, desc, together({&params, &buffers}), {4, 1e-6});
}

void run_adam(Suite& suite, const std::vector<int64_t>& sizes, int32_t dtype, cnnext_adam_params p,
              bool amsgrad) {
  const List params = make_list(suite, sizes, dtype), grads = make_list(suite, sizes, dtype);
  const List avg = make_list(suite, sizes, dtype), avg_sq = make_list(suite, sizes, dtype, true);
  const List max_sq = make_list(suite, sizes, dtype, true);
  const auto desc = [&](Side side) {
    AdamDesc d{};
    d.params = p;
    d.count = static_cast<int64_t>(sizes.size());
    d.param = params.on(side), d.grad = grads.on(side);
    d.exp_avg = avg.on(side), d.exp_avg_sq = avg_sq.on(side);
    d.max_exp_avg_sq = amsgrad ? max_sq.on(side) : nullptr;
    return d;
  };
  suite.check<AdamDesc>(describe("adam", dtype, {static_cast<int64_t>(sizes.size()), p.decoupled, amsgrad}),
                        &OpTable::adam_step, desc, together({&params, &avg, &avg_sq, &max_sq}), {8, 1e-6});
}

}  // namespace

void cases_optim(Suite& suite) {
  // More tensors than one launch takes, empty ones, and one of several chunks.
  std::vector<int64_t> many(431, 3);
  many[0] = 0, many[200] = 0, many[399] = 5, many[430] = 0;
  const std::vector<int64_t> few = {1, 4095, 4096, 4097, 9000, 0, 17, 4097, 25};
  for (const int32_t dtype : kFloatTypes) {
    for (const auto& sizes : {few, many}) {
      if (dtype != CNNEXT_FLOAT32 && sizes.size() > few.size()) continue;
      const size_t size = sizeof(cnnext_sgd_params);
      run_sgd(suite, sizes, dtype, {size, 0.1, 0.0, 0.0, 0.0, 0, 0, 0});
      run_sgd(suite, sizes, dtype, {size, 0.1, 0.9, 0.25, 0.01, 0, 1, 0});
      run_sgd(suite, sizes, dtype, {size, 0.1, 0.9, 0.0, 0.01, 1, 0, 1});
      const size_t adam = sizeof(cnnext_adam_params);
      run_adam(suite, sizes, dtype, {adam, 0.01, 0.9, 0.99, 1e-3, 0.0, 1, 0, 0}, false);
      run_adam(suite, sizes, dtype, {adam, 0.01, 0.9, 0.99, 1e-3, 0.1, 7, 0, 1}, true);
      run_adam(suite, sizes, dtype, {adam, 0.01, 0.9, 0.99, 1e-3, 0.1, 3, 1, 0}, true);
    }
  }
}
