// Depthwise backward-weights, for both engines: sums over slices of the pixels that follow from the shape,
// added up in order.
#include <algorithm>
#include <cstring>

#include "cpu/depthwise_elements.h"
#include "cpu/depthwise_engines.h"
#include "cpu/depthwise_regions.h"
#include "cpu/depthwise_strip.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;              // aimed at, where the work is enough
constexpr int64_t kTaskFlops = 200000;      // some 5 us
constexpr int64_t kBandValues = 32 * 1024;  // channels: of both images, in L2
constexpr int64_t kLanes = 64;              // channels: of a task
constexpr int64_t kVector = 16;             // channels: what sums and strips leave room for
constexpr int64_t kMinCols = 16;            // channels: of rows whose next one is prefetched
constexpr int64_t kStripFloats = 6 * 1024;  // columns: the strip, in L1 beside dY's rows
constexpr int64_t kCols = 1024;             // columns: longer rows are cut

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Slices until there are tasks enough; their sums take at most a quarter of the larger image.
int64_t slices_wanted(const ConvProblem& p, int64_t tasks, int64_t units) {
  const int64_t wanted = std::clamp<int64_t>(static_cast<int64_t>(p.flops / kTaskFlops), 1, kTasks);
  const int64_t image = std::max(p.in_h * p.in_w, p.out_h * p.out_w) * p.N;
  return std::max<int64_t>(std::min({ceil_div(wanted, tasks), units, image / 4 / p.num_taps}), 1);
}

// What both engines share: the forward's problem, with dY in place of y. E and K: see depthwise_elements.h.
template <class E, class K>
class WeightsDriver {
 public:
  WeightsDriver(const Conv2dDesc& desc, const ConvProblem& problem)
      : p_(problem),
        kernels_(ukernels().depthwise),
        x_(static_cast<const E*>(desc.x.data)),
        dy_(static_cast<const E*>(desc.y.data)),
        phase_(std::move(depthwise_phases(problem, false).front())) {}

 protected:
  // Runs the kernel on the taps of a rectangle, as many at a time as it takes. args is complete but for them.
  template <class TapX>
  void run_taps(const DepthwiseSegment& rows, const DepthwiseSegment& cols, int64_t sums_step,
                DepthwiseWeightsArgs<K>& args,
                void (*const (&kernels)[kDepthwiseMaxTaps + 1])(const DepthwiseWeightsArgs<K>&),
                const TapX& tap_x) const {
    const int64_t across = cols.tap_end - cols.tap_begin, taps = (rows.tap_end - rows.tap_begin) * across;
    const int64_t parts = ceil_div(taps, kDepthwiseMaxTaps);
    for (int64_t part = parts - 1; part >= 0;
         --part, args.prefetches = 0) {  // prefetches are from the last tap
      const int64_t begin = taps * part / parts, count = taps * (part + 1) / parts - begin;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = rows.tap_begin + (begin + i) / across,
                      col = cols.tap_begin + (begin + i) % across;
        const int64_t tap = row * phase_.col_taps + col;
        args.tap_x[i] = tap_x(phase_.phase->taps[tap]);
        args.tap_sums[i] = tap * sums_step;
      }
      kernels[count](args);
    }
  }

  const ConvProblem& p_;
  const DepthwiseUkernels& kernels_;
  const E *x_, *dy_;
  const DepthwisePhase phase_;
};

// Vectors over channels. What does not lie well for that (see depthwise_channels.cpp) goes through strips.
template <class E, class K>
class ChannelsWeights : public WeightsDriver<E, K> {
  using Base = WeightsDriver<E, K>;
  using Base::dy_, Base::kernels_, Base::p_, Base::phase_, Base::run_taps, Base::x_;

 public:
  ChannelsWeights(const Conv2dDesc& desc, const ConvProblem& problem, Exec& exec)
      : Base(desc, problem), channels_(problem.groups), planes_(desc.format == Format::kNCHW) {
    constexpr int64_t kLineLanes = 64 / sizeof(K);  // channels of a cache line
    strips_ = planes_ || (channels_ % (16 * kLineLanes) == 0 && p_.in_w > 4);
    lanes_ = std::min(channels_, strips_ ? kLineLanes : kLanes);
    padded_ = ceil_div(channels_, kVector) * kVector;
    lane_blocks_ = ceil_div(channels_, lanes_);
    col_ = strips_ ? ceil_div(lanes_, kernels_.lanes) * kernels_.lanes : channels_;
    const int64_t row_floats = lanes_ * (p_.step_h * p_.in_w + p_.out_w);
    band_ = std::clamp<int64_t>(kBandValues / row_floats, 1, p_.out_h);
    band_ = ceil_div(p_.out_h, ceil_div(p_.out_h, band_));
    bands_ = ceil_div(p_.out_h, band_);
    slices_ = slices_wanted(p_, lane_blocks_, p_.N * bands_);
    parts_ = exec.scratch_array<float>(slices_ * p_.num_taps * padded_);
    exec.ran(kernels_.name_channels);
  }

  void run(float* w, Exec& exec) const {
    parallel_strands(exec, slices_ * lane_blocks_, strip_x_floats() + strip_dy_floats(),
                     [&](int64_t i, float* scratch) { task(i, scratch); });
    if (exec.planning()) return;
    const int64_t n = p_.num_taps * padded_;
    movers_.add(n, slices_ - 1, parts_ + n, n, parts_);
    movers_.transpose(p_.num_taps, channels_, parts_, padded_, w, p_.num_taps);
  }

 private:
  int64_t reach() const { return phase_.phase->max_dh - phase_.phase->min_dh + 1; }
  int64_t strip_x_floats() const {
    if (!strips_) return 0;
    const int64_t rows = std::min(p_.in_h, (band_ - 1) * p_.step_h + reach());
    return scratch_floats_of<K>(rows * p_.in_w * col_ + kVector);
  }
  int64_t strip_dy_floats() const {
    return strips_ ? scratch_floats_of<K>(band_ * p_.out_w * col_ + kVector) : 0;
  }

  void task(int64_t index, float* scratch) const {
    const int64_t lane = index % lane_blocks_ * lanes_, count = std::min(lanes_, channels_ - lane);
    const int64_t slice = index / lane_blocks_, units = p_.N * bands_;
    const int64_t lanes = strips_ ? ceil_div(count, kernels_.lanes) * kernels_.lanes : count;
    float* sums = parts_ + slice * p_.num_taps * padded_ + lane;
    for (int64_t t = 0; t < p_.num_taps; ++t) {
      std::memset(sums + t * padded_, 0, static_cast<size_t>(lanes) * sizeof(float));
    }
    const int64_t end = units * (slice + 1) / slices_;
    for (int64_t unit = units * slice / slices_; unit < end; ++unit) {
      const int64_t image = unit / bands_, begin = unit % bands_ * band_;
      const int64_t last = std::min(begin + band_, p_.out_h);
      const K *x = nullptr, *dy = nullptr;
      if constexpr (std::is_same_v<E, K>) {
        x = x_ + image * p_.in_h * p_.in_w * channels_ + lane;
        dy = dy_ + image * p_.out_h * p_.out_w * channels_ + lane;
      }
      if (strips_) {
        const int64_t first_row = std::clamp<int64_t>(begin * p_.step_h + phase_.phase->min_dh, 0, p_.in_h);
        const int64_t last_row =
            std::clamp<int64_t>((last - 1) * p_.step_h + phase_.phase->max_dh + 1, first_row, p_.in_h);
        x = load(x_, image, lane, count, p_.in_h, p_.in_w, first_row, last_row,
                 reinterpret_cast<K*>(scratch));
        dy = load(dy_, image, lane, count, p_.out_h, p_.out_w, begin, last,
                  reinterpret_cast<K*>(scratch + strip_x_floats()));
      }
      for (const DepthwiseSegment& all : phase_.rows) {
        const DepthwiseSegment rows = clip(all, begin, last);
        if (rows.begin >= rows.end) continue;
        for (const DepthwiseSegment& cols : phase_.cols) region(rows, cols, x, dy, lanes, sums);
      }
    }
  }

  // Rows [first, last) of some channels of an image into a strip; where its row 0 would lie.
  const K* load(const E* images, int64_t image, int64_t lane, int64_t count, int64_t height, int64_t width,
                int64_t first, int64_t last, K* strip) const {
    const int64_t plane = height * width, at = first * width;
    const E* const in = images + (planes_ ? (image * channels_ + lane) * plane + at
                                          : (image * plane + at) * channels_ + lane);
    depthwise_load_strip(planes_, count, (last - first) * width, in, planes_ ? plane : channels_, strip,
                         col_);
    return strip - at * col_;
  }

  void region(const DepthwiseSegment& rows, const DepthwiseSegment& cols, const K* x, const K* dy,
              int64_t lanes, float* sums) const {
    DepthwiseWeightsArgs<K> args{};
    args.rows = rows.end - rows.begin;
    args.cols = cols.end - cols.begin;
    args.x_row = p_.step_h * p_.in_w * col_;
    args.dy_row = p_.out_w * col_;
    args.x_col = p_.step_w * col_;
    args.dy_col = col_;
    args.x = x + rows.begin * args.x_row + cols.begin * args.x_col;
    args.dy = dy + rows.begin * args.dy_row + cols.begin * col_;
    args.lanes = lanes;
    // Pixels of a line of channels are too far apart for the processor to foresee.
    if (!strips_ && args.cols >= kMinCols && p_.step_h * p_.step_w <= kDepthwiseMaxPrefetches) {
      for (int64_t i = 0; i < p_.step_h * p_.step_w; ++i) {
        args.prefetch[args.prefetches++] = ((i / p_.step_w + 1) * p_.in_w - i % p_.step_w) * col_;
      }
    }
    args.sums = sums;
    run_taps(rows, cols, padded_, args, depthwise_channels_kernels<K>().weights,
             [&](const ConvTap& tap) { return (tap.dh * p_.in_w + tap.dw) * col_; });
  }

  const ConvWeightsUkernels& movers_ = ukernels().conv_weights;
  const int64_t channels_;
  const bool planes_;
  bool strips_;
  int64_t lanes_, lane_blocks_, padded_, col_, band_, bands_, slices_;
  float* parts_;  // slice, tap, channel
};

class ColumnsWeights : public WeightsDriver<float, float> {
 public:
  ColumnsWeights(const Conv2dDesc& desc, const ConvProblem& problem, Exec& exec)
      : WeightsDriver(desc, problem),
        whole_(std::move(depthwise_phases(problem, true).front())),
        first_(phase_.phase->taps[0]),
        reach_h_(phase_.phase->taps[p_.num_taps - 1].dh - first_.dh + 1),
        reach_w_(phase_.phase->taps[p_.num_taps - 1].dw - first_.dw + 1) {
    chunk_ = ceil_div(p_.out_w, ceil_div(p_.out_w, kCols));
    chunks_ = ceil_div(p_.out_w, chunk_);
    strip_ = DepthwiseStrip(chunk_, p_.step_w, reach_w_);
    band_ = (kStripFloats / strip_.row_floats - reach_h_) / p_.step_h + 1;
    band_ = std::clamp<int64_t>(band_, std::min<int64_t>(p_.out_h, 8), p_.out_h);
    band_ = ceil_div(p_.out_h, ceil_div(p_.out_h, band_));
    units_ = p_.N * ceil_div(p_.out_h, band_) * chunks_;
    slices_ = slices_wanted(p_, p_.groups, units_);
    parts_ = exec.scratch_array<float>(slices_ * p_.groups * p_.num_taps);
    exec.ran(kernels_.name_columns);
  }

  void run(float* w, Exec& exec) const {
    const int64_t strip_floats = ceil_div(((band_ - 1) * p_.step_h + reach_h_) * strip_.row_floats, 16) * 16;
    parallel_strands(exec, slices_ * p_.groups, strip_floats + p_.num_taps * kernels_.lanes,
                     [&](int64_t i, float* scratch) { task(i, scratch, scratch + strip_floats); });
    if (exec.planning()) return;
    const int64_t n = p_.groups * p_.num_taps;
    ukernels().conv_weights.add(n, slices_ - 1, parts_ + n, n, parts_);
    std::memcpy(w, parts_, static_cast<size_t>(n) * sizeof(float));
  }

 private:
  void task(int64_t index, float* strip, float* sums) const {
    const int64_t channel = index % p_.groups, slice = index / p_.groups;
    std::memset(sums, 0, static_cast<size_t>(p_.num_taps * kernels_.lanes) * sizeof(float));
    const int64_t end = units_ * (slice + 1) / slices_;
    for (int64_t i = units_ * slice / slices_; i < end; ++i) unit(i, channel, strip, sums);
    float* out = parts_ + index * p_.num_taps;
    for (int64_t t = 0; t < p_.num_taps; ++t) out[t] = kernels_.reduce(sums + t * kernels_.lanes);
  }

  void unit(int64_t index, int64_t channel, float* strip, float* sums) const {
    const int64_t col = index % chunks_ * chunk_, cols = std::min(chunk_, p_.out_w - col);
    index /= chunks_;
    const int64_t bands = ceil_div(p_.out_h, band_), row = index % bands * band_;
    const int64_t rows = std::min(band_, p_.out_h - row), plane = index / bands * p_.groups + channel;
    strip_.fill(kernels_, x_ + plane * p_.in_h * p_.in_w, p_.in_h, p_.in_w, row * p_.step_h + first_.dh,
                (rows - 1) * p_.step_h + reach_h_, col * p_.step_w + first_.dw, strip);
    const float* dy = dy_ + (plane * p_.out_h + row) * p_.out_w + col;
    // The strip's zeros stand for the padding only as long as dY is finite.
    const int64_t run = (rows - 1) * p_.out_w + cols;
    const DepthwisePhase& phase = kernels_.finite(dy, run) ? whole_ : phase_;
    for (const DepthwiseSegment& all_rows : phase.rows) {
      const DepthwiseSegment r = clip(all_rows, row, row + rows);
      if (r.begin >= r.end) continue;
      for (const DepthwiseSegment& all_cols : phase.cols) {
        const DepthwiseSegment c = clip(all_cols, col, col + cols);
        if (c.begin < c.end) region(r, c, row, col, strip, dy, sums);
      }
    }
  }

  void region(const DepthwiseSegment& rows, const DepthwiseSegment& cols, int64_t row, int64_t col,
              const float* strip, const float* dy, float* sums) const {
    DepthwiseWeightsArgs<float> args{};
    args.rows = rows.end - rows.begin;
    args.lanes = cols.end - cols.begin;
    args.x_row = p_.step_h * strip_.row_floats;
    args.dy_row = p_.out_w;
    args.x = strip + (rows.begin - row) * args.x_row + cols.begin - col;
    args.dy = dy + (rows.begin - row) * p_.out_w + cols.begin - col;
    args.sums = sums;
    run_taps(rows, cols, kernels_.lanes, args, kernels_.weights_columns, [&](const ConvTap& tap) {
      return (tap.dh - first_.dh) * strip_.row_floats + strip_.at(tap.dw - first_.dw);
    });
  }

  const DepthwisePhase whole_;
  const ConvTap first_;
  const int64_t reach_h_, reach_w_;
  DepthwiseStrip strip_;
  int64_t chunk_, chunks_, band_, units_, slices_;
  float* parts_;  // slice, channel, tap
};

}  // namespace

void depthwise_channels_weights(const Conv2dDesc& desc, int32_t dtype, Exec& exec) {
  const ConvProblem problem = forward_problem(desc, exec);
  with_depthwise_elements(dtype, desc.format, [&](auto e, auto k) {
    ChannelsWeights<decltype(e), decltype(k)>(desc, problem, exec)
        .run(static_cast<float*>(desc.w.data), exec);
  });
}

void depthwise_columns_weights(const Conv2dDesc& desc, Exec& exec) {
  const ConvProblem problem = forward_problem(desc, exec);
  ColumnsWeights(desc, problem, exec).run(static_cast<float*>(desc.w.data), exec);
}

}  // namespace cnnext
