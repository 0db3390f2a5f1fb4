#include "bed.h"
#include "cases.h"
#include "cases_conv.h"

using namespace cnnext;

namespace {

// Matrices and windows: rows and columns of results that fill no tile, more tiles than blocks, sums of fewer
// strips than stages and of more, groups, strides, dilations, padding on some sides or none, results that no
// chunk divides.
constexpr ConvShape kShapes[] = {
    {1, 64, 19, 17, 200, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {3, 448, 9, 5, 136, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {2, 128, 9, 11, 260, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1},
    {1, 64, 20, 21, 128, 3, 3, 1, 2, 1, 1, 2, 1, 2, 3, 1},
    {3, 64, 13, 12, 129, 2, 3, 1, 3, 2, 2, 4, 2, 1, 0, 5},
    {1, 64, 17, 24, 128, 1, 1, 1, 2, 3, 1, 1, 0, 0, 0, 0},
    // What follows is for backward-data: K in blocks of 64, phases with taps of their own and with none.
    {2, 136, 20, 13, 192, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {2, 264, 9, 11, 128, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1},
    {1, 127, 25, 24, 64, 3, 4, 1, 2, 3, 1, 2, 1, 2, 3, 1},
};

}  // namespace

void cases_conv_wgmma(Suite& suite) {
  suite.control().capability = 90;
  for (size_t i = 0; i < std::size(kShapes); ++i) {
    suite.control().multiprocessors = i < 3 ? 4 : 1;  // of one, even few tiles go to wgmma
    const int32_t dtype = i % 2 ? CNNEXT_BFLOAT16 : CNNEXT_FLOAT16;
    const Format w_format = i % 3 ? Format::kNCHW : Format::kNHWC;
    run_conv_case(suite, {kShapes[i], dtype, i % 2 ? CNNEXT_ACT_RELU : CNNEXT_ACT_SILU, Format::kNHWC,
                          w_format, i % 3 != 1, false});
  }
  // A padding tap contributes nothing, even under an infinite weight.
  run_conv_case(suite, {kShapes[3], CNNEXT_BFLOAT16, 0, Format::kNHWC, Format::kNHWC, false, true});
  suite.expect_ran("cuda/conv2d_wgmma_128x128_nhwc", 7);
  suite.expect_ran("cuda/conv2d_data_wgmma_128x128_nhwc", 3);
  suite.control().capability = 80;
  suite.control().multiprocessors = 4;
}
