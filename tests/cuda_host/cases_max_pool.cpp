#include <algorithm>
#include <cmath>

#include "cases.h"

using namespace cnnext;

namespace {

struct Shape {
  int64_t N, C, H, W, R, S, stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right;
  bool ceil;
};

constexpr Shape kShapes[] = {
    {2, 3, 7, 9, 3, 2, 2, 1, 1, 1, 1, 0, 0, 1, false},
    {1, 8, 6, 5, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, false},
    {2, 16, 9, 8, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, true},
    {1, 4, 11, 7, 2, 3, 1, 2, 3, 2, 2, 1, 3, 2, false},
    {1, 5, 4, 19, 1, 17, 1, 1, 1, 1, 0, 0, 8, 7, false},
    {1, 1, 33, 18, 17, 16, 3, 1, 1, 1, 3, 5, 2, 2, false},
    {3, 2, 5, 5, 2, 2, 3, 3, 1, 1, 0, 0, 0, 0, true},
    {1, 24, 3, 3, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, false},
    {1, 2, 2, 3, 2, 2, 4, 5, 5, 4, 5, 5, 4, 4, false},
};

int64_t windows(int64_t size, int64_t pads, int64_t begin, int64_t kernel, int64_t stride, int64_t dilation,
                bool ceil) {
  const int64_t room = size + pads - (dilation * (kernel - 1) + 1);
  int64_t count = room / stride + 1;
  if (ceil && room % stride != 0 && count * stride < size + begin) ++count;
  return count;
}

Pool2dDesc geometry(const Shape& s, int32_t dtype, int32_t kind, Format format) {
  Pool2dDesc d{};
  d.N = s.N, d.C = s.C, d.H = s.H, d.W = s.W, d.R = s.R, d.S = s.S;
  d.P = windows(s.H, s.top + s.bottom, s.top, s.R, s.stride_h, s.dilation_h, s.ceil);
  d.Q = windows(s.W, s.left + s.right, s.left, s.S, s.stride_w, s.dilation_w, s.ceil);
  d.stride_h = s.stride_h, d.stride_w = s.stride_w, d.dilation_h = s.dilation_h, d.dilation_w = s.dilation_w;
  d.pad_top = s.top, d.pad_bottom = s.bottom, d.pad_left = s.left, d.pad_right = s.right;
  d.dtype = dtype;
  d.index_kind = kind;
  d.index_dtype = kind != CNNEXT_INDEX_WINDOW ? CNNEXT_INT64
                  : s.R * s.S <= 255          ? CNNEXT_UINT8
                                              : CNNEXT_UINT16;
  d.format = format;
  d.x = d.y = d.indices = absent();
  return d;
}

// Few distinct values, so that ties are common; now and then NaN and infinities.
void fill(Arg& arg, Suite& suite) {
  for (int64_t i = 0; i < arg.count(); ++i) {
    arg.values()[i] = static_cast<float>(suite.random()() % 9) - 4;
    if (suite.random()() % 40 == 0) arg.values()[i] = NAN;
    if (suite.random()() % 12 == 0) arg.values()[i] = -INFINITY;
  }
  arg.upload();
}

void run_case(Suite& suite, const Shape& s, int32_t dtype, int32_t kind, Format format) {
  const Pool2dDesc d0 = geometry(s, dtype, kind, format);
  const std::string name = describe("max_pool", dtype, {s.N, s.C, s.H, s.W, s.R, s.S, d0.P, d0.Q, kind}) +
                           (format == Format::kNHWC ? " NHWC" : " NCHW");
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, dtype, format),
               y = suite.arg({s.N, s.C, d0.P, d0.Q}, dtype, format);
  const ArgPtr codes = suite.arg({s.N, s.C, d0.P, d0.Q}, d0.index_dtype, format);
  fill(*x, suite);
  const auto desc = [&](Side side) {
    Pool2dDesc d = d0;
    d.dtype = dtype_on(side, dtype);
    d.x = x->on(side), d.y = y->on(side), d.indices = codes->on(side);
    return d;
  };
  const auto without_codes = [&](Side side) {
    Pool2dDesc d = desc(side);
    d.indices = absent();
    return d;
  };
  suite.check<Pool2dDesc>(name, &OpTable::max_pool2d_forward, desc, {y, codes}, kExact);
  suite.check<Pool2dDesc>(name + " alone", &OpTable::max_pool2d_forward, without_codes, {y}, kExact);
  // A gather reads x at the codes: the same values, or 0 where a window has no tap.
  suite.check<Pool2dDesc>(name + " gather", &OpTable::max_pool2d_gather, desc, {y}, kExact);
  suite.check<Pool2dDesc>(name + " unpool", &OpTable::max_unpool2d, desc, {x}, kExact);
  for (int64_t i = 0; i < y->count(); ++i) y->values()[i] = static_cast<float>(suite.random()() % 64) - 32;
  y->upload();
  suite.check<Pool2dDesc>(name + " backward", &OpTable::max_pool2d_backward, desc, {x}, kExact);
}

void run_uint8(Suite& suite, const Shape& s, Format format) {
  const Pool2dDesc d0 = geometry(s, CNNEXT_UINT8, CNNEXT_INDEX_WINDOW, format);
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, CNNEXT_UINT8, format);
  const ArgPtr y = suite.arg({s.N, s.C, d0.P, d0.Q}, CNNEXT_UINT8, format);
  for (int64_t i = 0; i < x->count(); ++i) {
    static_cast<uint8_t*>(x->on(Side::kRef).data)[i] = static_cast<uint8_t>(suite.random()() % 7 + 249);
  }
  x->upload();
  for (const int32_t dtype : {CNNEXT_UINT8, CNNEXT_INT8}) {
    const auto desc = [&](Side side) {
      Pool2dDesc d = d0;
      d.dtype = dtype;
      d.x = x->on(side), d.y = y->on(side);
      return d;
    };
    suite.check<Pool2dDesc>("max_pool of bytes", &OpTable::max_pool2d_forward, desc, {y}, kExact);
  }
}

// Plane codes from elsewhere, which their windows do not cover: unpool and the gradient follow them all the
// same. planes: how many of the last planes have such codes.
void run_foreign(Suite& suite, Format format, int64_t planes) {
  const Shape s = kShapes[1];
  const Pool2dDesc d0 = geometry(s, CNNEXT_FLOAT32, CNNEXT_INDEX_PLANE, format);
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, CNNEXT_FLOAT32, format);
  const ArgPtr y = suite.arg({s.N, s.C, d0.P, d0.Q}, CNNEXT_FLOAT32, format);
  const ArgPtr codes = suite.arg({s.N, s.C, d0.P, d0.Q}, CNNEXT_INT64, format);
  auto* values = static_cast<int64_t*>(codes->on(Side::kRef).data);
  for (int64_t i = 0; i < codes->count(); ++i) {
    const auto place = static_cast<int64_t>(suite.random()() % static_cast<unsigned>(s.H * s.W));
    const int64_t plane =
        format == Format::kNHWC ? i % s.C + i / (d0.P * d0.Q * s.C) * s.C : i / (d0.P * d0.Q);
    values[i] = suite.random()() % 3 == 0 || plane < s.N * s.C - planes ? -1 : place;
  }
  codes->upload();
  const auto desc = [&](Side side) {
    Pool2dDesc d = d0;
    d.x = x->on(side), d.y = y->on(side), d.indices = codes->on(side);
    return d;
  };
  suite.check<Pool2dDesc>("foreign codes, backward", &OpTable::max_pool2d_backward, desc, {x}, {2, 1e-6});
  suite.check<Pool2dDesc>("foreign codes, unpool", &OpTable::max_unpool2d, desc, {x}, kExact);
  suite.check<Pool2dDesc>("foreign codes, gather", &OpTable::max_pool2d_gather, desc, {y}, kExact);
}

void run_conversions(Suite& suite, const Shape& s, Format format) {
  constexpr int32_t kKinds[] = {CNNEXT_INDEX_PLANE, CNNEXT_INDEX_WINDOW, CNNEXT_INDEX_ONNX,
                                CNNEXT_INDEX_ONNX_COLUMN_MAJOR};
  const Pool2dDesc window = geometry(s, CNNEXT_FLOAT32, CNNEXT_INDEX_WINDOW, format);
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, CNNEXT_FLOAT32, format);
  const ArgPtr y = suite.arg({s.N, s.C, window.P, window.Q}, CNNEXT_FLOAT32, format);
  std::vector<ArgPtr> codes;
  for (const int32_t kind : kKinds) {
    codes.push_back(
        suite.arg({s.N, s.C, window.P, window.Q}, geometry(s, 0, kind, format).index_dtype, format));
  }
  const auto first = [&](Side side) {
    Pool2dDesc d = window;
    d.x = x->on(side), d.y = y->on(side), d.indices = codes[1]->on(side);
    return d;
  };
  suite.check<Pool2dDesc>("codes to convert", &OpTable::max_pool2d_forward, first, {y, codes[1]}, kExact);
  const auto convert = [&](size_t from, size_t to) {
    const auto desc = [&](Side side) {
      ConvertIndicesDesc d{};
      d.pool = geometry(s, CNNEXT_FLOAT32, kKinds[from], format);
      d.pool.indices = codes[from]->on(side);
      d.target_kind = kKinds[to];
      d.out = codes[to]->on(side);
      return d;
    };
    suite.check<ConvertIndicesDesc>("convert_indices " + std::to_string(from) + " to " + std::to_string(to),
                                    &OpTable::convert_indices, desc, {codes[to]}, kExact);
  };
  for (size_t to : {0, 2, 3}) convert(1, to), convert(to, 1);
  convert(3, 2);
}

}  // namespace

void cases_max_pool(Suite& suite) {
  for (const Format format : {Format::kNCHW, Format::kNHWC}) {
    for (const Shape& s : kShapes) {
      for (const int32_t dtype : kFloatTypes) {
        for (const int32_t kind : {CNNEXT_INDEX_PLANE, CNNEXT_INDEX_WINDOW})
          run_case(suite, s, dtype, kind, format);
      }
      run_uint8(suite, s, format);
      run_conversions(suite, s, format);
    }
    run_foreign(suite, format, 1000);
    run_foreign(suite, format, 1);
  }
}
