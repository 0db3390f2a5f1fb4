// Backward-weights on the vectorised backend: see conv_weights_plan.h for how the work is cut.
#include <algorithm>
#include <cstring>

#include "cpu/conv_autotune.h"
#include "cpu/conv_weights_p.h"
#include "cpu/conv_weights_task.h"
#include "cpu/cpu.h"
#include "cpu/depthwise.h"
#include "cpu/half_rows.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"
#include "cpu/winograd.h"

namespace cnnext {
namespace {

// A finishing task adds up and moves about as many floats.
constexpr int64_t kFinishFloats = 32 * 1024;

// Adds the slices' sums and brings them into the weights' order.
class Finisher {
 public:
  Finisher(const Conv2dDesc& desc, const ConvWeightsPlan& plan, const ConvWeightsUkernels& kernels)
      : plan_(plan),
        kernels_(kernels),
        w_(static_cast<float*>(desc.w.data)),
        taps_(desc.R * desc.S),
        c_(desc.C / desc.groups),
        k_(desc.K / desc.groups) {}

  // sums: the block's, in slice 0; the other slices' follow at `step`. Channels of A [begin, end).
  void run(const ConvWeightsBlock& block, float* sums, int64_t step, int64_t begin, int64_t end) const {
    const int64_t taps = block.tap_rows * plan_.width.taps, width = plan_.b_padded;
    for (int64_t g = 0; g < block.groups; ++g) {
      float* rows = sums + g * plan_.a_block * plan_.taps() * width;
      if (plan_.taps_inside) {
        float* first = rows + begin * taps * width;
        add(first, step, (end - begin) * taps * width);
        move_taps_inside(block, g, first, begin, end, taps);
        continue;
      }
      for (int64_t t = 0; t < taps; ++t) {
        float* first = rows + (t * block.a_count + begin) * width;
        add(first, step, (end - begin) * width);
        move_tap(block, g, first, begin, end, block.tap_row * plan_.width.taps + t);
      }
    }
  }

 private:
  void add(float* sums, int64_t step, int64_t n) const {
    if (plan_.slices > 1) kernels_.add(n, plan_.slices - 1, sums + step, step, sums);
  }

  // A tap's rows into weights that are K,R,S,C in memory.
  void move_tap(const ConvWeightsBlock& block, int64_t g, const float* rows, int64_t begin, int64_t end,
                int64_t tap) const {
    const int64_t k = (block.group + g) * k_, width = plan_.b_padded;
    if (plan_.b_is_y) {
      float* out = w_ + ((k + block.b) * taps_ + tap) * c_ + block.a + begin;
      kernels_.transpose(end - begin, block.b_count, rows, width, out, taps_ * c_);
      return;
    }
    for (int64_t m = begin; m < end; ++m, rows += width) {
      float* out = w_ + ((k + block.a + m) * taps_ + tap) * c_ + block.b;
      std::memcpy(out, rows, static_cast<size_t>(block.b_count) * sizeof(float));
    }
  }

  // Rows of (channel, tap) into weights that are K,C,R,S in memory.
  void move_taps_inside(const ConvWeightsBlock& block, int64_t g, const float* rows, int64_t begin,
                        int64_t end, int64_t taps) const {
    const int64_t k = (block.group + g) * k_, width = plan_.b_padded;
    const int64_t tap = block.tap_row * plan_.width.taps;
    if (plan_.b_is_y && taps == taps_) {
      float* out = w_ + ((k + block.b) * c_ + block.a + begin) * taps_;
      kernels_.transpose((end - begin) * taps, block.b_count, rows, width, out, c_ * taps_);
      return;
    }
    for (int64_t m = begin; m < end; ++m, rows += taps * width) {
      if (plan_.b_is_y) {
        float* out = w_ + ((k + block.b) * c_ + block.a + m) * taps_ + tap;
        kernels_.transpose(taps, block.b_count, rows, width, out, c_ * taps_);
      } else {
        float* out = w_ + ((k + block.a + m) * c_ + block.b) * taps_ + tap;
        kernels_.transpose(taps, block.b_count, rows, width, out, taps_);
      }
    }
  }

  const ConvWeightsPlan& plan_;
  const ConvWeightsUkernels& kernels_;
  float* const w_;
  const int64_t taps_, c_, k_;
};

// Where a task keeps the sums of its block: in the weights themselves, or in rows of b_padded floats.
ConvWeightsSums sums_of(const Conv2dDesc& desc, const ConvWeightsPlan& plan, const ConvWeightsBlock& block,
                        float* buffer) {
  if (plan.direct) {
    const int64_t c = desc.C / desc.groups, taps = desc.R * desc.S, k = desc.K / desc.groups;
    float* w = static_cast<float*>(desc.w.data);
    w += ((block.group * k + block.a) * taps + block.tap_row * desc.S) * c + block.b;
    return {w, k * taps * c, taps * c, desc.S * c, c};
  }
  const int64_t taps = block.tap_rows * desc.S, width = plan.b_padded;
  const int64_t group = plan.a_block * plan.taps() * width;
  if (plan.taps_inside) return {buffer, group, taps * width, desc.S * width, width};
  return {buffer, group, width, desc.S * block.a_count * width, block.a_count * width};
}

void run_plan(const Conv2dDesc& desc, const ConvWeightsPlan& plan, const ConvWeightsUkernels& kernels,
              Exec& exec) {
  const std::vector<ConvWeightsSegment> segments = conv_weights_segments(plan);
  const Finisher finisher(desc, plan, kernels);
  const int64_t blocks = plan.blocks(), block_floats = plan.block_floats();
  const int64_t panels = (plan.panel_a_floats() + plan.panel_b_floats() + 15) / 16 * 16;
  const bool sliced = plan.slices > 1;
  float* const parts = sliced ? exec.scratch_array<float>(plan.slices * blocks * block_floats) : nullptr;

  const int64_t own = sliced || plan.direct ? 0 : block_floats;
  parallel_strands(exec, plan.slices * blocks, panels + own, [&](int64_t task, float* scratch) {
    const ConvWeightsBlock block = conv_weights_block(plan, task % blocks);
    float* const sums = sliced ? parts + task * block_floats : scratch + panels;
    if (plan.merge_taps) std::memset(sums, 0, static_cast<size_t>(block_floats) * sizeof(float));
    ConvWeightsTask(plan, kernels, segments, block, sums_of(desc, plan, block, sums), scratch)
        .run(task / blocks);
    if (!sliced && !plan.direct) finisher.run(block, sums, 0, 0, block.a_count);
  });
  if (!sliced) return;

  const int64_t row_floats = plan.slices * plan.group_block * plan.taps() * plan.b_padded;
  const int64_t channels = std::max<int64_t>(kFinishFloats / row_floats, 1);
  const int64_t pieces = (plan.a_block + channels - 1) / channels;
  exec.parallel_for(blocks * pieces, [&](int64_t i) {
    const ConvWeightsBlock block = conv_weights_block(plan, i / pieces);
    const int64_t begin = i % pieces * channels, end = std::min(begin + channels, block.a_count);
    if (begin < end)
      finisher.run(block, parts + i / pieces * block_floats, blocks * block_floats, begin, end);
  });
}

// desc.w is float32, whatever the images are.
void run_to_floats(const Conv2dDesc& desc, Exec& exec) {
  const ConvWeightsUkernels& kernels =
      conv_weights_pairs_suit(desc) ? bf16_ukernels()->conv_weights : ukernels().conv_weights;
  exec.ran(kernels.name);
  const int64_t floats = desc.K * (desc.C / desc.groups) * desc.R * desc.S;
  if (floats == 0) return;
  if (desc.N > 0 && depthwise_supports(desc)) return depthwise_backward_weights(desc, exec);
  if (desc.N > 0 && winograd_supports_backward_weights(desc)) return winograd_backward_weights(desc, exec);
  if (desc.N > 0 && conv_weights_p_suits(desc) && conv_weights_p(desc, exec)) return;
  if (desc.N > 0) {
    exec.ran(kernels.name);
    const ConvWeightsPlan plan = plan_conv_weights(desc, kernels);
    if (plan.units() > 0) {
      if (winograd_may_backward_weights(desc)) exec.offers(ConvVariant::kWinograd);
      if (conv_weights_side_is_free(desc)) exec.offers(ConvVariant::kOtherSide);
      return run_plan(desc, plan, kernels, exec);
    }
  }
  if (!exec.planning()) std::memset(desc.w.data, 0, static_cast<size_t>(floats) * sizeof(float));
}

Ran run_weights(const Conv2dDesc& desc, Exec& exec) {
  if (desc.dtype != CNNEXT_FLOAT32 && !is_half(desc.dtype)) return Ran::kUnsupported;
  if (desc.dtype == CNNEXT_FLOAT32) {
    run_to_floats(desc, exec);
    return Ran::kDone;
  }
  if (desc.N > 0 && numel(desc.w) > 0 && depthwise_half_supports(desc)) {
    depthwise_half_backward_weights(desc, exec);
    return Ran::kDone;
  }
  Conv2dDesc wide = desc;
  auto* const sums = exec.scratch_array<float>(numel(desc.w));
  wide.w.data = sums;
  run_to_floats(wide, exec);
  narrow_all(sums, desc.w, exec);
  return Ran::kDone;
}

}  // namespace

Ran cpu_conv2d_backward_weights(const Conv2dDesc& desc, Exec& exec) {
  return run_tuned(ConvPass::kBackwardWeights, desc, exec, run_weights);
}

}  // namespace cnnext
