// Windows of many taps, and few windows: each window's gradient is added to its element, in row-major order,
// by the owner of the plane or, channels-last, of some channels of an image. See max_pool_grad.h.
#include <atomic>

#include "core/pool_index.h"
#include "cpu/max_pool_grad.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 32768;  // elements of grad_x in a task
constexpr int64_t kTaskChannels = 64;   // channels-last
constexpr int kTogether = 4;            // planes, whose sums wait for one another's stores less than one's
constexpr int64_t kPlaces = 4096;       // windows of a plane at a time, or a row of them

float* x_of(const Pool2dDesc& d) { return static_cast<float*>(d.x.data); }
const float* grad_of(const Pool2dDesc& d) { return static_cast<const float*>(d.y.data); }

// What all tasks share.
struct Problem {
  const Pool2dDesc& d;
  TapRules rules;
  const WindowTaps *rows, *columns;
  bool bytes;         // codes are taps in bytes
  int64_t rows_once;  // rows of windows at a time
  int32_t* corners;   // of so many rows of windows, less the first one's row

  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc),
        rules(desc, exec),
        rows(window_table({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec)),
        columns(window_table({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec)),
        bytes(d.index_dtype == CNNEXT_UINT8),
        rows_once(std::clamp<int64_t>(kPlaces / d.Q, 1, d.P)),
        corners(exec.scratch_array<int32_t>(rows_once * d.Q)) {
    for (int64_t i = 0; i < rows_once * d.Q; ++i) {
      corners[i] = static_cast<int32_t>(i / d.Q * d.stride_h * d.W + columns[i % d.Q].start);
    }
  }
  int64_t code(int64_t at) const { return load_index(d.indices.data, d.index_dtype, at); }
  // The place in the plane that a code of window (p, q) names, kNoTap or kBadIndex.
  int64_t place(int64_t code, int64_t p, int64_t q) const {
    if (code == kNoTap) return code;
    if (d.index_kind == CNNEXT_INDEX_PLANE) return code >= 0 && code < d.H * d.W ? code : kBadIndex;
    const WindowTaps &row = rows[p], &column = columns[q];
    const int64_t r = code / d.S, s = code % d.S;
    const bool good = code >= 0 && r >= row.begin && r < row.end && s >= column.begin && s < column.end;
    return good ? row.at(r) * d.W + column.at(s) : kBadIndex;
  }
};

// ---- planes ----

// The places of rows [p, p + count) of windows of a plane, from taps. False where a code is bad.
bool find_places(const Problem& problem, int64_t plane, int64_t p, int64_t count, int32_t* places) {
  const Pool2dDesc& d = problem.d;
  const int64_t at = (plane * d.P + p) * d.Q, windows = count * d.Q;
  if (problem.bytes) {
    const uint8_t* taps = static_cast<const uint8_t*>(d.indices.data) + at;
    ops_ukernels().max_pool_grad.places_of_taps({taps, windows, problem.rows[p].start * d.W, problem.corners,
                                                 d.S, d.dilation_h * d.W, d.dilation_w, places});
    return problem.rules.plane_rows(taps, p, count);
  }
  bool good = true;
  for (int64_t i = 0; i < windows; ++i) {
    const int64_t place = problem.place(problem.code(at + i), p + i / d.Q, i % d.Q);
    places[i] = static_cast<int32_t>(place);
    good &= place != kBadIndex;
  }
  return good;
}

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
bool add_planes(const Problem& problem, int64_t plane, int64_t planes, int32_t* places) {
  const Pool2dDesc& d = problem.d;
  const int64_t size = d.H * d.W, windows = d.P * d.Q;
  float* x = x_of(d) + plane * size;
  const float* grad = grad_of(d) + plane * windows;
  std::fill_n(x, planes * size, 0.f);
  if (d.index_kind == CNNEXT_INDEX_PLANE) {
    const auto* stored = static_cast<const int64_t*>(d.indices.data) + plane * windows;
    return add_gradients(x, size, planes, stored, windows, grad, windows, windows);
  }
  for (int64_t p = 0; p < d.P; p += problem.rows_once) {
    const int64_t rows = std::min(problem.rows_once, d.P - p), count = rows * d.Q;
    for (int64_t i = 0; i < planes; ++i) {
      if (!find_places(problem, plane + i, p, rows, places + i * count)) return false;
    }
    add_gradients(x, size, planes, places, count, grad + p * d.Q, windows, count);
  }
  return true;
}

// ---- channels-last ----

// Channels [c, c + count) of image n, at most kTaskChannels. False where a code is bad.
bool add_channels(const Problem& problem, int64_t n, int64_t c, int64_t count) {
  const Pool2dDesc& d = problem.d;
  float* x = x_of(d) + n * d.H * d.W * d.C + c;
  for (int64_t i = 0; i < d.H * d.W; ++i) std::fill_n(x + i * d.C, count, 0.f);
  const int32_t same_corner[kTaskChannels] = {};
  int32_t places[kTaskChannels];
  for (int64_t p = 0; p < d.P; ++p) {
    for (int64_t q = 0; q < d.Q; ++q) {
      const int64_t at = ((n * d.P + p) * d.Q + q) * d.C + c;
      if (problem.bytes) {
        const uint8_t* taps = static_cast<const uint8_t*>(d.indices.data) + at;
        const int64_t corner = problem.rows[p].start * d.W + problem.columns[q].start;
        if (!problem.rules.good(taps, count, p, q)) return false;
        ops_ukernels().max_pool_grad.places_of_taps(
            {taps, count, corner, same_corner, d.S, d.dilation_h * d.W, d.dilation_w, places});
      } else {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t place = problem.place(problem.code(at + i), p, q);
          if (place == kBadIndex) return false;
          places[i] = static_cast<int32_t>(place);
        }
      }
      for (int64_t i = 0; i < count; ++i) {
        if (places[i] >= 0) x[places[i] * d.C + i] += grad_of(d)[at + i];
      }
    }
  }
  return true;
}

}  // namespace

bool max_pool_scatter_backward(const Pool2dDesc& d, Exec& exec) {
  const Problem problem(d, exec);
  std::atomic<bool> good{true};
  if (d.format == Format::kNHWC) {
    const int64_t parts = ceil_div(d.C, kTaskChannels);
    exec.parallel_for(d.N * parts, [&](int64_t task) {
      const int64_t c = task % parts * kTaskChannels;
      if (!add_channels(problem, task / parts, c, std::min(kTaskChannels, d.C - c))) good = false;
    });
    return good;
  }
  const int64_t planes = d.N * d.C;
  const int64_t group = round_up(std::max<int64_t>(1, kTaskInputs / (d.H * d.W)), kTogether);
  const int64_t floats = kTogether * problem.rows_once * d.Q;
  parallel_strands(exec, ceil_div(planes, group), floats, [&](int64_t task, float* scratch) {
    const int64_t end = std::min(planes, (task + 1) * group);
    for (int64_t i = task * group; i < end; i += kTogether) {
      const int64_t count = std::min<int64_t>(kTogether, end - i);
      if (!add_planes(problem, i, count, reinterpret_cast<int32_t*>(scratch))) good = false;
    }
  });
  return good;
}

}  // namespace cnnext
