#include "bed.h"
#include "cases.h"
#include "cases_conv.h"

using namespace cnnext;

namespace {

// Each runs by both tiles, but for those of 128 columns and fewer: on devices of so many multiprocessors the
// model chooses them.
struct Case {
  ConvShape s;
  int narrow, wide;
};

// Matrices and windows: rows and columns of results that fill no tile, more tiles than blocks, sums of fewer
// strips than stages and of more, groups, strides, dilations, padding on some sides or none, results that no
// chunk divides.
constexpr Case kForward[] = {
    {{1, 64, 19, 17, 200, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, 2, 1},
    {{3, 448, 9, 5, 136, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, 4, 1},
    {{2, 128, 9, 11, 260, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1}, 3, 2},
    {{1, 64, 20, 21, 128, 3, 3, 1, 2, 1, 1, 2, 1, 2, 3, 1}, 1, 0},
    {{3, 64, 13, 12, 129, 2, 3, 1, 3, 2, 2, 4, 2, 1, 0, 5}, 2, 1},
    {{1, 64, 17, 24, 128, 1, 1, 1, 2, 3, 1, 1, 0, 0, 0, 0}, 1, 0},
    {{1, 128, 9, 11, 516, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1}, 1, 4},
};
// Blocks of 64 channels of the result, phases with taps of their own and with none.
constexpr Case kBackwardData[] = {
    {{2, 136, 20, 13, 192, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, 2, 1},
    {{2, 264, 9, 11, 128, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1}, 3, 1},
    {{1, 127, 25, 24, 64, 3, 4, 1, 2, 3, 1, 2, 1, 2, 3, 1}, 1, 0},
    {{2, 258, 9, 11, 128, 3, 2, 1, 1, 1, 1, 1, 1, 1, 0, 1}, 1, 4},
};
// TF32, forward: blocks of 32 channels.
constexpr ConvShape kTf32[] = {
    {1, 32, 19, 17, 200, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {3, 224, 9, 5, 136, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {2, 64, 9, 11, 260, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, 1},
    {3, 96, 13, 12, 129, 2, 3, 1, 3, 2, 2, 4, 2, 1, 0, 5},
};

int run_by(Suite& suite, const Case& c, bool wide, size_t i) {
  suite.control().multiprocessors = wide ? c.wide : c.narrow;
  if (suite.control().multiprocessors == 0) return 0;
  const int32_t dtype = i % 2 ? CNNEXT_BFLOAT16 : CNNEXT_FLOAT16;
  const Format w_format = i % 3 ? Format::kNCHW : Format::kNHWC;
  run_conv_case(suite, {c.s, dtype, i % 2 ? CNNEXT_ACT_RELU : CNNEXT_ACT_SILU, Format::kNHWC, w_format,
                        i % 3 != 1, false, false, false});
  return 1;
}

}  // namespace

void cases_conv_wgmma(Suite& suite) {
  suite.control().capability = 90;
  suite.control().multiprocessors = 1;
  for (size_t i = 0; i < std::size(kTf32); ++i) {
    run_conv_case(suite, {kTf32[i], CNNEXT_FLOAT32, CNNEXT_ACT_RELU, Format::kNHWC,
                          i % 2 ? Format::kNCHW : Format::kNHWC, i != 1, false, true, false});
  }
  suite.expect_ran("cuda/conv2d_wgmma_128x128_nhwc_tf32", std::size(kTf32));
  for (const bool wide : {true, false}) {
    const std::string tile = wide ? "128x256" : "128x128";
    int cases = 0;
    for (size_t i = 0; i < std::size(kBackwardData); ++i) cases += run_by(suite, kBackwardData[i], wide, i);
    suite.expect_ran("cuda/conv2d_data_wgmma_" + tile + "_nhwc", cases);
    cases = 0;
    for (size_t i = 0; i < std::size(kForward); ++i) cases += run_by(suite, kForward[i], wide, i);
    suite.expect_ran("cuda/conv2d_wgmma_" + tile + "_nhwc", cases);
  }
  // Both tiles add a sum's terms in the same order.
  suite.control().multiprocessors = kForward[2].narrow;
  run_conv_case(suite, {kForward[2].s, CNNEXT_BFLOAT16, 0, Format::kNHWC, Format::kNHWC, false, false, false,
                        false, kForward[2].wide});
  suite.control().multiprocessors = kBackwardData[0].narrow;
  run_conv_case(suite, {kBackwardData[0].s, CNNEXT_FLOAT16, 0, Format::kNHWC, Format::kNHWC, false, false,
                        false, false, 0, kBackwardData[0].wide});
  suite.control().multiprocessors = 1;
  // A padding tap contributes nothing, even under an infinite weight.
  for (const size_t i : {size_t{3}, size_t{4}}) {
    run_conv_case(
        suite, {kForward[i].s, CNNEXT_BFLOAT16, 0, Format::kNHWC, Format::kNHWC, false, true, false, false});
  }
  suite.control().capability = 80;
  suite.control().multiprocessors = 4;
}
