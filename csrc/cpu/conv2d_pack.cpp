#include "cpu/conv2d_pack.h"

#include <algorithm>

namespace cnnext {

ChannelBlocks::ChannelBlocks(int64_t channels, const ConvKUkernels& kernels) : channels_(channels) {
  const ConvKTile* tiles = kernels.tiles;
  if (kernels.narrow && channels <= kernels.narrow->nr) {
    count_ = 1, wide_ = 0;
    wide_tile_ = tile_ = kernels.narrow;
  } else {
    const int64_t vectors = (channels + kernels.lanes - 1) / kernels.lanes;
    count_ = (vectors + kernels.num_tiles - 1) / kernels.num_tiles;
    const int64_t each = vectors / count_;
    wide_ = vectors % count_;
    tile_ = &tiles[each - 1];
    wide_tile_ = wide_ ? &tiles[each] : tile_;
  }
  mr_ = std::min(wide_tile_->mr, tile_->mr);
}

int64_t packed_floats(const ConvProblem& problem, const ChannelBlocks& blocks) {
  return problem.groups * blocks.padded() * problem.num_taps * problem.in_channels;
}

PackedConvWeight pack_conv_weight(const ConvProblem& p, const ChannelBlocks& blocks, float* dst, Exec& exec) {
  constexpr int64_t kTaskFloats = 1 << 15;
  PackedConvWeight packed;
  packed.data = dst;
  packed.rows = p.num_taps * p.in_channels;
  packed.group_floats = packed.rows * blocks.padded();

  // A task packs some input channels of one block.
  const int64_t channel_floats = p.num_taps * blocks.nr(0);
  const int64_t parts =
      std::min(p.in_channels, (p.in_channels * channel_floats + kTaskFloats - 1) / kTaskFloats);
  const int64_t tasks = p.groups * blocks.count() * parts;
  // Few floats are not worth waking a thread for: one task then does it all.
  const bool serial = packed.group_floats * p.groups < 2 * kTaskFloats;
  const int64_t calls = serial ? 1 : tasks;

  auto* tap_dst = exec.scratch_array<int64_t>(2 * p.num_taps);
  int64_t* const wide_tap_dst = tap_dst + p.num_taps;
  for (int64_t t = 0; t < p.num_taps; ++t) {
    const int64_t row = p.tap_place[t] * p.in_channels;
    tap_dst[t] = row * blocks.nr(blocks.count() - 1);
    wide_tap_dst[t] = row * blocks.nr(0);
  }
  auto* finite = exec.scratch_array<bool>(calls);
  const ConvPackUkernels& kernels = ukernels().conv_pack;
  exec.parallel_for(calls, [&](int64_t call) {
    bool all_finite = true;
    for (int64_t task = serial ? 0 : call; task < (serial ? tasks : call + 1); ++task) {
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
      all_finite = kernels.pack(args) && all_finite;
    }
    finite[call] = all_finite;
  });
  packed.finite = std::all_of(finite, finite + calls, [](bool f) { return f; });
  return packed;
}

}  // namespace cnnext
