#include "cases.h"

using namespace cnnext;

namespace {

struct Shape {
  int64_t N, C, H, W, P, Q, R, S, stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right;
  bool with_padding;
  int64_t divisor;
};

// P and Q as ceil_mode and floor would have them.
constexpr Shape kShapes[] = {
    {2, 3, 7, 9, 4, 9, 3, 2, 2, 1, 1, 1, 1, 1, 0, 1, true, 0},
    {1, 8, 6, 5, 3, 2, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, false, 0},
    {2, 16, 9, 8, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, true, 0},
    {2, 16, 9, 8, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, false, 0},
    {1, 4, 11, 7, 8, 3, 2, 3, 1, 2, 3, 2, 0, 0, 1, 2, true, 7},
    {1, 5, 9, 10, 1, 1, 9, 10, 1, 1, 1, 1, 0, 0, 0, 0, true, 0},
    {2, 3, 12, 13, 5, 4, 8, 7, 1, 2, 1, 1, 0, 0, 0, 0, true, 0},
    {1, 2, 4, 40, 2, 3, 2, 36, 2, 2, 2, 1, 0, 0, 0, 0, true, 0},
};

struct Adaptive {
  int64_t N, C, H, W, P, Q;
};
constexpr Adaptive kAdaptive[] = {{2, 3, 7, 9, 1, 1},   {1, 8, 7, 7, 3, 2},   {2, 8, 3, 2, 5, 7},
                                  {1, 5, 20, 17, 2, 3}, {1, 3, 16, 24, 1, 1}, {2, 3, 17, 19, 1, 1}};

void run_case(Suite& suite, Pool2dDesc geometry, bool adaptive, const std::string& name) {
  const Pool2dDesc& g = geometry;
  const ArgPtr x = suite.arg({g.N, g.C, g.H, g.W}, g.dtype, g.format);
  const ArgPtr y = suite.arg({g.N, g.C, g.P, g.Q}, g.dtype, g.format);
  const auto desc = [&](Side side) {
    Pool2dDesc d = g;
    d.dtype = dtype_on(side, g.dtype);
    d.x = x->on(side), d.y = y->on(side), d.indices = absent();
    return d;
  };
  if (g.P > 0) {
    suite.check<Pool2dDesc>(name,
                            adaptive ? &OpTable::adaptive_avg_pool2d_forward : &OpTable::avg_pool2d_forward,
                            desc, {y}, {2, 1e-6});
  }
  y->upload();
  suite.check<Pool2dDesc>(name + " backward",
                          adaptive ? &OpTable::adaptive_avg_pool2d_backward : &OpTable::avg_pool2d_backward,
                          desc, {x}, {3, 1e-6});
}

}  // namespace

void cases_avg_pool(Suite& suite) {
  for (const Format format : {Format::kNCHW, Format::kNHWC}) {
    for (const int32_t dtype : kFloatTypes) {
      Pool2dDesc d{};
      d.stride_h = d.stride_w = d.dilation_h = d.dilation_w = 1;
      d.dtype = dtype;
      d.format = format;
      const std::string layout = format == Format::kNHWC ? " NHWC" : " NCHW";
      for (const Adaptive& s : kAdaptive) {
        d.N = s.N, d.C = s.C, d.H = s.H, d.W = s.W, d.P = s.P, d.Q = s.Q;
        run_case(suite, d, true,
                 describe("adaptive_avg_pool", dtype, {s.N, s.C, s.H, s.W, s.P, s.Q}) + layout);
      }
      d.P = d.Q = 0;
      run_case(suite, d, true, describe("adaptive_avg_pool of nothing", dtype, {}) + layout);
      for (const Shape& s : kShapes) {
        d.N = s.N, d.C = s.C, d.H = s.H, d.W = s.W, d.P = s.P, d.Q = s.Q, d.R = s.R, d.S = s.S;
        d.stride_h = s.stride_h, d.stride_w = s.stride_w, d.dilation_h = s.dilation_h,
        d.dilation_w = s.dilation_w;
        d.pad_top = s.top, d.pad_bottom = s.bottom, d.pad_left = s.left, d.pad_right = s.right;
        d.count_include_pad = s.with_padding, d.divisor_override = s.divisor;
        run_case(suite, d, false,
                 describe("avg_pool", dtype, {s.N, s.C, s.H, s.W, s.R, s.S, s.with_padding}) + layout);
      }
    }
  }
}
