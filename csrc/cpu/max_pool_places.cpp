#include "cpu/max_pool_places.h"

#include "core/pool_index.h"

namespace cnnext {
namespace {

constexpr int64_t kPlaces = 4096;  // windows of a plane at a time, or a row of them

}  // namespace

bool PlaceFinder::takes(const Pool2dDesc& d) {
  return d.index_kind != CNNEXT_INDEX_ONNX_COLUMN_MAJOR && d.H * d.W < INT32_MAX && d.R * d.S < INT32_MAX &&
         d.stride_h < INT32_MAX / d.P && d.stride_w < INT32_MAX / d.Q;
}

PlaceFinder::PlaceFinder(const Pool2dDesc& desc, Exec& exec)
    : d(desc),
      rules_(desc, exec),
      rows_(window_table({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec)),
      columns_(window_table({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec)),
      rows_once_(std::clamp<int64_t>(kPlaces / d.Q, 1, d.P)),
      corners_(exec.scratch_array<int32_t>(planes_once() * rows_once_ * d.Q)) {
  for (int64_t i = 0; i < planes_once() * rows_once_ * d.Q; ++i) {
    corners_[i] =
        static_cast<int32_t>(low_place(i / d.Q % rows_once_ * d.stride_h, d.W, columns_[i % d.Q].start));
  }
}

int64_t PlaceFinder::place(int64_t i, int64_t plane, int64_t p, int64_t q) const {
  const PoolPosition at = {plane / d.C, plane % d.C, p, q};
  return plane_from_code(d, d.index_kind, load_index(d.indices.data, d.index_dtype, i), at);
}

// Indices that begin at `base`, `step` more from one to the next.
bool PlaceFinder::from_flat(const int64_t* indices, int64_t count, int64_t base, int64_t step,
                            int32_t* places) const {
  const uint64_t size = static_cast<uint64_t>(d.H * d.W);
  bool good = true;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t place = static_cast<uint64_t>(indices[i]) - static_cast<uint64_t>(base + i * step);
    places[i] = indices[i] == kNoTap ? -1 : static_cast<int32_t>(place);
    good &= place < size || indices[i] == kNoTap;
  }
  return good;
}

bool PlaceFinder::of_rows(int64_t plane, int64_t p, int64_t count, int32_t* places) const {
  const int64_t at = (plane * d.P + p) * d.Q, windows = count * d.Q;
  if (d.index_dtype == CNNEXT_UINT8) {
    const uint8_t* taps = static_cast<const uint8_t*>(d.indices.data) + at;
    if (!rules_.plane_rows(taps, p, count)) return false;
    ops_ukernels().max_pool_grad.places_of_taps({taps, windows, low_place(rows_[p].start, d.W), corners_, d.S,
                                                 low_place(d.dilation_h, d.W),
                                                 static_cast<uint32_t>(d.dilation_w), places});
    return true;
  }
  if (d.index_kind != CNNEXT_INDEX_WINDOW) {
    const int64_t base = d.index_kind == CNNEXT_INDEX_PLANE ? 0 : plane * d.H * d.W;
    return from_flat(static_cast<const int64_t*>(d.indices.data) + at, windows, base, 0, places);
  }
  bool good = true;
  for (int64_t i = 0; i < windows; ++i) {
    const int64_t found = place(at + i, plane, p + i / d.Q, i % d.Q);
    places[i] = static_cast<int32_t>(found);
    good &= found != kBadIndex;
  }
  return good;
}

bool PlaceFinder::of_pixel(int64_t n, int64_t p, int64_t q, int64_t c, int64_t count, int32_t* places) const {
  static constexpr int32_t kSameCorner[kMostChannels] = {};
  const int64_t at = ((n * d.P + p) * d.Q + q) * d.C + c;
  if (d.index_dtype == CNNEXT_UINT8) {
    const uint8_t* taps = static_cast<const uint8_t*>(d.indices.data) + at;
    if (!rules_.pixel(taps, count, p, q)) return false;
    ops_ukernels().max_pool_grad.places_of_taps(
        {taps, count, low_place(rows_[p].start, d.W, columns_[q].start), kSameCorner, d.S,
         low_place(d.dilation_h, d.W), static_cast<uint32_t>(d.dilation_w), places});
    return true;
  }
  const int64_t plane = n * d.C + c, size = d.H * d.W;
  if (d.index_kind != CNNEXT_INDEX_WINDOW) {
    const bool onnx = d.index_kind == CNNEXT_INDEX_ONNX;
    return from_flat(static_cast<const int64_t*>(d.indices.data) + at, count, onnx ? plane * size : 0,
                     onnx ? size : 0, places);
  }
  bool good = true;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t found = place(at + i, plane + i, p, q);
    places[i] = static_cast<int32_t>(found);
    good &= found != kBadIndex;
  }
  return good;
}

}  // namespace cnnext
