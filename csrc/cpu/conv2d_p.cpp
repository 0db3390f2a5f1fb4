#include "cpu/conv2d_p.h"

#include <algorithm>
#include <cassert>

#include "cpu/conv2d_k.h"
#include "cpu/conv2d_segments.h"
#include "cpu/plane_strip.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kStripFloats = 96 << 10;  // in L2, beside the weights
constexpr int64_t kMinPixels = 192, kMaxPixels = 4096;
constexpr double kTaskFlops = 5e5;
constexpr int64_t kMostSpread = 8;  // of a filter's taps under dilation
constexpr int64_t kMaxWantedTasks = 32;
// Planes read at once where they lie: whole multiples of a page apart, more share too few lines of a cache
// set.
constexpr int64_t kTermsInPlace = 6;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The image as the kernel sees it. Without a filter's extent, strides and padding its pixels are one row.
struct Plane {
  int64_t in_h, in_w, out_h, out_w;
  int64_t min_dw, max_dw;
  bool one_row;

  explicit Plane(const ConvProblem& p) {
    const ConvPhase& phase = p.phases[0];
    min_dw = phase.min_dw, max_dw = phase.max_dw;
    in_h = p.in_h, in_w = p.in_w, out_h = p.out_h, out_w = p.out_w;
    one_row = p.num_taps == 1 && p.step_h == 1 && p.step_w == 1 && phase.min_dh == 0 && min_dw == 0 &&
              in_h == out_h && in_w == out_w;
    if (!one_row) return;
    in_w *= in_h, out_w *= out_h;
    in_h = out_h = 1;
  }
};

// How a problem is cut: regions of rows and columns of an image by units, blocks of output channels of a
// group. It follows from the shape alone.
struct Tasks {
  int64_t rows, cols, units;
  int64_t row_parts, col_parts, unit_parts;
  int64_t strip_rows;  // input rows under a region
  bool in_place;       // nothing is copied into strips
  bool stream;

  int64_t count(const ConvProblem& p) const { return p.N * row_parts * col_parts * unit_parts; }
};

Tasks plan(const ConvProblem& p, const Plane& plane, const ChannelBlocks& blocks) {
  const ConvPUkernels& kernels = ukernels().conv_p;
  const ConvPhase& phase = p.phases[0];
  Tasks t{};
  const int64_t units = p.groups * blocks.count();
  const int64_t wanted = conv_wanted_tasks(p, kTaskFlops, kMaxWantedTasks);
  int64_t pixels = std::clamp(kStripFloats / (p.in_channels * p.step_h * p.step_w), kMinPixels, kMaxPixels);
  pixels = std::min(pixels, std::max(kMinPixels, ceil_div(p.N * plane.out_h * plane.out_w, wanted)));
  pixels = conv_region_size(p.variant, pixels);
  // Columns are only cut where a row is longer than that; parts of equal size, in whole tiles.
  const int64_t whole = kernels.lanes * kernels.vectors;
  t.col_parts = ceil_div(plane.out_w, std::max(pixels, whole));
  t.cols = std::min(plane.out_w, ceil_div(ceil_div(plane.out_w, t.col_parts), whole) * whole);
  t.col_parts = ceil_div(plane.out_w, t.cols);
  t.row_parts = ceil_div(plane.out_h, std::max<int64_t>(1, pixels / t.cols));
  t.rows = ceil_div(plane.out_h, t.row_parts);
  t.row_parts = ceil_div(plane.out_h, t.rows);
  t.unit_parts = std::clamp<int64_t>(ceil_div(wanted, p.N * t.row_parts * t.col_parts), 1, units);
  t.units = ceil_div(units, t.unit_parts);
  t.unit_parts = ceil_div(units, t.units);

  t.strip_rows = std::min(plane.in_h, (t.rows - 1) * p.step_h + phase.max_dh - phase.min_dh + 1);
  // Planes that are one row, each of whose pixels goes through one tile, are read where they lie: whole
  // vectors.
  t.in_place = plane.one_row && p.out_channels <= kernels.channels &&
               plane.out_w - (t.col_parts - 1) * t.cols >= kernels.lanes && !p.residual;
  t.stream = p.N * p.groups * p.out_channels * p.out_h * p.out_w >= kConvStreamFloats &&
             plane.out_w % kConvLineFloats == 0 && kernels.lanes == kConvLineFloats &&
             reinterpret_cast<uintptr_t>(p.out) % 64 == 0 && !conv_activation_is_slow(p.activation) &&
             p.variant != ConvVariant::kPlainStores && !t.in_place;
  return t;
}

struct Region {
  int64_t image, row0, row1, col0, col1;
  int64_t low, high;  // input rows
};

class Runner {
 public:
  Runner(const ConvProblem& p, const Plane& plane, const Tasks& tasks, const ChannelBlocks& blocks,
         const WeightLayout& layout, const PackedConvWeight& packed)
      : p_(p),
        plane_(plane),
        tasks_(tasks),
        blocks_(blocks),
        layout_(layout),
        packed_(packed),
        strip_(p.groups, p.in_channels, plane.in_h, plane.in_w, p.step_w, plane.min_dw, plane.max_dw,
               tasks.strip_rows, tasks.cols) {}

  int64_t scratch_floats() const {
    Parts none;
    return cut(nullptr, &none);
  }
  void run(const Region& region, int64_t unit0, int64_t unit1, float* scratch) const;

 private:
  struct Parts {
    float* strip;
    const float** in;  // of each vector
    float** out;
    int64_t* input;  // of each term
  };
  int64_t cut(float* base, Parts* parts) const;
  int64_t max_vectors() const { return tasks_.rows * ceil_div(tasks_.cols, kernels_.lanes); }
  void run_rows(const Region& r, const ConvSegment& rows, int64_t group, int64_t block0, int64_t block1,
                const Parts& parts) const;

  const ConvProblem& p_;
  const Plane& plane_;
  const Tasks& tasks_;
  const ChannelBlocks& blocks_;
  const WeightLayout& layout_;
  const PackedConvWeight& packed_;
  const PlaneStrip strip_;
  const ConvPUkernels& kernels_ = ukernels().conv_p;
};

int64_t Runner::cut(float* base, Parts* parts) const {
  ScratchParts all(base);
  parts->strip = all.take<float>(tasks_.in_place ? 0 : strip_.floats());
  parts->in = all.take<const float*>(max_vectors());
  parts->out = all.take<float*>(max_vectors());
  parts->input = all.take<int64_t>(p_.num_taps * p_.in_channels);
  return all.floats();
}

// Rows that all see the same taps.
void Runner::run_rows(const Region& r, const ConvSegment& rows, int64_t group, int64_t block0, int64_t block1,
                      const Parts& parts) const {
  const ConvPhase& phase = p_.phases[0];
  const int64_t cols = r.col1 - r.col0, lanes = kernels_.lanes;
  const int64_t out_plane = plane_.out_h * plane_.out_w;

  const float* source = parts.strip;
  int64_t channel_step = strip_.channel;
  if (tasks_.in_place) {
    channel_step = plane_.in_w;
    source = p_.in + (r.image * p_.groups + group) * p_.in_channels * plane_.in_w + r.col0;
  }
  // Taps follow one another as their weights do.
  int64_t terms = 0;
  const int64_t tap0 = rows.tap_begin * phase.wide_cols;
  for (int64_t i = tap0; i < rows.tap_end * phase.wide_cols; ++i) {
    const ConvTap& tap = phase.taps[i];
    const int64_t at = tap.dh * strip_.row + strip_.tap(tap.dw);
    for (int64_t c = 0; c < p_.in_channels; ++c) parts.input[terms++] = at + c * channel_step;
  }
  const int64_t first_row = terms ? layout_.row[phase.taps[tap0].place] : 0;

  // The last vector of a row overlaps the one before.
  float* const out = p_.out + ((r.image * p_.groups + group) * p_.out_channels) * out_plane + r.col0;
  int64_t vectors = 0;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* const in = source + (row * p_.step_h - r.low) * strip_.row;
    for (int64_t at = 0; at < cols; at += lanes) {
      const int64_t col = cols < lanes ? 0 : std::min(at, cols - lanes);
      parts.in[vectors] = in + col;
      parts.out[vectors++] = out + row * plane_.out_w + col;
    }
  }
  const int64_t tiles = ceil_div(vectors, kernels_.vectors);

  const int64_t pieces = tasks_.in_place ? ceil_div(terms, kTermsInPlace) : 1;
  ConvPArgs args;
  // At the same terms whichever taps these rows leave out.
  args.run = kConvRunTerms;
  args.run_end = kConvRunTerms - first_row % kConvRunTerms;
  args.out_step = out_plane;
  args.lanes = static_cast<int32_t>(std::min(lanes, cols));
  args.alpha = p_.alpha;
  for (int64_t block = block0; block < block1; ++block) {
    const int64_t channels = blocks_.lanes(block), high = ceil_div(channels, kernels_.channels);
    args.nr = blocks_.nr(block);
    for (int64_t i = 0; i < high; ++i) {
      const int64_t m0 = channels * i / high, m = channels * (i + 1) / high - m0;
      const int64_t channel = blocks_.first(block) + m0;
      for (int64_t piece = 0; piece < pieces; ++piece) {
        // Later pieces of the terms add to what the pieces before them have written. A last vector overlaps
        // the one before in the same tile, which reads all before it writes.
        const int64_t begin = terms * piece / pieces;
        args.input = parts.input + begin;
        args.terms = terms * (piece + 1) / pieces - begin;
        args.weight = packed_.block(blocks_, group, block) + (first_row + begin) * args.nr + m0;
        args.bias = p_.bias && piece == 0 ? p_.bias + group * p_.out_channels + channel : nullptr;
        args.residual = piece == 0 && p_.residual ? p_.residual - p_.out : 0;
        args.flags = (piece + 1 == pieces ? conv_activation_flags(p_.activation) : 0) |
                     (piece || p_.residual ? kConvKResidual : 0) | (tasks_.stream ? kConvKStream : 0);
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const int64_t v0 = vectors * tile / tiles, count = vectors * (tile + 1) / tiles - v0;
          for (int64_t v = 0; v < count; ++v) {
            args.in[v] = parts.in[v0 + v];
            args.out[v] = parts.out[v0 + v] + channel * out_plane;
          }
          kernels_.run[count][m](args);
        }
      }
      if (!conv_activation_is_slow(p_.activation)) continue;
      for (int64_t k = channel; k < channel + m; ++k) {
        for (int64_t row = rows.begin; row < rows.end; ++row) {
          conv_activate(p_.activation, p_.alpha, out + k * out_plane + row * plane_.out_w, cols);
        }
      }
    }
  }
}

void Runner::run(const Region& r, int64_t unit0, int64_t unit1, float* scratch) const {
  Parts parts;
  cut(scratch, &parts);
  const int64_t count = blocks_.count();
  const ConvAxis axis = row_axis(p_, p_.phases[0]);
  for (int64_t group = unit0 / count; group * count < unit1; ++group) {
    if (!tasks_.in_place) strip_.fill(p_.in, r.image, group, r.low, r.high, r.col0, r.col1, parts.strip);
    const int64_t begin = std::max(unit0 - group * count, int64_t{0});
    const int64_t end = std::min(unit1 - group * count, count);
    for (int64_t row = r.row0; row < r.row1;) {
      ConvSegment rows = {row, r.row1, 0, 1};
      if (plane_.in_h == p_.in_h) rows = axis.segment(row, r.row1);
      row = rows.end;
      run_rows(r, rows, group, begin, end, parts);
    }
  }
}

}  // namespace

bool conv_p_may(const ConvProblem& p, bool finite_weights) {
  if (p.format != Format::kNCHW || p.half || p.num_phases != 1 || p.phases[0].num_taps == 0) return false;
  // A strip has whatever lies between the taps, and between the pixels under a stride: not much more than
  // what is read.
  const ConvPhase& phase = p.phases[0];
  const int64_t high = phase.max_dh - phase.min_dh + 1, wide = phase.max_dw - phase.min_dw + 1;
  if (p.step_h > high || p.step_w > wide) return false;
  if (high > kMostSpread * (phase.num_taps / phase.wide_cols) || wide > kMostSpread * phase.wide_cols)
    return false;
  return finite_weights || (p.min_dw >= 0 && p.end_dw <= p.in_w);
}

bool conv_p_suits(const ConvProblem& p, bool finite_weights) {
  if (!conv_p_may(p, finite_weights)) return false;
  if (p.variant == ConvVariant::kTransposed) return false;
  if (p.variant == ConvVariant::kPlanes) return true;
  // A tile reads its channels again for every tap and every few output channels: they have to stay in L1.
  // With more the K-kernel is faster, transpositions included; so it is where rows leave lanes empty, and
  // where columns are gathered one by one.
  constexpr int64_t kMostChannels = 32, kMostOfOneTap = 96, kMostUnderStride = 8;
  const int64_t most = p.step_w > 1 ? kMostUnderStride : p.num_taps == 1 ? kMostOfOneTap : kMostChannels;
  if (p.in_channels > most || p.step_w > 2) return false;
  const int64_t cols = Plane(p).out_w, lanes = ukernels().lanes;
  return 20 * cols >= 17 * (ceil_div(cols, lanes) * lanes);
}

void run_conv_p(const ConvProblem& p, const ChannelBlocks& blocks, const WeightLayout& layout,
                const PackedConvWeight& packed, Exec& exec) {
  assert(blocks.split() == 1);
  const Plane plane(p);
  const Tasks tasks = plan(p, plane, blocks);
  const Runner runner(p, plane, tasks, blocks, layout, packed);
  const ConvPhase& phase = p.phases[0];
  exec.ran(ukernels().conv_p.name);
  exec.offers(ConvVariant::kTransposed);
  if (tasks.rows * tasks.cols > 1) exec.offers(ConvVariant::kSmallRegions);
  if (tasks.row_parts * tasks.col_parts > 1) exec.offers(ConvVariant::kLargeRegions);
  if (tasks.stream) exec.offers(ConvVariant::kPlainStores);
  parallel_strands(exec, tasks.count(p), runner.scratch_floats(), [&](int64_t task, float* scratch) {
    const int64_t unit0 = task % tasks.unit_parts * tasks.units;
    int64_t region = task / tasks.unit_parts;
    Region r;
    r.col0 = region % tasks.col_parts * tasks.cols;
    r.col1 = std::min(plane.out_w, r.col0 + tasks.cols);
    region /= tasks.col_parts;
    r.row0 = region % tasks.row_parts * tasks.rows;
    r.row1 = std::min(plane.out_h, r.row0 + tasks.rows);
    r.image = region / tasks.row_parts;
    r.low = std::clamp<int64_t>(r.row0 * p.step_h + phase.min_dh, 0, plane.in_h);
    r.high = std::clamp<int64_t>((r.row1 - 1) * p.step_h + phase.max_dh + 1, r.low, plane.in_h);
    runner.run(r, unit0, std::min(p.groups * blocks.count(), unit0 + tasks.units), scratch);
    if (tasks.stream) conv_stream_fence();
  });
}

}  // namespace cnnext
