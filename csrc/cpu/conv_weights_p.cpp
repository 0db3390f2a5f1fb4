#include "cpu/conv_weights_p.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "cpu/plane_strip.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kMostTerms = 100;      // with more, panels of channels pay
constexpr int64_t kRegionPixels = 512;   // of a sum in registers, spread over the lanes
constexpr int64_t kSumFloats = 1 << 16;  // of a task, in L2
constexpr int64_t kWantedTasks = 16;
constexpr double kTaskFlops = 1e6;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether few channels are the output's: then the images change places.
bool is_swapped(const Conv2dDesc& d) {
  const int64_t c = d.C / d.groups, k = d.K / d.groups;
  return d.R * d.S == 1 ? k < c : c > ukernels().conv_p.channels;
}

// The same sums with the images' parts exchanged: its filters are the transposed ones, turned by half a turn.
Conv2dDesc swapped(Conv2dDesc d) {
  d.pad_top = (d.R - 1) * d.dilation_h - d.pad_top;
  d.pad_left = (d.S - 1) * d.dilation_w - d.pad_left;
  std::swap(d.x, d.y);
  std::swap(d.C, d.K);
  std::swap(d.H, d.P);
  std::swap(d.W, d.Q);
  return d;
}

// Tasks are units, some output channels of a group, by slices of the images' rows; a slice's regions are
// summed in order, and so are the slices. It follows from the shape alone.
struct Plan {
  int64_t channels, outputs;  // of a group
  int64_t taps, terms;        // of a filter; of all channels
  int64_t block, blocks;      // output channels of a unit
  int64_t rows, row_parts;    // of a region
  int64_t strip_rows, slices;

  explicit Plan(const Conv2dDesc& d)
      : channels(d.C / d.groups), outputs(d.K / d.groups), taps(d.R * d.S), terms(channels * taps) {
    const ConvPUkernels& kernels = ukernels().conv_p;
    block = std::max<int64_t>(kernels.channels, kSumFloats / (terms * kernels.lanes));
    blocks = ceil_div(outputs, block);
    block = ceil_div(outputs, blocks);
    blocks = ceil_div(outputs, block);
    row_parts = ceil_div(d.P, std::max<int64_t>(1, kRegionPixels / d.Q));
    rows = ceil_div(d.P, row_parts);
    row_parts = ceil_div(d.P, rows);
    strip_rows = std::min(d.H, (rows - 1) * d.stride_h + (d.R - 1) * d.dilation_h + 1);
    const double pixels = static_cast<double>(d.N * d.groups * d.P) * static_cast<double>(d.Q);
    const double work = 2 * pixels * static_cast<double>(outputs * terms);
    const auto wanted = static_cast<int64_t>(std::clamp<double>(work / kTaskFlops, 1, kWantedTasks));
    slices = std::clamp<int64_t>(ceil_div(wanted, d.groups * blocks), 1, d.N * row_parts);
  }
};

class Runner {
 public:
  Runner(const Conv2dDesc& desc, const Plan& plan, bool swapped)
      : d_(desc),
        plan_(plan),
        swapped_(swapped),
        strip_(desc.groups, plan.channels, desc.H, desc.W, desc.stride_w, -desc.pad_left,
               (desc.S - 1) * desc.dilation_w - desc.pad_left, plan.strip_rows, desc.Q) {}

  int64_t scratch_floats() const {
    Parts none;
    return cut(nullptr, &none);
  }
  // dst: all weights, of which the task writes its unit's. False where one is not finite.
  bool run(int64_t slice, int64_t group, int64_t block, float* dst, float* scratch) const;

 private:
  struct Parts {
    float *strip, *sums, *folded;
  };
  int64_t cut(float* base, Parts* parts) const {
    ScratchParts all(base);
    parts->strip = all.take<float>(strip_.floats());
    parts->sums = all.take<float>(plan_.block * plan_.terms * kernels_.lanes);
    parts->folded = all.take<float>(plan_.terms);
    return all.floats();
  }
  void run_region(int64_t region, int64_t group, int64_t k0, int64_t k1, bool first,
                  const Parts& parts) const;
  bool finish(int64_t k, const float* sums, float* folded, float* dst) const;
  void put(int64_t k, const float* folded, float* dst) const;

  const Conv2dDesc& d_;
  const Plan& plan_;
  const bool swapped_;
  const PlaneStrip strip_;
  const ConvPUkernels& kernels_ = ukernels().conv_p;
};

void Runner::run_region(int64_t region, int64_t group, int64_t k0, int64_t k1, bool first,
                        const Parts& parts) const {
  const int64_t image = region / plan_.row_parts, row0 = region % plan_.row_parts * plan_.rows;
  const int64_t row1 = std::min(d_.P, row0 + plan_.rows);
  const int64_t top = row0 * d_.stride_h - d_.pad_top;
  const int64_t low = std::clamp<int64_t>(top, 0, d_.H);
  const int64_t high =
      std::clamp<int64_t>((row1 - 1) * d_.stride_h - d_.pad_top + (d_.R - 1) * d_.dilation_h + 1, low, d_.H);
  strip_.fill(static_cast<const float*>(d_.x.data), image, group, low, high, 0, d_.Q, parts.strip);

  const int64_t plane = d_.P * d_.Q, lanes = kernels_.lanes;
  const float* const grad =
      static_cast<const float*>(d_.y.data) + ((image * d_.groups + group) * plan_.outputs) * plane;
  ConvPWeightsArgs args;
  args.grad_channel = plane;
  args.grad_row = d_.Q;
  args.in_row = d_.stride_h * strip_.row;
  args.whole = d_.Q / lanes;
  args.tail = static_cast<int32_t>(d_.Q % lanes);
  args.accumulate = !first;
  args.sums_channel = plan_.terms * lanes;
  const int64_t high_tiles = ceil_div(k1 - k0, kernels_.channels);
  for (int64_t j = 0; j < high_tiles; ++j) {  // whose gradients stay in L1
    const int64_t m0 = (k1 - k0) * j / high_tiles, m = (k1 - k0) * (j + 1) / high_tiles - m0;
    for (int64_t r = 0; r < d_.R; ++r) {
      // The output rows whose tap is inside the image.
      const int64_t up = d_.pad_top - r * d_.dilation_h;
      const int64_t begin = std::clamp<int64_t>(up > 0 ? ceil_div(up, d_.stride_h) : 0, row0, row1);
      const int64_t end =
          std::clamp<int64_t>(d_.H + up > 0 ? ceil_div(d_.H + up, d_.stride_h) : 0, begin, row1);
      args.rows = end - begin;
      args.grad = grad + (k0 + m0) * plane + begin * d_.Q;
      const float* const in = parts.strip + (begin * d_.stride_h - up - low) * strip_.row;
      // A filter row's taps share tiles, or where there is but one the channels do.
      const int64_t in_a_row = plan_.taps == 1 ? plan_.channels : d_.S;
      const int64_t wide = ceil_div(in_a_row, kernels_.vectors);
      for (int64_t c = 0; c < plan_.terms / (d_.R * in_a_row); ++c) {
        for (int64_t i = 0; i < wide; ++i) {
          const int64_t t0 = in_a_row * i / wide, terms = in_a_row * (i + 1) / wide - t0;
          for (int64_t t = 0; t < terms; ++t) {
            const int64_t s = plan_.taps == 1 ? 0 : t0 + t, channel = plan_.taps == 1 ? t0 + t : c;
            args.in[t] = in + channel * strip_.channel + strip_.tap(s * d_.dilation_w - d_.pad_left);
          }
          args.sums = parts.sums + m0 * args.sums_channel + (c * plan_.taps + r * d_.S + t0) * lanes;
          kernels_.weights[terms][m](args);
        }
      }
    }
  }
}

// One output channel's filter: the lanes are added up, the taps brought into the weights' order.
bool Runner::finish(int64_t k, const float* sums, float* folded, float* dst) const {
  const bool in_order = !swapped_ && d_.w_format == Format::kNCHW;
  float* const values = in_order ? dst + k * plan_.terms : folded;
  kernels_.fold(plan_.terms, sums, values);
  float bad = 0;
  for (int64_t i = 0; i < plan_.terms; ++i) bad += values[i] * 0.f;
  if (!in_order) put(k, values, dst);
  return bad == 0.f;
}

void Runner::put(int64_t k, const float* folded, float* dst) const {
  const bool taps_inside = d_.w_format == Format::kNCHW;
  const int64_t inputs = swapped_ ? plan_.outputs : plan_.channels;  // of the weights
  for (int64_t c = 0; c < plan_.channels; ++c) {
    const int64_t to = swapped_ ? k / plan_.outputs * plan_.channels + c : k;
    const int64_t from = swapped_ ? k % plan_.outputs : c;
    float* const filter = dst + to * inputs * plan_.taps;
    for (int64_t t = 0; t < plan_.taps; ++t) {
      const int64_t tap = swapped_ ? plan_.taps - 1 - t : t;
      filter[taps_inside ? from * plan_.taps + tap : tap * inputs + from] = folded[c * plan_.taps + t];
    }
  }
}

bool Runner::run(int64_t slice, int64_t group, int64_t block, float* dst, float* scratch) const {
  Parts parts;
  cut(scratch, &parts);
  const int64_t k0 = block * plan_.block, k1 = std::min(plan_.outputs, k0 + plan_.block);
  const int64_t regions = d_.N * plan_.row_parts;
  const int64_t begin = regions * slice / plan_.slices, end = regions * (slice + 1) / plan_.slices;
  for (int64_t i = begin; i < end; ++i) run_region(i, group, k0, k1, i == begin, parts);
  bool finite = true;
  for (int64_t k = k0; k < k1; ++k) {
    const float* const sums = parts.sums + (k - k0) * plan_.terms * kernels_.lanes;
    finite = finish(group * plan_.outputs + k, sums, parts.folded, dst) && finite;
  }
  return finite;
}

}  // namespace

bool conv_weights_p_suits(const Conv2dDesc& desc) {
  if (desc.dtype != CNNEXT_FLOAT32 || desc.format != Format::kNCHW) return false;
  if (desc.variant == ConvVariant::kTransposed) return false;
  const bool swap = is_swapped(desc);
  if (swap && (desc.stride_h != 1 || desc.stride_w != 1)) return false;
  const Conv2dDesc d = swap ? swapped(desc) : desc;
  if (swap && (d.pad_top < 0 || d.pad_left < 0)) return false;
  // As many channels as a tile is high: the fewer registers, the more often pixels are read.
  const ConvPUkernels& kernels = ukernels().conv_p;
  const int64_t channels = d.C / d.groups, lanes = kernels.lanes;
  // A strip has all rows between those that are read.
  if (d.dilation_h > 8 || d.dilation_w > 8 || d.stride_h > (d.R - 1) * d.dilation_h + 1) return false;
  return d.stride_w == 1 && channels <= kernels.channels && channels * d.R * d.S <= kMostTerms &&
         20 * d.Q >= 17 * (ceil_div(d.Q, lanes) * lanes);
}

bool conv_weights_p(const Conv2dDesc& original, Exec& exec) {
  const bool swap = is_swapped(original);
  const Conv2dDesc desc = swap ? swapped(original) : original;
  const Plan plan(desc);
  const Runner runner(desc, plan, swap);
  exec.ran(ukernels().conv_p.weights_name);
  exec.offers(ConvVariant::kTransposed);
  auto* const w = static_cast<float*>(desc.w.data);
  const int64_t floats = desc.K * plan.terms, units = desc.groups * plan.blocks;
  float* const parts = plan.slices > 1 ? exec.scratch_array<float>((plan.slices - 1) * floats) : nullptr;
  std::atomic<bool> finite{true};
  parallel_strands(exec, plan.slices * units, runner.scratch_floats(), [&](int64_t task, float* scratch) {
    const int64_t slice = task / units, block = task % plan.blocks, group = task % units / plan.blocks;
    float* const dst = slice ? parts + (slice - 1) * floats : w;
    if (!runner.run(slice, group, block, dst, scratch)) finite.store(false, std::memory_order_relaxed);
  });
  if (!finite.load()) return false;
  if (plan.slices > 1) {
    exec.parallel_for(
        1, [&](int64_t) { ukernels().conv_weights.add(floats, plan.slices - 1, parts, floats, w); });
  }
  return true;
}

}  // namespace cnnext
