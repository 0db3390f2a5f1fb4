#include "cases.h"
#include "cases_conv.h"

using namespace cnnext;

namespace {

// Every tile in every pass (its edges included, and more of them than there are blocks), sums of less than a
// strip and of more strips than stages, results that no chunk divides, groups, strides that leave phases
// empty, dilations; channels in chunks of 16 bytes, and what has to be gathered; several slices.
constexpr ConvShape kShapes[] = {
    {2, 8, 14, 14, 120, 3, 2, 1, 1, 1, 1, 1, 1, 1, 0, 1},
    {1, 16, 20, 21, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 40, 20, 21, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {2, 120, 15, 14, 8, 1, 2, 1, 1, 1, 1, 1, 0, 0, 1, 0},
    {1, 16, 19, 21, 256, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 64, 20, 22, 504, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {1, 504, 20, 22, 64, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {1, 24, 9, 8, 72, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {1, 32, 7, 11, 48, 3, 3, 2, 2, 1, 1, 2, 1, 2, 3, 1},
    {2, 8, 9, 9, 65, 3, 3, 1, 2, 2, 1, 1, 1, 1, 1, 1},
    {3, 8, 6, 6, 8, 1, 1, 1, 3, 2, 1, 1, 0, 0, 0, 0},
    {2, 3, 13, 12, 24, 5, 3, 1, 2, 2, 1, 1, 2, 2, 1, 1},
    {1, 65, 5, 9, 63, 1, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {1, 18, 11, 12, 21, 2, 3, 3, 3, 2, 2, 4, 2, 1, 0, 5},
    {1, 8, 20, 22, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 5, 20, 22, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
};

}  // namespace

void cases_conv_mma(Suite& suite) {
  for (const Format format : {Format::kNCHW, Format::kNHWC}) {
    for (size_t i = 0; i < std::size(kShapes); ++i) {
      for (const int32_t dtype : kFloatTypes) {
        // Both types of 16 bits run the same code; the large shapes take one of them.
        if (i < 7 && dtype == (i % 2 ? CNNEXT_FLOAT16 : CNNEXT_BFLOAT16)) continue;
        const Format w_format = i % 2 ? Format::kNCHW : Format::kNHWC;
        const bool tf32 = dtype == CNNEXT_FLOAT32;
        run_conv_case(suite, {kShapes[i], dtype, i % 4 ? CNNEXT_ACT_RELU : CNNEXT_ACT_SILU, format, w_format,
                              i % 3 != 1, false, tf32});
      }
    }
    // A padding tap contributes nothing, even under an infinite weight.
    for (const int32_t dtype : kFloatTypes) {
      for (const size_t i : {size_t{8}, size_t{11}}) {
        run_conv_case(suite,
                      {kShapes[i], dtype, 0, format, Format::kNHWC, false, true, dtype == CNNEXT_FLOAT32});
      }
    }
  }
  for (const char* pass : {"", "_data", "_weights"}) {
    for (const char* kind : {"128x128_nhwc", "128x64_nhwc", "64x64_nhwc", "128x64_nchw", "64x64_nchw"}) {
      for (const char* precision : {"", "_tf32"}) {
        if (*precision && kind[4] == '1') continue;  // 128x128 has no registers for it
        suite.expect_ran("cuda/conv2d" + std::string(pass) + "_mma_" + kind + precision);
      }
    }
  }
}
