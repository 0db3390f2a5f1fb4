// Max-pool's forward. Channels-last runs vectors over the channels of one pixel after the other. Small planes
// are brought into that form, some vectors of planes at a time, in L2. Large planes run vectors over a row of
// outputs, from strips of image rows that are padded and split by stride.
#include <cmath>

#include "cpu/cpu.h"
#include "cpu/max_pool_bytes.h"
#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskOutputs = 16384;  // outputs of a task, times the taps in use
constexpr int64_t kChunkCodes = 2048;    // codes kept in L1 between the kernel and their final form

// What both layouts need of a descriptor.
struct Problem {
  const Pool2dDesc& d;
  const MaxPoolUkernels& kernels;
  bool wants_codes, plane_codes;
  int64_t lanes;
  const WindowTaps *rows, *columns;  // by p and by q

  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc),
        kernels(ops_ukernels().max_pool),
        wants_codes(present(desc.indices)),
        plane_codes(desc.index_kind == CNNEXT_INDEX_PLANE),
        lanes(ops_ukernels().lanes),
        rows(window_table({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec)),
        columns(window_table({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec)) {}

  // The same windows over other planes.
  Problem(const Pool2dDesc& desc, const Problem& like)
      : d(desc),
        kernels(like.kernels),
        wants_codes(like.wants_codes),
        plane_codes(like.plane_codes),
        lanes(like.lanes),
        rows(like.rows),
        columns(like.columns) {}

  const float* x() const { return static_cast<const float*>(d.x.data); }
  float* y() const { return static_cast<float*>(d.y.data); }
  void put_codes(const int32_t* codes, int64_t count, int64_t at) const {
    char* out = static_cast<char*>(d.indices.data) + at * dtype_size(d.index_dtype);
    kernels.narrow(codes, count, d.index_dtype, out);
  }
};

// ---- channels-last ----

class Pixels {
 public:
  Pixels(const Problem& problem, void* scratch) : p_(problem), d_(problem.d) {
    ScratchParts parts(scratch);
    taps_ = parts.take<const float*>(d_.R * d_.S);
    tap_codes_ = parts.take<int32_t>(d_.R * d_.S);
    codes_ = parts.take<int32_t>(std::max(kChunkCodes, d_.C));
    floats_ = parts.floats();
  }
  int64_t scratch_floats() const { return floats_; }

  void row(int64_t n, int64_t p, const TapRange& interior) const {
    const WindowTaps& rows = p_.rows[p];
    for (int64_t q = 0; q < interior.begin; ++q) run(n, p, rows, q, 1);
    if (interior.end > interior.begin) run(n, p, rows, interior.begin, interior.end - interior.begin);
    for (int64_t q = interior.end; q < d_.Q; ++q) run(n, p, rows, q, 1);
  }

 private:
  // `count` outputs from q on, which have the same taps.
  void run(int64_t n, int64_t p, const WindowTaps& rows, int64_t q, int64_t count) const {
    const WindowTaps& columns = p_.columns[q];
    int64_t taps = 0;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t s = columns.begin; s < columns.end; ++s) {
        const int64_t h = rows.at(r), w = columns.at(s);
        taps_[taps] = p_.x() + ((n * d_.H + h) * d_.W + w) * d_.C;
        tap_codes_[taps++] = static_cast<int32_t>(p_.plane_codes ? h * d_.W + w : r * d_.S + s);
      }
    }
    const int64_t chunk = p_.wants_codes ? std::max<int64_t>(1, kChunkCodes / d_.C) : count;
    for (int64_t first = 0; first < count; first += chunk) {
      const int64_t pixels = std::min(chunk, count - first);
      const int64_t out = ((n * d_.P + p) * d_.Q + q + first) * d_.C;
      if (taps == 0) {
        empty(out, pixels * d_.C);
        continue;
      }
      const int32_t code_step = p_.plane_codes ? static_cast<int32_t>(d_.stride_w) : 0;
      p_.kernels.pixels({taps_, tap_codes_, taps, pixels, d_.C, d_.stride_w * d_.C, code_step, p_.y() + out,
                         p_.wants_codes ? codes_ : nullptr});
      if (p_.wants_codes) p_.put_codes(codes_, pixels * d_.C, out);
      for (int64_t t = 0; t < taps; ++t) {
        taps_[t] += pixels * d_.stride_w * d_.C;
        tap_codes_[t] += static_cast<int32_t>(pixels) * code_step;
      }
    }
  }

  void empty(int64_t out, int64_t count) const {
    std::fill_n(p_.y() + out, count, -INFINITY);
    if (!p_.wants_codes) return;
    std::fill_n(codes_, count, -1);
    p_.put_codes(codes_, count, out);
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  const float** taps_;
  int32_t* tap_codes_;
  int32_t* codes_;
  int64_t floats_;
};

void run_pixels(const Problem& problem, Exec& exec) {
  const Pool2dDesc& d = problem.d;
  const TapRange interior = interior_columns(d);
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskOutputs / (d.Q * d.C), 1, d.P);
  const int64_t blocks = (d.P + rows_per_task - 1) / rows_per_task;
  const int64_t floats = Pixels(problem, nullptr).scratch_floats();
  parallel_strands(exec, d.N * blocks, floats, [&](int64_t task, float* scratch) {
    const Pixels pixels(problem, scratch);
    const int64_t n = task / blocks, begin = task % blocks * rows_per_task;
    const int64_t end = std::min(d.P, begin + rows_per_task);
    for (int64_t p = begin; p < end; ++p) pixels.row(n, p, interior);
  });
}

// ---- small planes: a group of them as the channels of one image ----

constexpr int64_t kGroupFloats = 65536;  // of a group's image, which stays in L2
constexpr int64_t kGroupVectors = 4;     // at most

// How many planes make a group; 0 where planes are too large.
int64_t group_planes(const Problem& problem) {
  const Pool2dDesc& d = problem.d;
  const int64_t vectors = kGroupFloats / (std::max(d.H * d.W, d.P * d.Q) * problem.lanes);
  return std::min(std::clamp<int64_t>(vectors, 0, kGroupVectors) * problem.lanes, d.N * d.C);
}

class Group {
 public:
  Group(const Problem& problem, int64_t planes, void* scratch) : p_(problem), d_(problem.d), planes_(planes) {
    ScratchParts parts(scratch);
    x_ = parts.take<float>(d_.H * d_.W * planes);
    y_ = parts.take<float>(d_.P * d_.Q * planes);
    codes_ = parts.take<int32_t>(p_.wants_codes ? d_.P * d_.Q * planes : 0);
    plane_codes_ = parts.take<int32_t>(p_.wants_codes ? d_.P * d_.Q * planes : 0);
    pixels_ = scratch ? static_cast<char*>(scratch) + parts.bytes() : nullptr;
    Pool2dDesc d = d_;
    d.C = planes;
    floats_ = parts.floats() + Pixels(Problem(d, problem), nullptr).scratch_floats();
  }
  int64_t scratch_floats() const { return floats_; }

  void run(int64_t first, const TapRange& interior) const {
    const int64_t count = std::min(planes_, d_.N * d_.C - first), in = d_.H * d_.W, out = d_.P * d_.Q;
    const auto transpose = ukernels().conv_pack.transpose;
    transpose({p_.x() + first * in, in, count, in, x_, count});
    Pool2dDesc d = d_;
    d.N = 1;
    d.C = count;
    d.x.data = x_;
    d.y.data = y_;
    d.indices.data = codes_;
    d.index_dtype = CNNEXT_INT32;
    const Problem problem(d, p_);
    const Pixels pixels(problem, pixels_);
    for (int64_t p = 0; p < d.P; ++p) pixels.row(0, p, interior);
    transpose({y_, count, out, count, p_.y() + first * out, out});
    if (!p_.wants_codes) return;
    // Moved as floats: loads, shuffles and stores leave the bits alone.
    transpose(
        {reinterpret_cast<float*>(codes_), count, out, count, reinterpret_cast<float*>(plane_codes_), out});
    p_.put_codes(plane_codes_, count * out, first * out);
  }

 private:
  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t planes_, floats_;
  float *x_, *y_;
  int32_t *codes_, *plane_codes_;
  void* pixels_;
};

void run_groups(const Problem& problem, int64_t planes, Exec& exec) {
  const Pool2dDesc& d = problem.d;
  const TapRange interior = interior_columns(d);
  const int64_t floats = Group(problem, planes, nullptr).scratch_floats();
  parallel_strands(exec, ceil_div(d.N * d.C, planes), floats, [&](int64_t task, float* scratch) {
    Group(problem, planes, scratch).run(task * planes, interior);
  });
}

// ---- planes ----

// What depends on the output's column alone; one for all tasks.
struct Columns {
  int64_t padded;         // Q in whole vectors
  int64_t phase_step;     // floats of one phase of a strip
  int32_t* first_codes;   // column part of the first valid tap's code, less the ramp
  int32_t* ramp;          // q * stride for plane codes, 0 for taps
  bool all_valid = true;  // no output is without a valid column
  int64_t num_taps = 0;   // along a row, less those in the padding for every output
  int64_t* tap_offsets;   // where they are in a strip
  int32_t* tap_codes;     // column part of their codes, less the ramp

  Columns(const Problem& problem, Exec& exec) {
    const Pool2dDesc& d = problem.d;
    padded = round_up(d.Q, problem.lanes);
    const int64_t reach = padded + (d.S - 1) * d.dilation_w / d.stride_w;
    phase_step = round_up(std::max(reach, (d.W - 1 + d.pad_left) / d.stride_w + 1), 16);
    first_codes = exec.scratch_array<int32_t>(padded);
    ramp = exec.scratch_array<int32_t>(padded);
    tap_offsets = exec.scratch_array<int64_t>(d.S);
    tap_codes = exec.scratch_array<int32_t>(d.S);
    for (int64_t s = 0; s < d.S && s * d.dilation_w - d.pad_left < d.W; ++s) {
      const int64_t w = s * d.dilation_w;
      tap_offsets[s] = w % d.stride_w * phase_step + w / d.stride_w;
      tap_codes[s] = static_cast<int32_t>(problem.plane_codes ? w - d.pad_left : s);
      ++num_taps;
    }
    for (int64_t q = 0; q < padded; ++q) {
      const WindowTaps taps =
          window_taps(std::min(q, d.Q - 1), d.stride_w, d.pad_left, d.dilation_w, d.S, d.W);
      if (taps.begin == taps.end) all_valid = false;
      const int64_t s = taps.begin;
      first_codes[q] = static_cast<int32_t>(problem.plane_codes ? s * d.dilation_w - d.pad_left : s);
      ramp[q] = problem.plane_codes ? static_cast<int32_t>(q * d.stride_w) : 0;
    }
  }
};

class Planes {
 public:
  Planes(const Problem& problem, const Columns& columns, void* scratch)
      : p_(problem), d_(problem.d), columns_(columns) {
    ring_ = std::min(d_.H, (d_.R - 1) * d_.dilation_h + 1);
    strip_ = columns.phase_step * std::min(d_.stride_w, d_.W + d_.pad_left);
    ScratchParts parts(scratch);
    taps_ = parts.take<const float*>(d_.R * d_.S);
    tap_codes_ = parts.take<int32_t>(d_.R * d_.S);
    codes_ = parts.take<int32_t>(d_.Q);
    held_ = parts.take<int64_t>(ring_);
    holds_nan_ = parts.take<bool>(ring_);
    strips_ = parts.take<float>(ring_ * strip_);
    floats_ = parts.floats();
    if (!scratch) return;
    std::fill_n(strips_, ring_ * strip_, -INFINITY);  // the padding, which no strip overwrites
  }
  int64_t scratch_floats() const { return floats_; }

  void run(int64_t plane, int64_t begin, int64_t end) const {
    std::fill_n(held_, ring_, int64_t{-1});
    for (int64_t p = begin; p < end; ++p) row(plane, p);
  }

 private:
  // The strip of image row h; reuses what the ring holds.
  const float* strip(int64_t plane, int64_t h, bool* finite) const {
    const int64_t slot = ring_ == d_.H ? h : h % ring_;
    float* out = strips_ + slot * strip_;
    if (held_[slot] != h) {
      held_[slot] = h;
      const float* row = p_.x() + (plane * d_.H + h) * d_.W;
      holds_nan_[slot] = p_.kernels.strip({row, d_.W, d_.pad_left, d_.stride_w, out, columns_.phase_step});
    }
    *finite &= !holds_nan_[slot];
    return out;
  }

  void row(int64_t plane, int64_t p) const {
    const WindowTaps& rows = p_.rows[p];
    bool finite = true;
    int64_t taps = 0;
    const auto row_code = [&](int64_t r) { return p_.plane_codes ? rows.at(r) * d_.W : r * d_.S; };
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const float* base = strip(plane, rows.at(r), &finite);
      const int32_t code = static_cast<int32_t>(row_code(r));
      for (int64_t s = 0; s < columns_.num_taps; ++s) {
        taps_[taps] = base + columns_.tap_offsets[s];
        tap_codes_[taps++] = code + columns_.tap_codes[s];
      }
    }
    const int64_t out = (plane * d_.P + p) * d_.Q;
    const int32_t first_base = static_cast<int32_t>(taps ? row_code(rows.begin) : 0);
    p_.kernels.row({taps_, tap_codes_, taps, d_.Q, columns_.first_codes, first_base, columns_.ramp, finite,
                    p_.y() + out, p_.wants_codes ? codes_ : nullptr});
    if (!p_.wants_codes) return;
    if (taps == 0) std::fill_n(codes_, d_.Q, -1);
    if (!columns_.all_valid) mark_empty();
    p_.put_codes(codes_, d_.Q, out);
  }

  void mark_empty() const {
    for (int64_t q = 0; q < d_.Q; ++q) {
      if (p_.columns[q].begin == p_.columns[q].end) codes_[q] = -1;
    }
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  const Columns& columns_;
  int64_t ring_, strip_, floats_;
  const float** taps_;
  int32_t* tap_codes_;
  int32_t* codes_;
  int64_t* held_;  // the image row in each slot of the ring
  bool* holds_nan_;
  float* strips_;
};

void run_planes(const Problem& problem, Exec& exec) {
  const Pool2dDesc& d = problem.d;
  const Columns columns(problem, exec);
  const int64_t per_plane = d.P * d.Q;
  const int64_t planes_per_task = std::clamp<int64_t>(kTaskOutputs / per_plane, 1, d.N * d.C);
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskOutputs * 4 / d.Q, 1, d.P);
  const int64_t groups = (d.N * d.C + planes_per_task - 1) / planes_per_task;
  const int64_t blocks = (d.P + rows_per_task - 1) / rows_per_task;
  const int64_t floats = Planes(problem, columns, nullptr).scratch_floats();
  parallel_strands(exec, groups * blocks, floats, [&](int64_t task, float* scratch) {
    const Planes planes(problem, columns, scratch);
    const int64_t first = task / blocks * planes_per_task, begin = task % blocks * rows_per_task;
    const int64_t last = std::min(d.N * d.C, first + planes_per_task);
    for (int64_t plane = first; plane < last; ++plane) {
      planes.run(plane, begin, std::min(d.P, begin + rows_per_task));
    }
  });
}

}  // namespace

Ran cpu_max_pool2d_forward(const Pool2dDesc& d, Exec& exec) {
  if (d.dtype == CNNEXT_UINT8 || d.dtype == CNNEXT_INT8) return max_pool_bytes_forward(d, exec);
  // Codes are computed in 32 bits.
  if (d.dtype != CNNEXT_FLOAT32 || d.H * d.W > INT32_MAX || d.R * d.S > INT32_MAX) return Ran::kUnsupported;
  const Problem problem(d, exec);
  if (d.format == Format::kNHWC) {
    run_pixels(problem, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_pixels"));
  } else if (const int64_t planes = group_planes(problem)) {
    run_groups(problem, planes, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_groups"));
  } else {
    run_planes(problem, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_planes"));
  }
  return Ran::kDone;
}

}  // namespace cnnext
