// Windows of many taps, and few windows: each window's gradient is added to its element, in row-major order,
// by the owner of the plane or, channels-last, of some channels of an image. See max_pool_grad.h.
#include <atomic>

#include "core/pool_index.h"
#include "cpu/max_pool_places.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 32768;  // elements of grad_x in a task
constexpr int64_t kTaskChannels = PlaceFinder::kMostChannels;
constexpr int kTogether = 4;  // planes, whose sums wait for one another's stores less than one's

float* x_of(const Pool2dDesc& d) { return static_cast<float*>(d.x.data); }
const float* grad_of(const Pool2dDesc& d) { return static_cast<const float*>(d.y.data); }

// Adds the gradients of `count` windows of some planes, at most kTogether, at places that lie place_step from
// one plane to the next; gradients lie grad_step. False where a place is bad.
template <class Place>
bool add_gradients(float* x, int64_t size, int64_t planes, const Place* places, int64_t place_step,
                   const float* grad, int64_t grad_step, int64_t count) {
  const auto good = [&](Place place) { return static_cast<uint64_t>(place) < static_cast<uint64_t>(size); };
  float *x0 = x, *x1 = x0 + size, *x2 = x1 + size, *x3 = x2 + size;
  const float *g0 = grad, *g1 = g0 + grad_step, *g2 = g1 + grad_step, *g3 = g2 + grad_step;
  for (int64_t i = 0; i < count; ++i) {
    const Place* at = places + i;
    if (planes == kTogether && good(at[0]) && good(at[place_step]) && good(at[2 * place_step]) &&
        good(at[3 * place_step])) {
      const float s0 = x0[at[0]] + g0[i], s1 = x1[at[place_step]] + g1[i];
      const float s2 = x2[at[2 * place_step]] + g2[i], s3 = x3[at[3 * place_step]] + g3[i];
      x0[at[0]] = s0;
      x1[at[place_step]] = s1;
      x2[at[2 * place_step]] = s2;
      x3[at[3 * place_step]] = s3;
      continue;
    }
    for (int64_t k = 0; k < planes; ++k) {
      const Place place = at[k * place_step];
      if (good(place))
        x[k * size + place] += grad[k * grad_step + i];
      else if (place != kNoTap)
        return false;
    }
  }
  return true;
}

// At most kTogether planes.
bool add_planes(const Pool2dDesc& d, const PlaceFinder& finder, int64_t plane, int64_t planes,
                int32_t* places) {
  const int64_t size = d.H * d.W, windows = d.P * d.Q;
  float* x = x_of(d) + plane * size;
  const float* grad = grad_of(d) + plane * windows;
  std::fill_n(x, planes * size, 0.f);
  if (d.index_kind == CNNEXT_INDEX_PLANE) {
    const auto* stored = static_cast<const int64_t*>(d.indices.data) + plane * windows;
    return add_gradients(x, size, planes, stored, windows, grad, windows, windows);
  }
  for (int64_t p = 0; p < d.P; p += finder.rows_once()) {
    const int64_t rows = std::min(finder.rows_once(), d.P - p), count = rows * d.Q;
    const int64_t once = std::min(finder.planes_once(), planes);
    for (int64_t i = 0; i < planes; i += once) {
      if (!finder.of_rows(plane + i, p, std::min(once, planes - i) * rows, places + i * count)) return false;
    }
    add_gradients(x, size, planes, places, count, grad + p * d.Q, windows, count);
  }
  return true;
}

// Channels-last: channels [c, c + count) of image n.
bool add_channels(const Pool2dDesc& d, const PlaceFinder& finder, int64_t n, int64_t c, int64_t count) {
  float* x = x_of(d) + n * d.H * d.W * d.C + c;
  for (int64_t i = 0; i < d.H * d.W; ++i) std::fill_n(x + i * d.C, count, 0.f);
  int32_t places[kTaskChannels];
  const float* grad = grad_of(d) + n * d.P * d.Q * d.C + c;
  for (int64_t window = 0; window < d.P * d.Q; ++window, grad += d.C) {
    if (!finder.of_pixel(n, window / d.Q, window % d.Q, c, count, places)) return false;
    for (int64_t i = 0; i < count; ++i) {
      if (places[i] >= 0) x[places[i] * d.C + i] += grad[i];
    }
  }
  return true;
}

}  // namespace

bool max_pool_scatter_backward(const Pool2dDesc& d, Exec& exec) {
  const PlaceFinder finder(d, exec);
  std::atomic<bool> good{true};
  if (d.format == Format::kNHWC) {
    const int64_t parts = ceil_div(d.C, kTaskChannels);
    exec.parallel_for(d.N * parts, [&](int64_t task) {
      const int64_t c = task % parts * kTaskChannels;
      if (!add_channels(d, finder, task / parts, c, std::min(kTaskChannels, d.C - c))) good = false;
    });
    return good;
  }
  const int64_t planes = d.N * d.C;
  const int64_t group = round_up(std::max<int64_t>(1, kTaskInputs / (d.H * d.W)), kTogether);
  const int64_t floats = kTogether * finder.rows_once() * d.Q;
  parallel_strands(exec, ceil_div(planes, group), floats, [&](int64_t task, float* scratch) {
    const int64_t end = std::min(planes, (task + 1) * group);
    for (int64_t i = task * group; i < end; i += kTogether) {
      const int64_t count = std::min<int64_t>(kTogether, end - i);
      if (!add_planes(d, finder, i, count, reinterpret_cast<int32_t*>(scratch))) good = false;
    }
  });
  return good;
}

}  // namespace cnnext
