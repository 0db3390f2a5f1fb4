#include "cases.h"

using namespace cnnext;

void cases_dropout(Suite& suite) {
  for (const int32_t dtype : kFloatTypes) {
    for (const int64_t count : {1, 5, 8, 33, 1027, 3000}) {
      for (const uint64_t offset : {uint64_t{0}, uint64_t{3}, uint64_t{1} << 33, ~uint64_t{0} - 2}) {
        for (const double p : {0.0, 0.3, 1.0}) {
          for (const int64_t shift : {0, 1}) {
            const ArgPtr x = suite.arg({count}, dtype, Format::kNCHW, shift);
            const ArgPtr y = suite.arg({count}, dtype, Format::kNCHW, shift);
            const auto desc = [&](Side side) {
              ElementwiseDesc d{};
              d.numel = count;
              d.dtype = dtype_on(side, dtype);
              d.alpha = p;
              d.seed = 0x123456789abcdefULL;
              d.offset = offset;
              d.x = x->on(side), d.y = y->on(side);
              return d;
            };
            suite.check<ElementwiseDesc>(
                describe("dropout", dtype, {count, static_cast<int64_t>(offset), shift}), &OpTable::dropout,
                desc, {y}, kExact);
          }
        }
      }
    }
  }
}
