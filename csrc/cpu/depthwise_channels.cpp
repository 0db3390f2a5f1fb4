// Depthwise on channels-last images: vectors over channels. A task is a band of one image's output rows, for
// some channels.
#include <algorithm>

#include "cpu/conv2d_k.h"
#include "cpu/depthwise_engines.h"
#include "cpu/depthwise_regions.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;              // aimed at, where the work is enough
constexpr int64_t kTaskFlops = 200000;      // some 5 us
constexpr int64_t kBandFloats = 32 * 1024;  // a task's input and output, in L2
constexpr int64_t kLanes = 64;              // channels of a task: whole cache lines, some in a row

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class ChannelsDriver {
 public:
  ChannelsDriver(const ConvProblem& problem, Exec& exec)
      : p_(problem),
        kernels_(ukernels().depthwise),
        phases_(depthwise_phases(problem, false)),
        channels_(problem.groups),
        in_row_(problem.in_w * channels_),
        out_row_(problem.out_w * channels_) {
    // Tap t's weights of all channels together.
    float* taps = exec.scratch_array<float>(p_.num_taps * channels_);
    ukernels().conv_weights.transpose(channels_, p_.num_taps, p_.weight, p_.group_stride, taps, channels_);
    weight_ = taps;
    std::vector<int64_t> tap_at(static_cast<size_t>(p_.num_taps));  // which tap of the filter has a place
    for (int64_t t = 0; t < p_.num_taps; ++t) tap_at[static_cast<size_t>(p_.tap_place[t])] = t;
    for (DepthwisePhase& phase : phases_) {
      for (int64_t t = 0; t < phase.phase->num_taps; ++t) {
        const ConvTap& tap = phase.phase->taps[t];
        phase.tap_row_x.push_back(tap.dh * in_row_);
        phase.tap_x.push_back(tap.dh * in_row_ + tap.dw * channels_);
        phase.tap_w.push_back(tap_at[static_cast<size_t>(tap.row)] * channels_);
      }
    }

    rows_ = 0;
    for (const DepthwisePhase& phase : phases_) rows_ = std::max(rows_, phase.phase->rows);
    lanes_ = channels_ <= kLanes ? channels_ : kLanes;
    lane_blocks_ = ceil_div(channels_, lanes_);
    const int64_t row_floats = lanes_ * (p_.step_h * p_.in_w + p_.out_step_h * p_.out_w);
    const int64_t wanted = std::clamp<int64_t>(static_cast<int64_t>(p_.flops / kTaskFlops), 1, kTasks);
    bands_ = std::max(ceil_div(wanted, p_.N * lane_blocks_), ceil_div(rows_ * row_floats, kBandFloats));
    band_ = ceil_div(rows_, std::min(bands_, rows_));
    bands_ = ceil_div(rows_, band_);
    exec.ran(kernels_.name_channels);
  }

  int64_t tasks() const { return p_.N * bands_ * lane_blocks_; }

  void task(int64_t index) const {
    const int64_t lane = index % lane_blocks_ * lanes_, count = std::min(lanes_, channels_ - lane);
    const int64_t begin = index / lane_blocks_ % bands_ * band_, image = index / lane_blocks_ / bands_;
    for (const DepthwisePhase& phase : phases_) {
      for (const DepthwiseSegment& all : phase.rows) {
        const DepthwiseSegment rows = clip(all, begin, begin + band_);
        if (rows.begin >= rows.end) continue;
        if (const auto kernel = row_kernel(phase)) {
          whole_rows(kernel, phase, rows, image, lane, count);
          continue;
        }
        for (const DepthwiseSegment& cols : phase.cols) region(phase, rows, cols, image, lane, count);
      }
    }
    if (conv_activation_is_slow(p_.activation)) activate(image, begin, lane, count);
  }

 private:
  using RowKernel = void (*)(const DepthwiseRowsArgs&);

  // The kernel that takes whole rows, where a phase's taps are neighbours and there is one; else nullptr.
  RowKernel row_kernel(const DepthwisePhase& phase) const {
    if (phase.col_taps < 2 || phase.col_taps > kDepthwiseMaxCols || p_.step_w > 2) return nullptr;
    if (phase.phase->taps[1].dw != phase.phase->taps[0].dw + 1) return nullptr;
    return kernels_.rows[p_.step_w][phase.col_taps];
  }

  void whole_rows(RowKernel kernel, const DepthwisePhase& phase, const DepthwiseSegment& rows, int64_t image,
                  int64_t lane, int64_t count) const {
    DepthwiseRowsArgs args{};
    const int64_t first_tap = rows.tap_begin * phase.col_taps;
    args.x = p_.in + (image * p_.in_h + rows.begin * p_.step_h) * in_row_ + lane;
    args.y = p_.out + (image * p_.out_h + phase.phase->h0 + rows.begin * p_.out_step_h) * out_row_ +
             phase.phase->w0 * channels_ + lane;
    args.rows = rows.end - rows.begin;
    args.x_row = p_.step_h * in_row_;
    args.y_row = p_.out_step_h * out_row_;
    args.cols = phase.phase->cols;
    args.y_col = p_.out_step_w * channels_;
    args.first = phase.phase->taps[0].dw;
    args.width = p_.in_w;
    args.x_col = channels_;
    args.lanes = count;
    args.tap_rows = rows.tap_end - rows.tap_begin;
    args.tap_step = phase.col_taps;
    args.tap_x = phase.tap_row_x.data() + first_tap;
    args.tap_w = phase.tap_w.data() + first_tap;
    args.w = weight_ + lane;
    args.bias = p_.bias ? p_.bias + lane : nullptr;
    args.residual = p_.residual ? p_.residual - p_.out : 0;
    args.flags = conv_activation_flags(p_.activation);
    args.alpha = p_.alpha;
    kernel(args);
  }

  void region(const DepthwisePhase& phase, const DepthwiseSegment& rows, const DepthwiseSegment& cols,
              int64_t image, int64_t lane, int64_t count) const {
    DepthwiseArgs args{};
    const int64_t first_tap = rows.tap_begin * phase.col_taps + cols.tap_begin;
    args.tap_rows = rows.tap_end - rows.tap_begin;
    args.tap_cols = cols.tap_end - cols.tap_begin;
    args.tap_step = phase.col_taps;
    args.tap_x = phase.tap_x.data() + first_tap;
    args.tap_w = phase.tap_w.data() + first_tap;
    args.lanes = count;
    args.x = p_.in + (image * p_.in_h + rows.begin * p_.step_h) * in_row_ +
             cols.begin * p_.step_w * channels_ + lane;
    args.y = p_.out + (image * p_.out_h + phase.phase->h0 + rows.begin * p_.out_step_h) * out_row_ +
             (phase.phase->w0 + cols.begin * p_.out_step_w) * channels_ + lane;
    args.outer = rows.end - rows.begin;
    args.x_outer = p_.step_h * in_row_;
    args.y_outer = p_.out_step_h * out_row_;
    args.positions = cols.end - cols.begin;
    args.x_step = p_.step_w * channels_;
    args.y_step = p_.out_step_w * channels_;
    if (args.positions < std::min<int64_t>(args.outer, 8)) {  // at the left and right edges: down the columns
      std::swap(args.outer, args.positions);
      std::swap(args.x_outer, args.x_step);
      std::swap(args.y_outer, args.y_step);
    }
    args.w = weight_ + lane;
    args.bias = p_.bias ? p_.bias + lane : nullptr;
    args.residual = p_.residual ? p_.residual - p_.out : 0;
    args.flags = conv_activation_flags(p_.activation);
    args.alpha = p_.alpha;
    kernels_.channels(args);
  }

  void activate(int64_t image, int64_t band, int64_t lane, int64_t count) const {
    const int64_t end = std::min((band + band_) * p_.out_step_h, p_.out_h);
    for (int64_t h = band * p_.out_step_h; h < end; ++h) {
      float* pixel = p_.out + (image * p_.out_h + h) * out_row_ + lane;
      for (int64_t w = 0; w < p_.out_w; ++w, pixel += channels_) {
        conv_activate(p_.activation, p_.alpha, pixel, count);
      }
    }
  }

  const ConvProblem& p_;
  const DepthwiseUkernels& kernels_;
  std::vector<DepthwisePhase> phases_;
  const int64_t channels_, in_row_, out_row_;
  const float* weight_;
  int64_t rows_, lanes_, lane_blocks_, band_, bands_;
};

}  // namespace

void depthwise_channels_run(const ConvProblem& problem, Exec& exec) {
  const ChannelsDriver driver(problem, exec);
  exec.parallel_for(driver.tasks(), [&](int64_t i) { driver.task(i); });
}

}  // namespace cnnext
