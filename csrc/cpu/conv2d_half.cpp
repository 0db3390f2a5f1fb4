#include "cpu/conv2d_half.h"

#include <algorithm>
#include <cstring>

#include "cpu/conv2d_k.h"
#include "cpu/conv2d_strip.h"
#include "cpu/half_rows.h"

namespace cnnext {
namespace {

// values += the 16-bit values at `more`, a block at a time.
void add_halves(const HalfConverter& half, int64_t count, const uint16_t* more, float* values) {
  alignas(64) float block[kHalfBlockCols];
  for (int64_t i = 0; i < count; i += kHalfBlockCols) {
    const int64_t n = std::min(count - i, kHalfBlockCols);
    half.widen(n, more + i, block);
    for (int64_t j = 0; j < n; ++j) values[i + j] += block[j];
  }
}

// Neighbouring channels as pairs: as they lie; an odd last one with a zero.
void copy_pairs(int64_t channels, const uint16_t* in, float* out) {
  if (channels % 2) out[channels / 2] = 0.f;
  std::memcpy(out, in, static_cast<size_t>(channels) * sizeof(uint16_t));
}

bool all_finite(int64_t count, const uint16_t* bfloat16) {
  // An exponent of all ones carries into the highest bit.
  uint16_t sums = 0;
  for (int64_t i = 0; i < count; ++i) sums |= static_cast<uint16_t>((bfloat16[i] & 0x7f80) + 0x80);
  return !(sums & 0x8000);
}

// The ends of a run of outputs that lie side by side in memory, `out` values from the tensor's first.
void finish_run(const ConvProblem& p, bool stream, int64_t count, float* values, int64_t out) {
  if (p.half_residual) add_halves(*p.half, count, p.half_residual + out, values);
  if (p.activation != CNNEXT_ACT_NONE) conv_activate(p.activation, p.alpha, values, count);
  (stream ? p.half->narrow_stream : p.half->narrow)(count, values, p.half_out + out);
}

}  // namespace

void store_half_region(const ConvProblem& p, const HalfRegion& region, float* buffer) {
  const int64_t pixels = region.rows * p.out_w, all = p.groups * p.out_channels;
  if (p.format == Format::kNHWC) {
    const int64_t first = (region.image * p.out_h + region.row) * p.out_w * all + region.first;
    if (region.channels == all && region.buffer_channels == all) {
      return finish_run(p, region.stream, pixels * all, buffer, first);
    }
    for (int64_t i = 0; i < pixels; ++i) {
      finish_run(p, region.stream, region.channels, buffer + i * region.buffer_channels, first + i * all);
    }
    return;
  }
  const int64_t plane = p.out_h * p.out_w;
  const int64_t first = (region.image * all + region.first) * plane + region.row * p.out_w;
  for_half_blocks(region.channels, pixels, [&](int64_t c, int64_t n, int64_t i, int64_t m, float* block) {
    const float* const from = buffer + i * region.buffer_channels + c;
    ukernels().conv_pack.transpose({from, region.buffer_channels, m, n, block, m});
    for (int64_t j = 0; j < n; ++j)
      finish_run(p, region.stream, m, block + j * m, first + (c + j) * plane + i);
  });
}

namespace {

// Planes (channels) to pixels, each of in_channels floats or pairs.
void load_planes(const ConvProblem& p, int64_t length, const uint16_t* in, int64_t plane, float* out) {
  const int64_t channels = p.in_channels;
  if (!p.pairs) return widen_transposed(*p.half, channels, length, in, plane, out, channels);
  for_half_blocks(channels, length, [&](int64_t c, int64_t m, int64_t i, int64_t n, float* block) {
    for (int64_t j = 0; j < m; ++j) {
      const uint16_t* const even = in + 2 * (c + j) * plane + i;
      p.pairs->pair(n, even, 2 * (c + j) + 1 < p.half_channels ? even + plane : nullptr, block + j * n);
    }
    ukernels().conv_pack.transpose({block, n, m, n, out + i * channels + c, channels});
  });
}

// Pixels `pitch` values apart to pixels of in_channels floats or pairs.
void load_pixels(const ConvProblem& p, int64_t length, const uint16_t* in, int64_t pitch, float* out) {
  const int64_t channels = p.half_channels;
  if (!p.pairs) return widen_rows(*p.half, length, channels, in, pitch, out, channels);
  for (int64_t i = 0; i < length; ++i, in += pitch, out += p.in_channels) copy_pairs(channels, in, out);
}

}  // namespace

void ConvStrip::fill_half(const ConvRegion& r, int64_t group0, int64_t group1, float* memory,
                          int64_t part_floats) const {
  const Rows rows = rows_of(r);
  const int64_t channels = p_.in_channels, all = p_.groups * p_.half_channels, plane = p_.in_h * p_.in_w;
  const int64_t row_floats = cols_ * channels, src0 = std::max<int64_t>(0, col0_);
  const bool nchw = p_.format == Format::kNCHW, whole_rows = used_ == cols_ && used_ == p_.in_w;
  // Whole rows follow one another: one run.
  const int64_t runs = whole_rows ? 1 : rows.high - rows.low;
  const int64_t length = whole_rows ? (rows.high - rows.low) * cols_ : used_;
  for (int64_t n = r.n0; n < r.n1; ++n) {
    for (int64_t g = group0; g < group1; ++g) {
      float* part = memory + (g - group0) * part_floats + (n - r.n0) * (rows.high - rows.low) * row_floats;
      for (int64_t i = 0; i < runs; ++i, part += row_floats) {
        const int64_t pixel = (rows.low + i) * p_.in_w + src0, at = left_ * channels,
                      end = at + used_ * channels;
        if (nchw) {
          const uint16_t* src = p_.half_in + (n * p_.groups + g) * p_.half_channels * plane + pixel;
          load_planes(p_, length, src, plane, part + at);
        } else {
          const uint16_t* src = p_.half_in + (n * plane + pixel) * all + g * p_.half_channels;
          load_pixels(p_, length, src, all, part + at);
        }
        if (whole_rows) continue;
        std::fill(part, part + at, 0.f);
        std::fill(part + end, part + row_floats, 0.f);
      }
    }
  }
}

namespace {

// Weights as pairs of input channels: in the order that the problem's strides say. A task takes what is
// contiguous in the result: an output channel, or (backward-data) a pair.
struct WeightPairs {
  const ConvProblem& p;
  const uint16_t* in;
  float* out;
  bool kcrs;

  int64_t tasks() const { return p.groups * (p.transposed ? p.in_channels : p.out_channels); }

  bool run(int64_t task) const {
    const int64_t taps = p.num_taps, C = p.half_channels;
    if (p.transposed) {
      const int64_t run = p.out_channels * taps, group = task / p.in_channels, c = 2 * (task % p.in_channels);
      const uint16_t* const even = in + (group * C + c) * run;
      const bool two = c + 1 < C;
      p.pairs->pair(run, even, two ? even + run : nullptr, out + task * run);
      return all_finite(two ? 2 * run : run, even);
    }
    const uint16_t* const from = in + task * C * taps;
    float* const to = out + task * p.in_channels * taps;
    for (int64_t t = 0; t < taps && (!kcrs || taps == 1); ++t)
      copy_pairs(C, from + t * C, to + t * p.in_channels);
    for (int64_t c = 0; c < C && kcrs && taps > 1; c += 2) {
      const uint16_t* const even = from + c * taps;
      p.pairs->pair(taps, even, c + 1 < C ? even + taps : nullptr, to + c / 2 * taps);
    }
    return all_finite(C * taps, from);
  }
};

}  // namespace

void load_half_weight(const Conv2dDesc& desc, ConvProblem* p, Exec& exec) {
  if (!p->half || p->weight) return;
  if (!p->pairs) {
    p->weight = widened(desc.w, exec);
    return;
  }
  float* const out = exec.scratch_array<float>(p->groups * p->out_channels * p->in_channels * p->num_taps);
  const WeightPairs pairs{*p, static_cast<const uint16_t*>(desc.w.data), out, desc.w_format == Format::kNCHW};
  constexpr int64_t kTasks = 64;
  const int64_t count = pairs.tasks(), tasks = std::min(count, kTasks);
  auto* const finite = exec.scratch_array<bool>(tasks);
  exec.parallel_for(tasks, [&](int64_t task) {
    bool all = true;
    for (int64_t i = count * task / tasks; i < count * (task + 1) / tasks; ++i) all = pairs.run(i) && all;
    finite[task] = all;
  });
  p->finite_pairs = exec.planning() || std::all_of(finite, finite + tasks, [](bool f) { return f; });
  p->weight = out;
}

}  // namespace cnnext
