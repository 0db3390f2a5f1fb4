// Depthwise with vectors over channels. A task is a band of one image's output rows, for some channels.
// Channels-last images are read and written where they lie. Planes are transposed, a cache line of channels
// at a time, into strips that stay in L1 or L2; so are channels-last pixels that lie whole KB apart, which
// share few cache sets.
#include <algorithm>

#include "cpu/conv2d_half.h"
#include "cpu/conv2d_k.h"
#include "cpu/depthwise_elements.h"
#include "cpu/depthwise_engines.h"
#include "cpu/depthwise_regions.h"
#include "cpu/depthwise_up.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;              // aimed at, where the work is enough
constexpr int64_t kTaskFlops = 200000;      // some 5 us
constexpr int64_t kBandValues = 32 * 1024;  // strips: a task's input and output, in L2
constexpr int64_t kRowsValues = 64 * 1024;  // without: the rows that a row of outputs needs, in L2
constexpr int64_t kMinRows = 4;             // of outputs: the rows above and below are read again
constexpr int64_t kLanes = 64;              // channels of a task: whole cache lines, some in a row
constexpr int64_t kVector = 16;             // what weights and strips leave room for
constexpr int64_t kStreamValues = 2 << 20;  // larger outputs pass by the caches

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One task's input and output: where pixel (0, 0) of each lies, or would.
template <class K>
struct Images {
  const K* x;
  K* y;
  int64_t residual;
};

// Of images of E, which the kernels see as K: see depthwise_elements.h. The problem's images are typed as
// floats, whatever they are.
template <class E, class K>
class ChannelsDriver {
 public:
  ChannelsDriver(const ConvProblem& problem, Exec& exec)
      : p_(problem),
        table_(ukernels()),
        common_(table_.depthwise),
        kernels_(depthwise_channels_kernels<K>()),
        in_(reinterpret_cast<const E*>(problem.in)),
        residual_(reinterpret_cast<const E*>(problem.residual)),
        out_(reinterpret_cast<E*>(problem.out)),
        phases_(depthwise_phases(problem, false)),
        channels_(problem.groups),
        planes_(problem.format == Format::kNCHW) {
    set_strips();
    set_weights(exec);
    up_ = depthwise_up_rows(problem, phases_);
    if (!up_.empty())
      up_kernel_ = up_[0].num_cols <= kDepthwiseMaxCols ? kernels_.up[up_[0].num_cols] : nullptr;
    rows_ = 0;
    for (const DepthwisePhase& phase : phases_) rows_ = std::max(rows_, phase.phase->rows);
    set_tasks();
    set_flags();
    exec.ran(common_.name_channels);
  }

  int64_t tasks() const { return p_.N * bands_ * lane_blocks_; }
  int64_t strip_in_floats() const {
    if (!strip_in_) return 0;
    const int64_t rows = std::min(p_.in_h, (band_ - 1) * p_.step_h + max_dh_ - min_dh_ + 1);
    return scratch_floats_of<K>(rows * in_row_ + kVector);
  }
  int64_t strip_out_floats() const {
    return strip_out_ ? scratch_floats_of<K>(band_ * p_.out_step_h * out_row_ + kVector) : 0;
  }
  int64_t scratch_floats() const { return strip_in_floats() + strip_out_floats(); }

  void task(int64_t index, float* scratch) const {
    const int64_t lane = index % lane_blocks_ * lanes_, count = std::min(lanes_, channels_ - lane);
    const int64_t begin = index / lane_blocks_ % bands_ * band_, end = std::min(begin + band_, rows_);
    const int64_t image = index / lane_blocks_ / bands_;
    Images<K> images{};
    auto* const strip = reinterpret_cast<K*>(scratch);
    auto* const strip_out = reinterpret_cast<K*>(scratch + strip_in_floats());
    const int64_t first = begin * p_.out_step_h;
    if constexpr (std::is_same_v<E, K>) {
      images.x = in_ + image * p_.in_h * p_.in_w * channels_ + lane;
      images.y = out_ + image * p_.out_h * out_row_ + lane;
      if (residual_ && !planes_) images.residual = residual_ - out_;
    }
    if (strip_in_) images.x = load_strip(image, begin, end, lane, count, strip);
    if (strip_out_) {
      images.y = strip_out - first * out_row_;
    }
    if (up_kernel_)
      all_up_rows(images, begin, end, lane, count);
    else
      all_phases(images, begin, end, lane, count);
    const int64_t last = std::min(end * p_.out_step_h, p_.out_h);
    if (strip_out_) store_strip(image, first, last, lane, count, strip_out);
    if constexpr (kIsFloat<E>) {
      if (conv_activation_is_slow(p_.activation)) activate(image, first, last, lane, count);
    }
    if (stream_) common_.fence();
  }

 private:
  using RowKernel = void (*)(const DepthwiseRowsArgs<K>&);
  static constexpr int64_t kLineLanes = 64 / sizeof(K);  // channels of a cache line

  void set_strips() {
    strip_in_ = planes_ || (channels_ % (16 * kLineLanes) == 0 && p_.in_w > 4);
    lanes_ = std::min(channels_, strip_in_ ? kLineLanes : kLanes);
    in_col_ = strip_in_ ? ceil_div(lanes_, common_.lanes) * common_.lanes : channels_;
    out_col_ = planes_ ? in_col_ : channels_;
    in_row_ = p_.in_w * in_col_;
    out_row_ = p_.out_w * out_col_;
    min_dh_ = max_dh_ = 0;
    bool any = false;
    for (const DepthwisePhase& phase : phases_) {
      if (!phase.phase->num_taps) continue;
      min_dh_ = any ? std::min(min_dh_, phase.phase->min_dh) : phase.phase->min_dh;
      max_dh_ = any ? std::max(max_dh_, phase.phase->max_dh) : phase.phase->max_dh;
      any = true;
    }
  }

  // Tap t's weights of all channels together, with room for whole vectors.
  void set_weights(Exec& exec) {
    const int64_t padded = ceil_div(channels_, kVector) * kVector;
    float* taps = exec.scratch_array<float>(p_.num_taps * padded);
    exec.packs(p_.num_taps * padded);
    if (!exec.planning()) {
      table_.conv_weights.transpose_padded(channels_, p_.num_taps, p_.weight, p_.group_stride, taps, padded);
    }
    weight_ = taps;
    if (p_.bias) {
      float* bias = exec.scratch_array<float>(padded);
      if (!exec.planning()) {
        std::copy(p_.bias, p_.bias + channels_, bias);
        std::fill(bias + channels_, bias + padded, 0.f);
      }
      bias_ = bias;
    }
    std::vector<int64_t> tap_at(static_cast<size_t>(p_.num_taps));  // which tap of the filter has a place
    for (int64_t t = 0; t < p_.num_taps; ++t) tap_at[static_cast<size_t>(p_.tap_place[t])] = t;
    for (DepthwisePhase& phase : phases_) {
      for (int64_t t = 0; t < phase.phase->num_taps; ++t) {
        const ConvTap& tap = phase.phase->taps[t];
        phase.tap_row_x.push_back(tap.dh * in_row_);
        phase.tap_x.push_back(tap.dh * in_row_ + tap.dw * in_col_);
        phase.tap_w.push_back(tap_at[static_cast<size_t>(tap.row)] * padded);
      }
    }
  }

  void set_tasks() {
    const int64_t wanted = std::clamp<int64_t>(static_cast<int64_t>(p_.flops / kTaskFlops), 1, kTasks);
    if (!strip_in_) {
      // Many channels, so that a task reads long pieces of rows; fewer where its rows would not stay in L2.
      const int64_t bands = ceil_div(rows_, kMinRows);
      const int64_t rows_floats = (max_dh_ - min_dh_ + 1 + p_.step_h) * p_.in_w * channels_;
      const int64_t blocks = streams_rows() ? 1 : ceil_div(wanted, p_.N * bands);
      const int64_t parts = std::max(blocks, ceil_div(rows_floats, kRowsValues));
      lanes_ = std::min(channels_, std::max(kLanes, ceil_div(ceil_div(channels_, parts), kLanes) * kLanes));
    }
    lane_blocks_ = ceil_div(channels_, lanes_);
    strip_out_ = planes_ || (streams_rows() && lane_blocks_ == 1);
    const int64_t row_floats = lanes_ * (p_.step_h * p_.in_w + p_.out_step_h * p_.out_w);
    bands_ = ceil_div(wanted, p_.N * lane_blocks_);
    if (strip_in_ || (phases_.size() > 1 && !up_kernel_))
      bands_ = std::max(bands_, ceil_div(rows_ * row_floats, kBandValues));
    if (strip_out_ && !planes_)
      bands_ = std::max(bands_, ceil_div(rows_ * p_.out_step_h * out_row_, kBandValues));
    band_ = ceil_div(rows_, std::min(bands_, rows_));
    bands_ = ceil_div(rows_, band_);
  }

  // Pixels of 16 bits are parts of lines: they stream as rows, all channels at once.
  bool streams_rows() const { return !kIsFloat<K> && large() && out_row_ % kLineLanes == 0 && !residual_; }

  bool large() const {
    return p_.N * channels_ * p_.out_h * p_.out_w >= kStreamValues &&
           reinterpret_cast<uintptr_t>(p_.out) % 64 == 0 && !conv_activation_is_slow(p_.activation);
  }

  void set_flags() {
    stream_ = large() && (kIsFloat<K> ? (p_.out_step_w == 1 || up_kernel_) &&
                                            (planes_ ? p_.out_h * p_.out_w : channels_) % kLineLanes == 0
                                      : strip_out_);
    flags_ = planes_ ? 0 : conv_activation_flags(p_.activation) | (stream_ && kIsFloat<K> ? kConvKStream : 0);
  }

  // The kernel that takes whole rows, where a phase's taps are neighbours and there is one; else nullptr.
  RowKernel row_kernel(const DepthwisePhase& phase) const {
    if (phase.col_taps < 2 || phase.col_taps > kDepthwiseMaxCols || p_.step_w > 2) return nullptr;
    if (phase.phase->taps[1].dw != phase.phase->taps[0].dw + 1) return nullptr;
    return kernels_.rows[p_.step_w][phase.col_taps];
  }

  // Channels that a kernel computes: in strips whole vectors, so that no lane is a tail.
  int64_t lanes_of(int64_t count) const {
    return planes_ ? ceil_div(count, common_.lanes) * common_.lanes : count;
  }

  const K* load_strip(int64_t image, int64_t begin, int64_t end, int64_t lane, int64_t count,
                      K* strip) const {
    const int64_t first = std::clamp<int64_t>(begin * p_.step_h + min_dh_, 0, p_.in_h);
    const int64_t last = std::clamp<int64_t>((end - 1) * p_.step_h + max_dh_ + 1, first, p_.in_h);
    const int64_t plane = p_.in_h * p_.in_w, pixels = (last - first) * p_.in_w, at = first * p_.in_w;
    const E* const in =
        in_ + (planes_ ? (image * channels_ + lane) * plane + at : (image * plane + at) * channels_ + lane);
    depthwise_load_strip(planes_, count, pixels, in, planes_ ? plane : channels_, strip, in_col_);
    return strip - first * in_row_;
  }

  void store_strip(int64_t image, int64_t first, int64_t last, int64_t lane, int64_t count, K* strip) const {
    if constexpr (kIsFloat<E>) {
      const int64_t plane = p_.out_h * p_.out_w,
                    offset = (image * channels_ + lane) * plane + first * p_.out_w;
      TransposeOutArgs args{};
      args.matrix = {strip, out_col_, (last - first) * p_.out_w, count, p_.out + offset, plane};
      args.residual = p_.residual ? p_.residual + offset : nullptr;
      args.flags = conv_activation_flags(p_.activation);
      if (stream_ && first * p_.out_w % 16 == 0) args.flags |= kConvKStream;
      args.alpha = p_.alpha;
      table_.conv_pack.transpose_out(args);
    } else if constexpr (!kIsFloat<K>) {
      const int64_t values = (last - first) * out_row_;
      depthwise_half_kernels<E>().stream(values, strip, out_ + (image * p_.out_h + first) * out_row_);
    } else if (p_.residual || p_.activation != CNNEXT_ACT_NONE) {
      store_half_region(p_, {image, first, last - first, lane, count, out_col_, stream_}, strip);
    } else {
      const int64_t plane = p_.out_h * p_.out_w;
      E* const out = out_ + (image * channels_ + lane) * plane + first * p_.out_w;
      depthwise_half_kernels<E>().from_strip(count, (last - first) * p_.out_w, strip, out_col_, out, plane);
    }
  }

  void all_phases(const Images<K>& images, int64_t begin, int64_t end, int64_t lane, int64_t count) const {
    for (const DepthwisePhase& phase : phases_) {
      for (const DepthwiseSegment& all : phase.rows) {
        const DepthwiseSegment rows = clip(all, begin, end);
        if (rows.begin >= rows.end) continue;
        if (const auto kernel = row_kernel(phase)) {
          whole_rows(kernel, phase, rows, images, lane, count);
          continue;
        }
        for (const DepthwiseSegment& cols : phase.cols) region(phase, rows, cols, images, lane, count);
      }
    }
  }

  void all_up_rows(const Images<K>& images, int64_t begin, int64_t end, int64_t lane, int64_t count) const {
    for (int64_t row = begin; row < end; ++row) {
      for (const DepthwiseUpRows& phase : up_) {
        for (const DepthwiseSegment& rows : *phase.rows) {
          if (rows.begin <= row && row < rows.end) up_row(phase, rows, row, images, lane, count);
        }
      }
    }
  }

  void up_row(const DepthwiseUpRows& phase, const DepthwiseSegment& taps, int64_t row,
              const Images<K>& images, int64_t lane, int64_t count) const {
    DepthwiseRowsArgs<K> args{};
    args.x = images.x + row * in_row_;
    args.y = images.y + (phase.h0 + row * p_.out_step_h) * out_row_;
    args.cols = p_.out_w;
    args.y_col = out_col_;
    args.first = phase.first;
    args.width = p_.in_w;
    args.x_col = in_col_;
    args.lanes = lanes_of(count);
    args.tap_rows = taps.tap_end - taps.tap_begin;
    args.tap_step = phase.num_cols;
    args.tap_x = phase.tap_x.data() + taps.tap_begin;
    args.tap_w = phase.tap_w.data() + taps.tap_begin * phase.num_cols;
    args.ahead = !strip_in_ && phase.h0 == 0;
    args.x_line = in_row_ * (max_dh_ + 1);
    args.w = weight_ + lane;
    args.bias = bias_ ? bias_ + lane : nullptr;
    args.flags = flags_;
    args.alpha = p_.alpha;
    up_kernel_(args);
  }

  void whole_rows(RowKernel kernel, const DepthwisePhase& phase, const DepthwiseSegment& rows,
                  const Images<K>& images, int64_t lane, int64_t count) const {
    DepthwiseRowsArgs<K> args{};
    const int64_t first_tap = rows.tap_begin * phase.col_taps;
    args.x = images.x + rows.begin * p_.step_h * in_row_;
    args.y =
        images.y + (phase.phase->h0 + rows.begin * p_.out_step_h) * out_row_ + phase.phase->w0 * out_col_;
    args.rows = rows.end - rows.begin;
    args.x_row = p_.step_h * in_row_;
    args.y_row = p_.out_step_h * out_row_;
    // Pixels of a line of channels are too far apart for the processor to foresee.
    args.ahead = strip_in_ ? 0 : p_.step_h;
    args.x_line = in_row_;
    args.cols = phase.phase->cols;
    args.y_col = p_.out_step_w * out_col_;
    args.first = phase.phase->taps[0].dw;
    args.width = p_.in_w;
    args.x_col = in_col_;
    args.lanes = lanes_of(count);
    args.tap_rows = rows.tap_end - rows.tap_begin;
    args.tap_step = phase.col_taps;
    args.tap_x = phase.tap_row_x.data() + first_tap;
    args.tap_w = phase.tap_w.data() + first_tap;
    args.w = weight_ + lane;
    args.bias = bias_ ? bias_ + lane : nullptr;
    args.residual = images.residual;
    args.flags = flags_;
    args.alpha = p_.alpha;
    kernel(args);
  }

  void region(const DepthwisePhase& phase, const DepthwiseSegment& rows, const DepthwiseSegment& cols,
              const Images<K>& images, int64_t lane, int64_t count) const {
    DepthwiseArgs<K> args{};
    const int64_t first_tap = rows.tap_begin * phase.col_taps + cols.tap_begin;
    args.tap_rows = rows.tap_end - rows.tap_begin;
    args.tap_cols = cols.tap_end - cols.tap_begin;
    args.tap_step = phase.col_taps;
    args.tap_x = phase.tap_x.data() + first_tap;
    args.tap_w = phase.tap_w.data() + first_tap;
    args.lanes = lanes_of(count);
    args.x = images.x + rows.begin * p_.step_h * in_row_ + cols.begin * p_.step_w * in_col_;
    args.y = images.y + (phase.phase->h0 + rows.begin * p_.out_step_h) * out_row_ +
             (phase.phase->w0 + cols.begin * p_.out_step_w) * out_col_;
    args.outer = rows.end - rows.begin;
    args.x_outer = p_.step_h * in_row_;
    args.y_outer = p_.out_step_h * out_row_;
    args.positions = cols.end - cols.begin;
    args.x_step = p_.step_w * in_col_;
    args.y_step = p_.out_step_w * out_col_;
    if (args.positions < std::min<int64_t>(args.outer, 8)) {  // at the left and right edges: down the columns
      std::swap(args.outer, args.positions);
      std::swap(args.x_outer, args.x_step);
      std::swap(args.y_outer, args.y_step);
    }
    args.w = weight_ + lane;
    args.bias = bias_ ? bias_ + lane : nullptr;
    args.residual = images.residual;
    args.flags = flags_ & ~kConvKStream;
    args.alpha = p_.alpha;
    kernels_.run(args);
  }

  // The activations that the kernels do not know.
  void activate(int64_t image, int64_t first, int64_t last, int64_t lane, int64_t count) const {
    const int64_t plane = p_.out_h * p_.out_w, pixels = (last - first) * p_.out_w;
    if (planes_) {
      for (int64_t c = lane; c < lane + count; ++c) {
        conv_activate(p_.activation, p_.alpha, p_.out + (image * channels_ + c) * plane + first * p_.out_w,
                      pixels);
      }
      return;
    }
    float* pixel = p_.out + (image * plane + first * p_.out_w) * channels_ + lane;
    for (int64_t i = 0; i < pixels; ++i, pixel += channels_) {
      conv_activate(p_.activation, p_.alpha, pixel, count);
    }
  }

  const ConvProblem& p_;
  const UkernelTable& table_;
  const DepthwiseUkernels& common_;
  const DepthwiseChannelsUkernels<K>& kernels_;
  const E *const in_, *const residual_;
  E* const out_;
  std::vector<DepthwisePhase> phases_;
  std::vector<DepthwiseUpRows> up_;  // backward-data of stride 2, which has no residual
  RowKernel up_kernel_ = nullptr;
  const int64_t channels_;
  const bool planes_;
  bool strip_in_, strip_out_, stream_;
  int64_t in_row_, in_col_, out_row_, out_col_, min_dh_, max_dh_;
  const float *weight_, *bias_ = nullptr;
  int64_t rows_, lanes_, lane_blocks_, band_, bands_;
  int32_t flags_;
};

}  // namespace

void depthwise_channels_run(const ConvProblem& problem, int32_t dtype, Exec& exec) {
  with_depthwise_elements(dtype, problem.format, [&](auto e, auto k) {
    const ChannelsDriver<decltype(e), decltype(k)> driver(problem, exec);
    parallel_strands(exec, driver.tasks(), driver.scratch_floats(),
                     [&](int64_t i, float* scratch) { driver.task(i, scratch); });
  });
}

}  // namespace cnnext
