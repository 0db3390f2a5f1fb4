#include "cpu/conv_weights_plan.h"

#include <algorithm>

#include "cpu/half_rows.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kChunkPixels = 256;    // a panel of 16 floats a pixel fills half of a 32 KB L1
constexpr int64_t kTasks = 32;           // aimed at, where the work is enough
constexpr int64_t kTaskFlops = 1000000;  // some 10 us
constexpr int64_t kSlicePixels = 512;    // fewer, and adding up the slices shows
constexpr int64_t kMaxABlock = 256, kMaxBBlock = 128;  // channels
constexpr int64_t kMinABlock = 48, kMinBBlock = 64;    // smaller blocks only because there is no more
constexpr int64_t kMaxBlockFloats = 96 * 1024;         // a block's sums, in L2 beside the panels
constexpr int64_t kMaxHalo = 3;                        // A's panels may be this much larger than the chunk
constexpr int64_t kPanelSlack = 64;                    // copy_rows writes whole vectors
constexpr int64_t kMaxRun = 128;                       // pixels, or pairs of them, of a sum in registers

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
// The smallest a / b rounded up, for a of either sign.
int64_t ceil_signed(int64_t a, int64_t b) { return a >= 0 ? ceil_div(a, b) : -(-a / b); }

// Whether side B may be X along an axis: its pixels must be in step with dY's under every tap.
bool x_can_be_b(int64_t stride, int64_t taps) { return stride == 1 || taps == 1; }

ConvWeightsAxis make_axis(bool b_is_y, int64_t x_size, int64_t y_size, int64_t taps, int64_t stride,
                          int64_t dilation, int64_t pad) {
  if (b_is_y) return {y_size, taps, 0, 1, -pad, stride, dilation, x_size};
  if (stride == 1) return {x_size, taps, 0, 1, pad, 1, -dilation, y_size};
  const int64_t begin = std::min(ceil_div(pad, stride), y_size);
  const int64_t end = std::max(begin, std::min(y_size, ceil_div(x_size + pad, stride)));
  return {end - begin, taps, begin * stride - pad, stride, begin, 1, 0, y_size};
}

ConvWeightsSide make_side(const Tensor& t, int64_t channels, int64_t groups, int64_t rows, int64_t cols,
                          Format format) {
  const bool half = is_half(t.dtype);
  const auto* const data = half ? nullptr : static_cast<const float*>(t.data);
  const auto* const bits = half ? static_cast<const uint16_t*>(t.data) : nullptr;
  const int64_t all = channels * groups;
  if (format == Format::kNHWC) return {data, bits, channels, rows * cols * all, cols * all, all, 1, channels};
  return {data, bits, channels, rows * cols * all, cols, 1, rows * cols, channels * rows * cols};
}

// What a product costs with `vector` channels along the vectors, relative to one without waste: lanes left
// empty, tiles of very few rows, bringing B into vectors, which `broadcast` channels times taps pay for, and
// A's pixels `a_step` floats apart where whole KB make them share few cache sets and each a page of its own.
double side_cost(int64_t vector, int64_t broadcast, int64_t a_step, const Conv2dDesc& desc,
                 const ConvWeightsUkernels& kernels) {
  const double lanes = static_cast<double>(round_up(vector, kernels.lanes)) / static_cast<double>(vector);
  const double rows = static_cast<double>(broadcast * desc.S);
  const bool nchw = desc.format == Format::kNCHW;
  const double far = nchw || a_step % 512 ? 0 : a_step % 2048 == 0 ? 0.3 : a_step % 1024 == 0 ? 0.2 : 0.03;
  return lanes * (1 + far + 1 / rows + (nchw ? 6 : 3) / (rows * static_cast<double>(desc.R)));
}

bool choose_b_is_y(const Conv2dDesc& desc, const ConvWeightsUkernels& kernels) {
  if (!conv_weights_side_is_free(desc)) return true;
  const int64_t c = desc.C / desc.groups, k = desc.K / desc.groups;
  const double x = side_cost(c, k, desc.K, desc, kernels);
  const double y = side_cost(k, c, desc.C * desc.stride_w, desc, kernels);
  // B = X writes K,R,S,C weights as they lie.
  return desc.w_format == Format::kNHWC ? y < 0.98 * x : y < x;
}

// Cuts n into blocks of at most `limit`, each a multiple of `unit` but the last.
void cut(int64_t n, int64_t limit, int64_t unit, int64_t* block, int64_t* blocks) {
  *block = std::min(round_up(ceil_div(n, ceil_div(n, limit)), unit), n);
  *blocks = ceil_div(n, *block);
}

void set_blocks(ConvWeightsPlan& plan, const ConvWeightsUkernels& kernels, int64_t a_limit, int64_t b_limit) {
  const int rows = kernels.rows[kernels.vectors];
  cut(plan.b.channels, std::max<int64_t>(b_limit, kernels.lanes), kernels.lanes, &plan.b_block,
      &plan.b_blocks);
  plan.b_padded = round_up(plan.b_block, kernels.lanes);
  cut(plan.a.channels, std::max<int64_t>(a_limit, rows), rows, &plan.a_block, &plan.a_blocks);
}

void set_chunks(ConvWeightsPlan& plan) {
  const int64_t rows = plan.height.size, cols = plan.width.size;
  plan.col_chunks = std::max<int64_t>(ceil_div(cols, 2 * kChunkPixels), 1);
  plan.chunk_cols = ceil_div(cols, plan.col_chunks);
  if (plan.col_chunks > 1) {
    plan.chunk_rows = plan.chunk_images = 1;
    return;
  }
  const int64_t pieces = std::max<int64_t>(ceil_div(rows * cols, kChunkPixels + kChunkPixels / 2), 1);
  plan.chunk_rows = std::max<int64_t>(ceil_div(rows, pieces), 1);
  plan.chunk_images = std::max<int64_t>(kChunkPixels / std::max<int64_t>(rows * cols, 1), 1);
  plan.chunk_images = std::min(plan.chunk_images, std::max<int64_t>(plan.images, 1));
}

int64_t bytes_of(const Conv2dDesc& desc) {
  return 4 * std::max(desc.N * desc.C * desc.H * desc.W, desc.N * desc.K * desc.P * desc.Q);
}

// Enough tasks for many threads: first groups, then slices of the pixels as far as scratch allows (a quarter
// of the larger image), then smaller blocks, then filter rows.
void set_tasks(ConvWeightsPlan& plan, const Conv2dDesc& desc, const ConvWeightsUkernels& kernels) {
  const int64_t pixels = plan.images * plan.height.size * plan.width.size;
  const double flops = 2.0 * static_cast<double>(pixels) * static_cast<double>(desc.K * desc.R * desc.S) *
                       static_cast<double>(desc.C / desc.groups);
  const int64_t wanted = std::clamp<int64_t>(static_cast<int64_t>(flops / kTaskFlops), 1, kTasks);

  const int64_t taps = desc.R * desc.S;
  int64_t b_limit = kMaxBBlock, a_limit = kMaxABlock;
  set_blocks(plan, kernels, a_limit, b_limit);
  if (plan.a_block * plan.b_padded * taps > kMaxBlockFloats) {
    b_limit = kMinBBlock;
    a_limit = std::max<int64_t>(kMaxBlockFloats / (std::min(plan.b_padded, b_limit) * taps), 1);
    set_blocks(plan, kernels, a_limit, b_limit);
  }
  plan.tap_rows = desc.R;
  plan.tap_row_blocks = 1;
  plan.group_block = ceil_div(plan.groups, wanted);
  const int64_t group_floats = plan.a_block * plan.b_padded * taps;
  plan.group_block = std::max<int64_t>(std::min(plan.group_block, kMaxBlockFloats / group_floats), 1);
  plan.group_blocks = ceil_div(plan.groups, plan.group_block);

  const int64_t sums = 4 * plan.block_floats() * plan.blocks();
  plan.slices = ceil_div(wanted, plan.blocks());
  plan.slices =
      std::min({plan.slices, pixels / kSlicePixels, (bytes_of(desc) / 4 + sums) / sums, plan.units()});
  plan.slices = std::max<int64_t>(plan.slices, 1);

  const auto tasks = [&] { return plan.slices * plan.blocks(); };
  while (tasks() < wanted) {
    if (plan.b_block >= 2 * kMinBBlock) {
      b_limit = plan.b_block / 2;
    } else if (plan.a_block >= 2 * kMinABlock) {
      a_limit = ceil_div(plan.a_block, 2);
    } else {
      break;
    }
    set_blocks(plan, kernels, a_limit, b_limit);
  }
  if (tasks() < wanted && desc.R > 1 && plan.a.channels >= kernels.rows[kernels.vectors]) {
    cut(desc.R, ceil_div(desc.R, ceil_div(wanted, tasks())), 1, &plan.tap_rows, &plan.tap_row_blocks);
  }
}

// A panel's pixels, or planes, do not lie whole KB apart, and there is room for whole vectors.
void set_pair_steps(ConvWeightsPlan& plan) {
  constexpr int64_t kLine = 16;
  plan.a_pixel = plan.planes ? 1 : round_up(plan.a_block, kLine) + kLine;
  plan.a_channel = plan.planes ? round_up(plan.panel_a_pixels(), kLine) + kLine : 1;
}

// What goes through panels. B: what is not vectors yet, or is read by narrow tiles, or lies at strides of
// whole KB, which share few cache sets; and A as well at such strides, if narrow tiles read it often.
void set_panels(ConvWeightsPlan& plan, const Conv2dDesc& desc, const ConvWeightsUkernels& kernels) {
  const bool nchw = desc.format == Format::kNCHW;
  plan.b_tile = std::min<int64_t>(plan.b_padded, kernels.lanes * kernels.vectors);
  const int64_t pixels = plan.chunk_images * plan.chunk_rows * plan.chunk_cols;
  const auto halo_is_small = [&] {
    return plan.panel_a_floats() <= kMaxHalo * pixels * plan.a_block + kPanelSlack;
  };
  if (plan.half) {
    plan.pack_a = plan.pack_b = true;
    if (!halo_is_small()) plan.tap_rows = 1, plan.tap_row_blocks = desc.R;
    if (plan.pairs) set_pair_steps(plan);
    return;
  }
  plan.pack_b = nchw || plan.b.channels % kernels.lanes != 0 || kernels.narrow ||
                plan.b.col * plan.width.b_step % 256 == 0;
  plan.pack_a = kernels.narrow && !nchw && !plan.merge_taps && desc.R * desc.S > 1 && plan.a.col % 256 == 0;
  if (plan.pack_a) plan.pack_a = halo_is_small();
}

}  // namespace

void ConvWeightsAxis::valid(int64_t tap, int64_t* begin, int64_t* end) const {
  const int64_t first = tap_step * tap + a_first;
  *begin = std::max<int64_t>(ceil_signed(-first, a_step), 0);
  *end = std::min(ceil_signed(a_size - first, a_step), size);
}

ConvWeightsSpan ConvWeightsAxis::span(int64_t u, int64_t positions, int64_t tap, int64_t count) const {
  const int64_t every = taps == 1 ? a_step : 1;
  const int64_t ends[] = {a_index(u, tap), a_index(u, tap + count - 1)};
  const int64_t low = std::min(ends[0], ends[1]),
                high = std::max(ends[0], ends[1]) + a_step * (positions - 1);
  const int64_t first = low >= 0 ? low : low + ceil_div(-low, every) * every;
  const int64_t last = std::min(high, a_size - 1);
  return {first, last >= first ? (last - first) / every + 1 : 0, every};
}

int64_t ConvWeightsPlan::panel_b_floats() const {
  const int64_t channels = planes ? b_padded : b_tile;
  return pack_b ? chunk_images * chunk_rows * chunk_cols * channels + kPanelSlack : 0;
}

int64_t ConvWeightsPlan::panel_a_pixels() const {
  const auto most = [](const ConvWeightsAxis& axis, int64_t positions, int64_t count, bool all) {
    if (axis.taps == 1 && !all) return positions;
    const int64_t reach = axis.a_step * (positions - 1) + std::abs(axis.tap_step) * (count - 1) + 1;
    return std::min(reach, axis.a_size);
  };
  return chunk_images * most(height, chunk_rows, tap_rows, false) *
         most(width, chunk_cols, width.taps, planes);
}

int64_t ConvWeightsPlan::panel_a_floats() const {
  if (!pack_a) return 0;
  if (planes) return kConvWeightsMaxRows * a_channel;
  return panel_a_pixels() * (pairs ? a_pixel : a_block) + kPanelSlack;
}

bool conv_weights_side_is_free(const Conv2dDesc& desc) {
  if (!x_can_be_b(desc.stride_h, desc.R) || !x_can_be_b(desc.stride_w, desc.S)) return false;
  // NCHW is packed by transposing whole rows, which need neighbouring pixels.
  return desc.format == Format::kNHWC || (desc.stride_h == 1 && desc.stride_w == 1);
}

bool conv_weights_pairs_suit(const Conv2dDesc& desc) {
  constexpr int64_t kMinChannels = 8;
  return desc.dtype == CNNEXT_BFLOAT16 && bf16_ukernels() &&
         std::min(desc.C, desc.K) / desc.groups >= kMinChannels;
}

ConvWeightsPlan plan_conv_weights(const Conv2dDesc& desc, const ConvWeightsUkernels& kernels) {
  ConvWeightsPlan plan{};
  plan.b_is_y = choose_b_is_y(desc, kernels) !=
                (desc.variant == ConvVariant::kOtherSide && conv_weights_side_is_free(desc));
  if (is_half(desc.dtype)) plan.half = &half_converter(desc.dtype);
  plan.images = desc.N;
  if (conv_weights_pairs_suit(desc)) {
    plan.pairs = bf16_ukernels();
    plan.images = (desc.N + 1) / 2;
    plan.lone_image = desc.N % 2;
    plan.planes = desc.format == Format::kNCHW;
  }
  plan.groups = desc.groups;
  plan.height = make_axis(plan.b_is_y, desc.H, desc.P, desc.R, desc.stride_h, desc.dilation_h, desc.pad_top);
  plan.width = make_axis(plan.b_is_y, desc.W, desc.Q, desc.S, desc.stride_w, desc.dilation_w, desc.pad_left);
  plan.a = make_side(desc.x, desc.C / desc.groups, desc.groups, desc.H, desc.W, desc.format);
  plan.b = make_side(desc.y, desc.K / desc.groups, desc.groups, desc.P, desc.Q, desc.format);
  if (!plan.b_is_y) std::swap(plan.a, plan.b);
  if (plan.pairs) plan.a.image *= 2, plan.b.image *= 2;
  plan.merge_taps = desc.S > 1 && plan.a.channels < kernels.rows[kernels.vectors];
  set_chunks(plan);
  set_tasks(plan, desc, kernels);
  // Short enough for small rounding errors, long enough for the time of adding them up not to show.
  const int64_t slice_pixels = plan.images * plan.height.size * plan.width.size / plan.slices;
  // Beside bfloat16's rounding of the result its sums' does not show.
  plan.run_pixels = plan.pairs ? kMaxRun : std::clamp<int64_t>(slice_pixels / 8, 32, kMaxRun);
  set_panels(plan, desc, kernels);
  plan.taps_inside = desc.w_format == Format::kNCHW && desc.R * desc.S > 1;
  plan.direct = !plan.b_is_y && !plan.taps_inside && plan.slices == 1 && !plan.merge_taps &&
                plan.b.channels % kernels.lanes == 0;
  return plan;
}

}  // namespace cnnext
