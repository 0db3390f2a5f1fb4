#include "cpu/conv2d_problem.h"

#include <algorithm>
#include <cassert>

#include "cpu/half_rows.h"

namespace cnnext {
namespace {

// Floor and remainder for a positive divisor.
int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Which filter taps the outputs of one residue class h = a (mod step) use along one axis, by rising distance.
struct AxisTaps {
  int64_t first, stride, count;  // filter positions: first - i * stride, rising distance
  int64_t distance, distance_step;
};

// Backward: output h = a + step * i reads input p = (h + pad - r * dilation) / step for the r that divide.
AxisTaps backward_axis(int64_t a, int64_t step, int64_t pad, int64_t dilation, int64_t kernel) {
  AxisTaps taps{0, 0, 0, 0, 0};
  int64_t first = -1, second = -1;
  for (int64_t r = 0; r < kernel && second < 0; ++r) {
    if ((a + pad - r * dilation) % step != 0) continue;
    (first < 0 ? first : second) = r;
  }
  if (first < 0) return taps;
  taps.stride = second < 0 ? 1 : second - first;
  taps.count = second < 0 ? 1 : (kernel - 1 - first) / taps.stride + 1;
  taps.first = first + (taps.count - 1) * taps.stride;
  taps.distance = floor_div(a + pad - taps.first * dilation, step);
  taps.distance_step = taps.stride * dilation / step;
  return taps;
}

AxisTaps forward_axis(int64_t pad, int64_t dilation, int64_t kernel) {
  return {0, -1, kernel, -pad, dilation};
}

struct Builder {
  ConvProblem& problem;
  ConvPhase* phases;
  ConvTap *taps, *wide;
  int64_t* place;
  int64_t placed = 0;

  void add(ConvPhase phase, const AxisTaps& h, const AxisTaps& w, int64_t filter_cols) {
    phase.num_taps = h.count * w.count;
    phase.taps = taps;
    phase.wide_taps = wide;
    for (int64_t i = 0; i < h.count; ++i) {
      for (int64_t j = 0; j < w.count; ++j) {
        const int64_t tap = (h.first - i * h.stride) * filter_cols + (w.first - j * w.stride);
        place[tap] = placed;
        *taps++ = {h.distance + i * h.distance_step, w.distance + j * w.distance_step,
                   placed * problem.in_channels, placed};
        ++placed;
      }
    }
    phase.num_wide = 0;
    phase.wide_cols = w.count;
    if (w.count == 1 || (w.count > 1 && w.distance_step == 1)) {
      phase.num_wide = h.count;
      for (int64_t i = 0; i < h.count; ++i) *wide++ = phase.taps[i * w.count];
    }
    phase.min_dh = h.distance;
    phase.max_dh = h.distance + (h.count - 1) * h.distance_step;
    phase.min_dw = w.distance;
    phase.max_dw = w.distance + (w.count - 1) * w.distance_step;
    if (phase.num_taps) {
      problem.min_dw = std::min(problem.min_dw, phase.min_dw);
      problem.end_dw = std::max(problem.end_dw, (phase.cols - 1) * problem.step_w + phase.max_dw + 1);
    }
    const double pixels = static_cast<double>(problem.N) * phase.rows * phase.cols;
    problem.flops +=
        2.0 * pixels * phase.num_taps * problem.groups * problem.in_channels * problem.out_channels;
    phases[problem.num_phases++] = phase;
  }
};

const float* floats(const Tensor& t) { return present(t) ? static_cast<const float*>(t.data) : nullptr; }

const uint16_t* halves(const Tensor& t) {
  return present(t) ? static_cast<const uint16_t*>(t.data) : nullptr;
}

// Where the images are, x being what is read; in_channels is set.
void set_images(const Tensor& x, const Tensor& y, const Tensor& residual, ConvProblem* p) {
  if (!p->half) {
    p->in = floats(x);
    p->out = static_cast<float*>(y.data);
    p->residual = floats(residual);
    return;
  }
  p->half_in = halves(x);
  p->half_out = static_cast<uint16_t*>(y.data);
  p->half_residual = halves(residual);
  p->half_channels = p->in_channels;
  if (!p->pairs) return;
  p->in_channels = (p->half_channels + 1) / 2;
  const bool aligned = reinterpret_cast<uintptr_t>(x.data) % sizeof(float) == 0;
  if (p->format == Format::kNHWC && p->half_channels % 2 == 0 && aligned) p->in = floats(x);
}

void set_common(const Conv2dDesc& desc, Exec& exec, ConvProblem* p) {
  p->N = desc.N;
  p->groups = desc.groups;
  p->format = desc.format;
  if (is_half(desc.dtype)) p->half = &half_converter(desc.dtype);
  if (desc.dtype == CNNEXT_BFLOAT16) p->pairs = bf16_ukernels();
  p->bias = p->half && present(desc.bias) ? widened(desc.bias, exec) : floats(desc.bias);
  p->activation = desc.activation;
  p->variant = desc.variant;
  p->one_thread = desc.one_thread;
  p->alpha = static_cast<float>(desc.activation_alpha);
  p->weight = p->half ? nullptr : floats(desc.w);
  p->num_taps = desc.R * desc.S;
  p->min_dw = INT64_MAX;
  p->end_dw = INT64_MIN;
}

void finish(ConvProblem* p) {
  if (p->min_dw <= p->end_dw) return;
  p->min_dw = p->end_dw = 0;  // no output has a tap
}

Builder make_builder(ConvProblem* p, int64_t num_phases, Exec& exec) {
  auto* phases = exec.scratch_array<ConvPhase>(num_phases);
  auto* taps = exec.scratch_array<ConvTap>(2 * p->num_taps);
  auto* place = exec.scratch_array<int64_t>(p->num_taps);
  p->phases = phases;
  p->tap_place = place;
  return {*p, phases, taps, taps + p->num_taps, place};
}

}  // namespace

ConvProblem forward_problem(const Conv2dDesc& d, Exec& exec) {
  ConvProblem p{};
  set_common(d, exec, &p);
  p.in_channels = d.C / d.groups;
  p.out_channels = d.K / d.groups;
  set_images(d.x, d.y, d.residual, &p);
  p.in_h = d.H, p.in_w = d.W, p.out_h = d.P, p.out_w = d.Q;
  p.step_h = d.stride_h, p.step_w = d.stride_w;
  p.out_step_h = p.out_step_w = 1;
  const bool kcrs = d.w_format == Format::kNCHW;
  p.lane_stride = p.in_channels * p.num_taps;
  p.group_stride = p.out_channels * p.lane_stride;
  p.channel_stride = kcrs ? p.num_taps : 1;
  p.tap_stride = kcrs ? 1 : p.in_channels;
  ConvPhase phase{};
  phase.rows = d.P, phase.cols = d.Q;
  make_builder(&p, 1, exec)
      .add(phase, forward_axis(d.pad_top, d.dilation_h, d.R), forward_axis(d.pad_left, d.dilation_w, d.S),
           d.S);
  finish(&p);
  return p;
}

ConvProblem backward_data_problem(const Conv2dDesc& d, Exec& exec) {
  ConvProblem p{};
  set_common(d, exec, &p);
  p.transposed = true;
  p.in_channels = d.K / d.groups;
  p.out_channels = d.C / d.groups;
  set_images(d.y, d.x, absent(), &p);
  p.in_h = d.P, p.in_w = d.Q, p.out_h = d.H, p.out_w = d.W;
  p.step_h = p.step_w = 1;
  p.out_step_h = std::min(d.stride_h, d.H);
  p.out_step_w = std::min(d.stride_w, d.W);
  const bool kcrs = d.w_format == Format::kNCHW;
  p.channel_stride = p.out_channels * p.num_taps;
  p.group_stride = p.in_channels * p.channel_stride;
  p.lane_stride = kcrs ? p.num_taps : 1;
  p.tap_stride = kcrs ? 1 : p.out_channels;
  Builder builder = make_builder(&p, p.out_step_h * p.out_step_w, exec);
  for (int64_t t = 0; t < p.num_taps; ++t) builder.place[t] = -1;
  for (int64_t a = 0; a < p.out_step_h; ++a) {
    const AxisTaps h = backward_axis(a, d.stride_h, d.pad_top, d.dilation_h, d.R);
    for (int64_t b = 0; b < p.out_step_w; ++b) {
      const AxisTaps w = backward_axis(b, d.stride_w, d.pad_left, d.dilation_w, d.S);
      ConvPhase phase{};
      phase.h0 = a, phase.w0 = b;
      phase.rows = (d.H - a + d.stride_h - 1) / d.stride_h;
      phase.cols = (d.W - b + d.stride_w - 1) / d.stride_w;
      builder.add(phase, h, w, d.S);
    }
  }
  // Taps that no output reads (a stride longer than the image) come last.
  for (int64_t t = 0; t < p.num_taps; ++t) {
    if (builder.place[t] < 0) builder.place[t] = builder.placed++;
  }
  finish(&p);
  return p;
}

}  // namespace cnnext
