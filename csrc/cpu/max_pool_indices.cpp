// What is done at the places that indices name: reading (max_unpool2d's gradient), writing (max_unpool2d),
// and the indices' other forms. Where an index is bad, ref takes the call and tells which.
#include <atomic>

#include "core/pool_index.h"
#include "cpu/cpu.h"
#include "cpu/max_pool_places.h"
#include "cpu/ref/ref.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskWindows = 16384;

// body(plane, p, rows, places) for every run of rows of windows of every plane; a task owns whole planes.
// False where an index is bad.
template <class Start, class Body>
bool for_planes(const Pool2dDesc& d, Exec& exec, const Start& start, const Body& body) {
  const PlaceFinder finder(d, exec);
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(1, kTaskWindows / (d.P * d.Q));
  std::atomic<bool> good{true};
  parallel_strands(
      exec, ceil_div(planes, group), finder.rows_once() * d.Q, [&](int64_t task, float* scratch) {
        auto* const places = reinterpret_cast<int32_t*>(scratch);
        for (int64_t plane = task * group; plane < std::min(planes, (task + 1) * group); ++plane) {
          start(plane);
          for (int64_t p = 0; p < d.P; p += finder.rows_once()) {
            const int64_t rows = std::min(finder.rows_once(), d.P - p);
            if (!finder.of_rows(plane, p, rows, places)) {
              good = false;
              return;
            }
            body(plane, p, rows, places);
          }
        }
      });
  return good;
}

// Channels-last: body(n, p, q, c, count, places) for some channels of every window; a task owns them in its
// image.
template <class Start, class Body>
bool for_channels(const Pool2dDesc& d, Exec& exec, const Start& start, const Body& body) {
  constexpr int64_t kChannels = PlaceFinder::kMostChannels;
  const PlaceFinder finder(d, exec);
  const int64_t parts = ceil_div(d.C, kChannels);
  std::atomic<bool> good{true};
  exec.parallel_for(d.N * parts, [&](int64_t task) {
    const int64_t n = task / parts, c = task % parts * kChannels, count = std::min(kChannels, d.C - c);
    int32_t places[kChannels];
    start(n, c, count);
    for (int64_t i = 0; i < d.P * d.Q; ++i) {
      if (!finder.of_pixel(n, i / d.Q, i % d.Q, c, count, places)) {
        good = false;
        return;
      }
      body(n, i / d.Q, i % d.Q, c, count, places);
    }
  });
  return good;
}

float* floats(const Tensor& t) { return static_cast<float*>(t.data); }

// y at the windows from x at their places, or x at the places from y.
template <bool kWrites>
bool move(const Pool2dDesc& d, Exec& exec) {
  const int64_t size = d.H * d.W, windows = d.P * d.Q;
  // One window's element; along: from one place to the next.
  const auto one = [](float* x, float* y, int32_t place, int64_t along) {
    if (kWrites) {
      if (place >= 0) x[place * along] = *y;
    } else {
      *y = place >= 0 ? x[place * along] : 0.f;
    }
  };
  float *const x = floats(d.x), *const y = floats(d.y);
  if (d.format == Format::kNCHW) {
    return for_planes(
        d, exec,
        [&](int64_t plane) {
          if (kWrites) std::fill_n(x + plane * size, size, 0.f);
        },
        [&](int64_t plane, int64_t p, int64_t rows, const int32_t* places) {
          float *const from = x + plane * size, *const to = y + plane * windows + p * d.Q;
          for (int64_t i = 0; i < rows * d.Q; ++i) one(from, to + i, places[i], 1);
        });
  }
  return for_channels(
      d, exec,
      [&](int64_t n, int64_t c, int64_t count) {
        for (int64_t i = 0; kWrites && i < size; ++i) std::fill_n(x + (n * size + i) * d.C + c, count, 0.f);
      },
      [&](int64_t n, int64_t p, int64_t q, int64_t c, int64_t count, const int32_t* places) {
        float *const from = x + n * size * d.C + c, *const to = y + (n * windows + p * d.Q + q) * d.C + c;
        for (int64_t i = 0; i < count; ++i) one(from + i, to + i, places[i], d.C);
      });
}

// Places to plane indices, or ONNX's, which begin at base and are step more from one to the next.
void store_flat(const int32_t* places, int64_t count, int64_t base, int64_t step, int64_t* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = places[i] < 0 ? kNoTap : base + i * step + places[i];
}

bool convert_to_flat(const ConvertIndicesDesc& desc, Exec& exec) {
  const Pool2dDesc& d = desc.pool;
  const int64_t size = desc.target_kind == CNNEXT_INDEX_PLANE ? 0 : d.H * d.W, windows = d.P * d.Q;
  auto* const to = static_cast<int64_t*>(desc.out.data);
  if (d.format == Format::kNCHW) {
    return for_planes(
        d, exec, [](int64_t) {},
        [&](int64_t plane, int64_t p, int64_t rows, const int32_t* places) {
          store_flat(places, rows * d.Q, plane * size, 0, to + plane * windows + p * d.Q);
        });
  }
  return for_channels(
      d, exec, [](int64_t, int64_t, int64_t) {},
      [&](int64_t n, int64_t p, int64_t q, int64_t c, int64_t count, const int32_t* places) {
        store_flat(places, count, (n * d.C + c) * size, size, to + (n * windows + p * d.Q + q) * d.C + c);
      });
}

// Plane indices to taps in bytes, some rows of windows at a time.
bool convert_to_taps(const ConvertIndicesDesc& desc, Exec& exec) {
  const Pool2dDesc& d = desc.pool;
  const TapRules rules(d, exec);
  const TapSource source(d);
  const PlaceFinder finder(d, exec);
  const bool pixels = d.format == Format::kNHWC;
  const int64_t row = d.Q * (pixels ? d.C : 1), images = pixels ? d.N : d.N * d.C;
  const int64_t step = pixels ? 1 : finder.rows_once(), blocks = ceil_div(d.P, step);
  const int64_t group = std::max<int64_t>(1, kTaskWindows / (row * step));
  std::atomic<bool> good{true};
  exec.parallel_for(ceil_div(images * blocks, group), [&](int64_t task) {
    for (int64_t i = task * group; i < std::min(images * blocks, (task + 1) * group); ++i) {
      const int64_t image = i / blocks, p = i % blocks * step, rows = std::min(step, d.P - p);
      uint8_t* const taps = static_cast<uint8_t*>(desc.out.data) + (image * d.P + p) * row;
      if (pixels)
        source.pixel_row(image, p, taps);
      else
        source.plane_rows(image, p, rows, finder.corners(), taps);
      if (!(pixels ? rules.pixel_row(taps, p) : rules.plane_rows(taps, p, rows))) good = false;
    }
  });
  return good;
}

}  // namespace

Ran cpu_max_pool2d_gather(const Pool2dDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || !PlaceFinder::takes(d)) return Ran::kUnsupported;
  exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_gather"));
  return move<false>(d, exec) ? Ran::kDone : ref_max_pool2d_gather(d, exec);
}

Ran cpu_max_unpool2d(const Pool2dDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || !PlaceFinder::takes(d)) return Ran::kUnsupported;
  exec.ran(CNNEXT_KERNEL_NAME("max_unpool2d"));
  return move<true>(d, exec) ? Ran::kDone : ref_max_unpool2d(d, exec);
}

Ran cpu_convert_indices(const ConvertIndicesDesc& desc, Exec& exec) {
  const Pool2dDesc& d = desc.pool;
  if (!PlaceFinder::takes(d) || numel(desc.out) == 0) return Ran::kUnsupported;
  const bool flat = desc.target_kind == CNNEXT_INDEX_PLANE || desc.target_kind == CNNEXT_INDEX_ONNX;
  const bool taps = desc.target_kind == CNNEXT_INDEX_WINDOW && d.index_kind == CNNEXT_INDEX_PLANE;
  if (!flat && !(taps && TapSource::takes(d))) return Ran::kUnsupported;
  exec.ran(CNNEXT_KERNEL_NAME("convert_indices"));
  return (flat ? convert_to_flat(desc, exec) : convert_to_taps(desc, exec)) ? Ran::kDone
                                                                            : ref_convert_indices(desc, exec);
}

}  // namespace cnnext
