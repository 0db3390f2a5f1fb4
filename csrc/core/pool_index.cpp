#include "core/pool_index.h"

#include "core/error.h"

namespace cnnext {
namespace {

int64_t plane_from_tap(const Pool2dDesc& d, int64_t tap, const PoolPosition& at) {
  if (tap < 0 || tap >= d.R * d.S) return kBadIndex;
  const int64_t h = at.p * d.stride_h - d.pad_top + tap / d.S * d.dilation_h;
  const int64_t w = at.q * d.stride_w - d.pad_left + tap % d.S * d.dilation_w;
  if (h < 0 || h >= d.H || w < 0 || w >= d.W) return kBadIndex;
  return h * d.W + w;
}

int64_t tap_from_plane(const Pool2dDesc& d, int64_t plane, const PoolPosition& at) {
  const int64_t h = plane / d.W - (at.p * d.stride_h - d.pad_top);
  const int64_t w = plane % d.W - (at.q * d.stride_w - d.pad_left);
  if (h < 0 || w < 0 || h % d.dilation_h != 0 || w % d.dilation_w != 0) return kBadIndex;
  const int64_t r = h / d.dilation_h, s = w / d.dilation_w;
  return r < d.R && s < d.S ? r * d.S + s : kBadIndex;
}

}  // namespace

int64_t plane_from_code(const Pool2dDesc& d, int32_t kind, int64_t code, const PoolPosition& at) {
  if (code == kNoTap) return kNoTap;
  if (kind == CNNEXT_INDEX_WINDOW) return plane_from_tap(d, code, at);
  const int64_t plane_size = d.H * d.W;
  const int64_t base = kind == CNNEXT_INDEX_PLANE ? 0 : (at.n * d.C + at.c) * plane_size;
  if (code < base || code - base >= plane_size) return kBadIndex;
  const int64_t position = code - base;
  if (kind != CNNEXT_INDEX_ONNX_COLUMN_MAJOR) return position;
  return position % d.H * d.W + position / d.H;
}

int64_t code_from_plane(const Pool2dDesc& d, int32_t kind, int64_t plane, const PoolPosition& at) {
  if (plane < 0) return plane;
  const int64_t base = (at.n * d.C + at.c) * d.H * d.W;
  switch (kind) {
    case CNNEXT_INDEX_WINDOW:
      return tap_from_plane(d, plane, at);
    case CNNEXT_INDEX_ONNX:
      return base + plane;
    case CNNEXT_INDEX_ONNX_COLUMN_MAJOR:
      return base + plane % d.W * d.H + plane / d.W;
    default:
      return plane;
  }
}

void fail_bad_index(const Pool2dDesc& d, int32_t target_kind, const char* name) {
  const Tensor& t = d.indices;
  for (int64_t i = 0; i < d.N * d.C * d.P * d.Q; ++i) {
    const PoolPosition at = {i / (d.C * d.P * d.Q), i / (d.P * d.Q) % d.C, i / d.Q % d.P, i % d.Q};
    const int64_t offset =
        at.n * t.strides[0] + at.c * t.strides[1] + at.p * t.strides[2] + at.q * t.strides[3];
    const int64_t code = load_index(t.data, t.dtype, offset);
    const int64_t plane = plane_from_code(d, d.index_kind, code, at);
    const std::string where = concat(name, " holds ", code, " at (n, c, p, q) = (", at.n, ", ", at.c, ", ",
                                     at.p, ", ", at.q, "); ");
    if (plane == kBadIndex && d.index_kind == CNNEXT_INDEX_WINDOW) {
      fail_value(where, "it must be the number, from 0 to ", d.R * d.S - 1,
                 ", of a tap that lies in the image of height ", d.H, " and width ", d.W);
    }
    if (plane == kBadIndex) {
      const int64_t base = d.index_kind == CNNEXT_INDEX_PLANE ? 0 : (at.n * d.C + at.c) * d.H * d.W;
      fail_value(where, "it must be between ", base, " and ", base + d.H * d.W - 1,
                 ", or -1 for a window without a valid tap");
    }
    if (code_from_plane(d, target_kind, plane, at) == kBadIndex) {
      fail_value(where, "row ", plane / d.W, ", column ", plane % d.W, " is no tap of that window");
    }
  }
  fail_value(name, " changed during the call");
}

}  // namespace cnnext
