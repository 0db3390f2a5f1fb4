// Softmax and cross-entropy.
#include <cmath>

#include "cases.h"

using namespace cnnext;

namespace {

void run_softmax(Suite& suite, int64_t outer, int64_t dim, int64_t inner, int32_t dtype, bool log,
                 bool special) {
  const std::string name = describe("softmax", dtype, {outer, dim, inner, log, special});
  const ArgPtr x = suite.arg({outer, dim, inner}, dtype), y = suite.arg({outer, dim, inner}, dtype);
  const ArgPtr grad_y = suite.arg({outer, dim, inner}, dtype), grad_x = suite.arg({outer, dim, inner}, dtype);
  if (special) {
    for (int64_t i = 0; i < x->count(); ++i) {
      const unsigned kind = suite.random()() % 30;
      if (kind < 4) x->values()[i] = kind == 0 ? NAN : kind == 1 ? INFINITY : kind == 2 ? -INFINITY : 80.0f;
    }
    x->upload();
  }
  const auto desc = [&](Side side) {
    SoftmaxDesc d{};
    d.outer = outer, d.dim = dim, d.inner = inner;
    d.dtype = dtype_on(side, dtype);
    d.log = log;
    d.x = x->on(side), d.y = y->on(side), d.grad_y = grad_y->on(side), d.grad_x = grad_x->on(side);
    return d;
  };
  suite.check<SoftmaxDesc>(name, &OpTable::softmax_forward, desc, {y}, {8, 2e-6});
  y->upload();
  suite.check<SoftmaxDesc>(name + " backward", &OpTable::softmax_backward, desc, {grad_x}, {8, 1e-5});
}

struct LossCase {
  int64_t N, C, inner;
  bool is_index, weighted;
  double smoothing;
  int32_t reduction;
  Format format;
  int32_t label_dtype = CNNEXT_INT64;
  int64_t ignore_index = -100;
};

// ref takes labels of 64 bits; the device takes them as they are.
template <class Label>
void put_labels(const Arg& from, const Arg& to) {
  const auto* labels = static_cast<const int64_t*>(from.on(Side::kRef).data);
  for (int64_t i = 0; i < from.count(); ++i) {
    static_cast<Label*>(to.on(Side::kRef).data)[i] = static_cast<Label>(labels[i]);
  }
  to.upload();
}
ArgPtr labels_as(Suite& suite, const ArgPtr& labels, const std::vector<int64_t>& shape, int32_t dtype) {
  if (dtype == CNNEXT_INT64) return labels;
  const ArgPtr result = suite.arg(shape, dtype);
  if (dtype == CNNEXT_INT32) put_labels<int32_t>(*labels, *result);
  if (dtype == CNNEXT_INT16) put_labels<int16_t>(*labels, *result);
  if (dtype == CNNEXT_UINT16) put_labels<uint16_t>(*labels, *result);
  if (dtype == CNNEXT_INT8) put_labels<int8_t>(*labels, *result);
  if (dtype == CNNEXT_UINT8) put_labels<uint8_t>(*labels, *result);
  return result;
}

void run_loss(Suite& suite, const LossCase& c, int32_t dtype) {
  const std::string name =
      describe("cross_entropy", dtype, {c.N, c.C, c.inner, c.is_index, c.weighted, c.reduction}) +
      (c.smoothing > 0 ? " smoothed" : "") + (c.format == Format::kNHWC ? " NHWC" : " NCHW") +
      (c.is_index ? " of " : "") + (c.is_index ? name_of_dtype(c.label_dtype) : "");
  const ArgPtr x = suite.arg({c.N, c.C, 1, c.inner}, dtype, c.format);
  const ArgPtr grad_x = suite.arg({c.N, c.C, 1, c.inner}, dtype, c.format);
  const ArgPtr weight = c.weighted ? suite.arg({c.C}, dtype) : nullptr;
  const bool each = c.reduction == CNNEXT_REDUCTION_NONE;
  const int64_t losses = each ? c.N * c.inner : 1;
  const ArgPtr loss = suite.arg({losses}, dtype), grad_loss = suite.arg({losses}, dtype);
  ArgPtr target, given;
  if (c.is_index) {
    target = suite.arg({c.N, c.inner}, CNNEXT_INT64);
    auto* labels = static_cast<int64_t*>(target->on(Side::kRef).data);
    for (int64_t i = 0; i < target->count(); ++i) {
      labels[i] = suite.random()() % 5 == 0
                      ? c.ignore_index
                      : static_cast<int64_t>(suite.random()() % static_cast<unsigned>(c.C));
    }
    target->upload();
    given = labels_as(suite, target, {c.N, c.inner}, c.label_dtype);
  } else {
    given = target = suite.arg({c.N, c.C, 1, c.inner}, dtype, c.format);
  }
  if (weight) {
    for (int64_t i = 0; i < c.C; ++i) weight->values()[i] = std::fabs(weight->values()[i]) + 0.5f;
    weight->upload();
  }
  const auto desc = [&](Side side) {
    CrossEntropyDesc d{};
    d.N = c.N, d.C = c.C, d.inner = c.inner;
    d.ignore_index = c.ignore_index;
    d.dtype = dtype_on(side, dtype);
    d.target_is_index = c.is_index;
    d.reduction = c.reduction;
    d.label_smoothing = c.smoothing;
    d.format = c.format;
    d.x = x->on(side), d.target = (side == Side::kRef ? target : given)->on(side);
    d.weight = on(weight, side), d.loss = loss->on(side);
    d.grad_loss = grad_loss->on(side), d.grad_x = grad_x->on(side);
    return d;
  };
  suite.check<CrossEntropyDesc>(name, &OpTable::cross_entropy_forward, desc, {loss}, {16, 1e-5});
  suite.check<CrossEntropyDesc>(name + " backward", &OpTable::cross_entropy_backward, desc, {grad_x},
                                {16, 1e-5});
}

// What ref refuses before it runs, the device can only mark.
void run_wrong_label(Suite& suite) {
  const ArgPtr x = suite.arg({2, 3}, CNNEXT_FLOAT32), target = suite.arg({2}, CNNEXT_INT64);
  const ArgPtr loss = suite.arg({2}, CNNEXT_FLOAT32);
  auto* labels = static_cast<int64_t*>(target->on(Side::kRef).data);
  labels[0] = 3, labels[1] = -1;
  target->upload();
  labels[0] = labels[1] = 0;
  for (int64_t i = 0; i < 6; ++i) x->values()[i] = NAN;  // ref's loss, to compare with
  const auto desc = [&](Side side) {
    CrossEntropyDesc d{};
    d.N = 2, d.C = 3, d.inner = 1;
    d.ignore_index = -100;
    d.target_is_index = 1;
    d.x = x->on(side), d.target = target->on(side), d.weight = d.grad_x = d.grad_loss = absent();
    d.loss = loss->on(side);
    return d;
  };
  suite.check<CrossEntropyDesc>("labels that are no class", &OpTable::cross_entropy_forward, desc, {loss},
                                kExact);
}

}  // namespace

void cases_softmax(Suite& suite) {
  for (const int32_t dtype : kFloatTypes) {
    for (const bool log : {false, true}) {
      run_softmax(suite, 3, 5, 7, dtype, log, false);
      run_softmax(suite, 2, 1, 300, dtype, log, false);
      run_softmax(suite, 19, 33, 1, dtype, log, false);
      run_softmax(suite, 3, 1000, 1, dtype, log, true);
      run_softmax(suite, 40, 10, 4, dtype, log, true);
    }
    for (const int32_t reduction : {CNNEXT_REDUCTION_NONE, CNNEXT_REDUCTION_MEAN, CNNEXT_REDUCTION_SUM}) {
      for (const Format format : {Format::kNCHW, Format::kNHWC}) {
        for (const double smoothing : {0.0, 0.125}) {
          for (const bool is_index : {true, false}) {
            run_loss(suite, {5, 10, 1, is_index, true, smoothing, reduction, format}, dtype);
            run_loss(suite, {2, 4, 60, is_index, false, smoothing, reduction, format}, dtype);
            run_loss(suite, {3, 37, 5, is_index, true, smoothing, reduction, format}, dtype);
          }
        }
      }
    }
  }
  run_loss(suite, {500, 3, 2, true, true, 0.0, CNNEXT_REDUCTION_MEAN, Format::kNCHW}, CNNEXT_FLOAT32);
  const std::pair<int32_t, int64_t> labels[] = {{CNNEXT_INT32, -100},
                                                {CNNEXT_INT16, -100},
                                                {CNNEXT_UINT16, 65535},
                                                {CNNEXT_INT8, -100},
                                                {CNNEXT_UINT8, 255}};
  for (const auto& [label_dtype, ignored] : labels) {
    LossCase c = {7, 10, 3, true, true, 0.125, CNNEXT_REDUCTION_MEAN, Format::kNCHW};
    c.label_dtype = label_dtype;
    c.ignore_index = ignored;  // a number that the dtype has
    run_loss(suite, c, CNNEXT_FLOAT32);
  }
  run_wrong_label(suite);
}
