#include <cmath>
#include <limits>

#include "cases.h"

using namespace cnnext;

namespace {

void put_specials(Arg& arg, Suite& suite) {
  const float specials[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 6.0f, 6.5f, -3.0f, 1e-3f, 20.0f, -20.0f};
  for (int64_t i = 0; i < arg.count(); ++i) {
    if (suite.random()() % 3 == 0) arg.values()[i] = specials[suite.random()() % std::size(specials)];
  }
  arg.upload();
}

}  // namespace

void cases_elementwise(Suite& suite) {
  for (const int32_t dtype : kFloatTypes) {
    for (const int64_t count : {1, 3, 4, 7, 8, 31, 256, 1029, 4099}) {
      for (const int64_t shift : {0, 1}) {
        const ArgPtr x = suite.arg({count}, dtype, Format::kNCHW, shift), grad = suite.arg({count}, dtype);
        const ArgPtr y = suite.arg({count}, dtype, Format::kNCHW, shift);
        put_specials(*x, suite);
        const auto desc = [&](int32_t kind) {
          return [=](Side side) {
            ElementwiseDesc d{};
            d.numel = count;
            d.dtype = dtype_on(side, dtype);
            d.kind = kind;
            d.alpha = 0.125;
            d.x = x->on(side);
            d.grad = grad->on(side);
            d.y = y->on(side);
            return d;
          };
        };
        const std::string name = describe("elementwise", dtype, {count, shift});
        suite.check<ElementwiseDesc>(name + " add", &OpTable::add, desc(0), {y}, {1, 0});
        for (int32_t kind = CNNEXT_ACT_RELU; kind <= CNNEXT_ACT_TANH; ++kind) {
          if (count > 1029 && kind != CNNEXT_ACT_GELU) continue;
          const std::string full = name + " kind " + std::to_string(kind);
          suite.check<ElementwiseDesc>(full, &OpTable::activation_forward, desc(kind), {y}, {8, 1e-7});
          suite.check<ElementwiseDesc>(full + " backward", &OpTable::activation_backward, desc(kind), {y},
                                       {16, 1e-6});
        }
      }
    }
  }
}
