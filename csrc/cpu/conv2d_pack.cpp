#include "cpu/conv2d_pack.h"

#include <algorithm>

#include "cpu/conv2d_p.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskFloats = 1 << 15;
// Where tasks pack for themselves: at least so many weights and output channels (they alone make tasks), at
// most so many pixels.
constexpr int64_t kLateFloats = 1 << 18, kLateChannels = 256, kLatePixels = 512;
constexpr int64_t kLateInputFloats = 1 << 18;  // where each task copies the input

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Packer {
  const ConvProblem& p;
  const ChannelBlocks& blocks;
  const WeightLayout& layout;
  PackedConvWeight packed;
  float* dst;
  const int64_t *tap_dst, *wide_tap_dst;  // by filter tap, for narrow and wide blocks
  const int64_t* tap_at;                  // the filter tap of each place
  int64_t parts;                          // of a block's input channels

  bool pack(int64_t task) const {
    const int64_t part = task % parts, block = task / parts % blocks.count();
    const int64_t group = task / parts / blocks.count();
    const int64_t c0 = p.in_channels * part / parts, c1 = p.in_channels * (part + 1) / parts;
    ConvPackArgs args;
    args.src =
        p.weight + group * p.group_stride + blocks.first(block) * p.lane_stride + c0 * p.channel_stride;
    args.lane_stride = p.lane_stride;
    args.channel_stride = p.channel_stride;
    args.tap_stride = p.tap_stride;
    args.lanes = blocks.lanes(block);
    args.nr = blocks.nr(block);
    args.channels = c1 - c0;
    args.taps = p.num_taps;
    args.dst = dst + group * packed.group_floats + blocks.first(block) * packed.rows + c0 * args.nr;
    args.tap_dst = args.nr == blocks.nr(0) ? wide_tap_dst : tap_dst;
    return ukernels().conv_pack.pack(args);
  }

  // Split tiles have few channels: float by float.
  bool pack_split(int64_t group) const {
    const int64_t nr = blocks.nr(0), split = layout.split, width = ukernels().lanes / split;
    float* const out = dst + group * packed.group_floats;
    std::fill(out, out + packed.group_floats, 0.f);
    float bad = 0;
    for (int64_t f = 0; f < p.num_phases; ++f) {
      const ConvPhase& phase = p.phases[f];
      for (int64_t t = 0; t < phase.num_taps; ++t) {
        const int64_t place = phase.taps[t].place;
        const int64_t before = layout.wide ? t % phase.wide_cols * p.in_channels : 0;
        const float* const tap = p.weight + group * p.group_stride + tap_at[place] * p.tap_stride;
        for (int64_t l = 0; l < p.out_channels; ++l) {
          const float* const src = tap + l * p.lane_stride;
          float* lane = out + layout.row[place] * nr + l / width * width * split + l % width * split;
          int64_t in_group = before % split;
          lane += before / split * split * nr;
          for (int64_t c = 0; c < p.in_channels; ++c) {
            const float value = src[c * p.channel_stride];
            lane[in_group] = value;
            bad += value * 0.f;
            if (++in_group == split) in_group = 0, lane += split * nr;
          }
        }
      }
    }
    return bad == 0.f;
  }
};

}  // namespace

ConvForm conv_form(const ConvProblem& p, bool finite_weights, bool kept) {
  const bool nchw = p.format == Format::kNCHW;
  const int64_t weights = p.num_taps * p.in_channels * p.out_channels;
  const bool few_pixels = p.N * p.out_h * p.out_w <= kLatePixels &&
                          (!nchw || p.N * p.in_h * p.in_w * p.in_channels <= kLateInputFloats);
  if (!kept && !p.half && p.groups == 1 && weights >= kLateFloats && p.out_channels >= kLateChannels &&
      few_pixels) {
    return {nchw, false, true, false};
  }
  if (conv_p_suits(p, finite_weights)) return {false, false, false, true};
  bool can_widen = finite_weights, gains = false;
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    if (phase.num_taps && !phase.num_wide) can_widen = false;
    if (phase.wide_cols > 1) gains = true;
  }
  // Without padding columns the rows of an NHWC image will do as they are. Short runs pay for a copy.
  const bool dense = !nchw && p.groups == 1 && p.min_dw >= 0 && p.end_dw <= p.in_w;
  ConvForm form{};
  form.wide = can_widen && gains && (dense || p.in_channels <= (nchw ? 16 : 8));
  form.strip = nchw ? p.in_channels > 1 || p.groups > 1 || form.wide : form.wide && !dense;
  if (p.half && !p.in) form.strip = true;  // widened or paired there
  return form;
}

ChannelBlocks::ChannelBlocks(const ConvProblem& p, const ConvForm& form, const ConvKUkernels& kernels)
    : channels_(p.out_channels) {
  const int64_t vectors = ceil_div(channels_, kernels.lanes);
  count_ = ceil_div(vectors, kernels.num_tiles);
  const int64_t each = vectors / count_;
  wide_ = vectors % count_;
  tile_ = &kernels.tiles[each - 1];
  wide_tile_ = wide_ ? &kernels.tiles[each] : tile_;
  mr_ = std::min(wide_tile_->mr, tile_->mr);

  if (form.planes) return;
  // The work of a pixel in vector operations, were the taps all of one length. Loads hold up a split tile of
  // one vector; its sums are folded at the end.
  const ConvPhase& phase = p.phases[0];
  const int64_t taps = std::max<int64_t>(1, form.wide ? phase.num_wide : phase.num_taps);
  const int64_t run = form.wide ? phase.wide_cols * p.in_channels : p.in_channels;
  double least = static_cast<double>(vectors * taps * run);
  for (int32_t i = 0; i < kernels.num_split_tiles; ++i) {
    const ConvKTile& tile = kernels.split_tiles[i];
    const int64_t wide = tile.nr * tile.split / kernels.lanes;
    const double steps = static_cast<double>(wide * taps * ceil_div(run, tile.split));
    const double work = (wide == 1 ? 1.35 : 1.05) * steps + static_cast<double>(6 * wide);
    if (tile.nr < channels_ || work >= least) continue;
    least = work;
    count_ = 1, wide_ = 0;
    tile_ = wide_tile_ = &tile;
    mr_ = tile.mr;
  }
}

WeightLayout weight_layout(const ConvProblem& p, const ConvForm& form, const ChannelBlocks& blocks,
                           Exec& exec) {
  auto* const row = exec.scratch_array<int64_t>(p.num_taps);
  WeightLayout layout{form.wide, blocks.split(), 0, row};
  if (layout.split == 1) {
    for (int64_t t = 0; t < p.num_taps; ++t) row[t] = t * p.in_channels;
    layout.rows = p.num_taps * p.in_channels;
    return layout;
  }
  for (int64_t f = 0; f < p.num_phases; ++f) {
    const ConvPhase& phase = p.phases[f];
    const int64_t taps = form.wide ? phase.wide_cols : 1;  // of a run
    for (int64_t t = 0; t < phase.num_taps; t += taps) {
      for (int64_t i = t; i < t + taps; ++i) row[phase.taps[i].place] = layout.rows;
      layout.rows += ceil_div(taps * p.in_channels, layout.split) * layout.split;
    }
  }
  return layout;
}

void pack_conv_chunk(const ConvProblem& p, const ChannelBlocks& blocks, int64_t block, int64_t c0, int64_t c1,
                     int64_t* tap_scratch, float* dst) {
  const int64_t nr = blocks.nr(block);
  for (int64_t t = 0; t < p.num_taps; ++t) tap_scratch[t] = p.tap_place[t] * (c1 - c0) * nr;
  ConvPackArgs args;
  args.src = p.weight + blocks.first(block) * p.lane_stride + c0 * p.channel_stride;
  args.lane_stride = p.lane_stride;
  args.channel_stride = p.channel_stride;
  args.tap_stride = p.tap_stride;
  args.lanes = blocks.lanes(block);
  args.nr = nr;
  args.channels = c1 - c0;
  args.taps = p.num_taps;
  args.dst = dst;
  args.tap_dst = tap_scratch;
  ukernels().conv_pack.pack(args);
}

PackedConvWeight pack_conv_weight(const ConvProblem& p, const ChannelBlocks& blocks,
                                  const WeightLayout& layout, float* dst, Exec& exec) {
  const bool split = layout.split > 1;
  PackedConvWeight packed;
  packed.data = dst;
  packed.rows = layout.rows;
  packed.group_floats = packed.rows * blocks.padded();
  packed.wide = layout.wide;
  packed.split = layout.split;
  exec.packs(packed.group_floats * p.groups);

  // A task packs some input channels of one block.
  const int64_t channel_floats = p.num_taps * blocks.nr(0);
  const int64_t parts =
      split ? 1 : std::min(p.in_channels, ceil_div(p.in_channels * channel_floats, kTaskFloats));
  const int64_t tasks = p.groups * blocks.count() * parts;
  // Few floats are not worth waking a thread for: one task then does it all.
  const bool serial = packed.group_floats * p.groups < 2 * kTaskFloats;
  const int64_t calls = serial ? 1 : tasks;

  auto* const tap_dst = exec.scratch_array<int64_t>(3 * p.num_taps);
  int64_t *const wide_tap_dst = tap_dst + p.num_taps, *const tap_at = wide_tap_dst + p.num_taps;
  for (int64_t t = 0; t < p.num_taps; ++t) {
    tap_at[p.tap_place[t]] = t;
    if (split) continue;  // split layouts have no row for a tap that no phase uses
    const int64_t row = layout.row[p.tap_place[t]];
    tap_dst[t] = row * blocks.nr(blocks.count() - 1);
    wide_tap_dst[t] = row * blocks.nr(0);
  }
  auto* const finite = exec.scratch_array<bool>(calls);
  const Packer packer{p, blocks, layout, packed, dst, tap_dst, wide_tap_dst, tap_at, parts};
  exec.parallel_for(calls, [&](int64_t call) {
    bool all_finite = true;
    for (int64_t task = serial ? 0 : call; task < (serial ? tasks : call + 1); ++task) {
      all_finite = (split ? packer.pack_split(task) : packer.pack(task)) && all_finite;
    }
    finite[call] = all_finite;
  });
  packed.finite = exec.planning() || std::all_of(finite, finite + calls, [](bool f) { return f; });
  if (p.pairs) packed.finite = packed.finite && p.finite_pairs;
  return packed;
}

}  // namespace cnnext
