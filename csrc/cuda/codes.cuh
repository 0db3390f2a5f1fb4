// The four kinds of argmax on the device, as core/pool_index.h has them on the host. Codes come from outside:
// one that names no element of its plane is never used as an address.
#pragma once

#include "core/pool_index.h"
#include "cuda/pool.cuh"

namespace cnnext::cuda {

struct Codes {
  void* data;
  int32_t dtype, kind;
};
inline Codes codes_of(const Pool2dDesc& d) { return {d.indices.data, d.indices.dtype, d.index_kind}; }

template <int V, class Code>
CNNEXT_DEVICE void load_codes_as(const void* data, int64_t at, int64_t (&codes)[V]) {
  constexpr int kAtOnce = V < kWidest<Code> ? V : kWidest<Code>;
#pragma unroll
  for (int i = 0; i < V; i += kAtOnce) {
    const Vec<Code, kAtOnce> part = load<kAtOnce>(static_cast<const Code*>(data) + at + i);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const bool none = std::is_unsigned_v<Code> && part[j] == static_cast<Code>(~Code{0});
      codes[i + j] = none ? kNoTap : static_cast<int64_t>(part[j]);
    }
  }
}
// kNoTap for all ones; the type is the same for all threads.
template <int V>
CNNEXT_DEVICE void load_codes(const void* data, int32_t dtype, int64_t at, int64_t (&codes)[V]) {
  switch (dtype) {
    case CNNEXT_UINT8:
      return load_codes_as<V, uint8_t>(data, at, codes);
    case CNNEXT_UINT16:
      return load_codes_as<V, uint16_t>(data, at, codes);
    case CNNEXT_INT32:
      return load_codes_as<V, int32_t>(data, at, codes);
    default:
      return load_codes_as<V, int64_t>(data, at, codes);
  }
}

template <int V, class Code>
CNNEXT_DEVICE void store_codes_as(void* data, int64_t at, const int64_t (&codes)[V]) {
  constexpr int kAtOnce = V < kWidest<Code> ? V : kWidest<Code>;
#pragma unroll
  for (int i = 0; i < V; i += kAtOnce) {
    Vec<Code, kAtOnce> part;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) part[j] = static_cast<Code>(codes[i + j]);
    store(static_cast<Code*>(data) + at + i, part);
  }
}
template <int V>
CNNEXT_DEVICE void store_codes(void* data, int32_t dtype, int64_t at, const int64_t (&codes)[V]) {
  switch (dtype) {
    case CNNEXT_UINT8:
      return store_codes_as<V, uint8_t>(data, at, codes);
    case CNNEXT_UINT16:
      return store_codes_as<V, uint16_t>(data, at, codes);
    case CNNEXT_INT32:
      return store_codes_as<V, int32_t>(data, at, codes);
    default:
      return store_codes_as<V, int64_t>(data, at, codes);
  }
}

// The position h * W + w that a code of window (p, q) names, kNoTap or kBadIndex.
CNNEXT_DEVICE int64_t plane_of_code(const PoolShape& s, int32_t kind, int64_t code, const Pixel& at) {
  if (code == kNoTap) return kNoTap;
  const int64_t H = s.rows.size, W = s.columns.size;
  if (kind == CNNEXT_INDEX_WINDOW) {
    if (code < 0 || code >= s.rows.kernel * s.columns.kernel) return kBadIndex;
    const int64_t h = s.rows.position(at.row, code / s.columns.kernel);
    const int64_t w = s.columns.position(at.column, code % s.columns.kernel);
    return h < 0 || h >= H || w < 0 || w >= W ? kBadIndex : h * W + w;
  }
  const int64_t first = kind == CNNEXT_INDEX_PLANE ? 0 : at.image_channel * H * W;
  if (code < first || code - first >= H * W) return kBadIndex;
  const int64_t position = code - first;
  return kind == CNNEXT_INDEX_ONNX_COLUMN_MAJOR ? position % H * W + position / H : position;
}

// The code of a plane position (or kNoTap); kBadIndex where it is no tap of the window.
CNNEXT_DEVICE int64_t code_of_plane(const PoolShape& s, int32_t kind, int64_t plane, const Pixel& at) {
  if (plane < 0) return plane;
  const int64_t H = s.rows.size, W = s.columns.size, first = at.image_channel * H * W;
  const int64_t h = plane / W, w = plane % W;
  switch (kind) {
    case CNNEXT_INDEX_WINDOW: {
      if (h < s.rows.start(at.row) || w < s.columns.start(at.column)) return kBadIndex;
      const int64_t r = s.rows.tap_at(at.row, h), t = s.columns.tap_at(at.column, w);
      if (r < 0 || t < 0 || r >= s.rows.kernel || t >= s.columns.kernel) return kBadIndex;
      return r * s.columns.kernel + t;
    }
    case CNNEXT_INDEX_ONNX:
      return first + plane;
    case CNNEXT_INDEX_ONNX_COLUMN_MAJOR:
      return first + w * H + h;
    default:
      return plane;
  }
}

}  // namespace cnnext::cuda
