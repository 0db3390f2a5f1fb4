#include <algorithm>
#include <cassert>

#include "cpu/conv2d_k.h"
#include "cpu/winograd_driver.h"

namespace cnnext {
namespace {

constexpr int64_t kIn = kWinogradIn, kElements = kWinogradElements;
constexpr int64_t kRunChannels =
    2 * kConvKRunStep;                   // so short, the rounding error stays near 2 times direct's
constexpr int64_t kStrip = 16;           // channels of planes that are transposed together: a cache line
constexpr int64_t kFilterChannels = 32;  // input channels whose filters are transposed together
constexpr int64_t kFilterLanes = 16;

// Filters lie in long rows far apart, which the processor does not foresee.
void prefetch_filters(const ConvPackArgs& a) {
  const bool by_lane = a.channel_stride == a.taps;
  const int64_t runs = by_lane ? a.lanes : a.channels, step = by_lane ? a.lane_stride : a.channel_stride;
  const int64_t floats = a.taps * (by_lane ? a.channels : a.lanes);
  for (int64_t run = 0; run < runs; ++run) {
    for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(a.src + run * step + i);
  }
}

}  // namespace

TileGroup WinogradSteps::group(int64_t index) const {
  const int64_t row = index / plan_.col_parts, col = index % plan_.col_parts;
  const int64_t rows = p_.N * plan_.tile_rows, cols = plan_.tile_cols;
  return {rows * row / plan_.row_parts, rows * (row + 1) / plan_.row_parts, cols * col / plan_.col_parts,
          cols * (col + 1) / plan_.col_parts};
}

int64_t WinogradSteps::input_scratch() const {
  if (p_.format == Format::kNCHW) return kIn * (plan_.out * plan_.group_cols + kIn - plan_.out) * kStrip;
  return 2 * kElements + p_.in_channels;  // a pointer takes two floats' room
}

int64_t WinogradSteps::output_scratch() const {
  return p_.format == Format::kNCHW ? plan_.out * plan_.out * plan_.group_cols * kStrip : 0;
}

int64_t WinogradSteps::filter_scratch() const { return form_.taps * kFilterChannels * kFilterLanes; }

void WinogradSteps::transform_input(const TileGroup& tiles, int64_t group, int64_t c0, int64_t c1,
                                    float* elements, float* scratch) const {
  const bool planes = p_.format == Format::kNCHW;
  auto** const pixels = reinterpret_cast<const float**>(scratch);
  float* const zeros = scratch + 2 * kElements;
  if (!planes) std::fill(zeros, zeros + p_.in_channels, 0.f);
  for (int64_t row = tiles.row0; row < tiles.row1; ++row) {
    const TileGroup one{row, row + 1, tiles.col0, tiles.col1};
    float* const dst = elements + (row - tiles.row0) * tiles.cols() * plan_.pitch;
    if (planes)
      input_planes(one, group, c0, c1, dst, scratch);
    else
      input_tiles(one, group, c0, c1, dst, pixels, zeros);
  }
}

// NHWC: from where the pixels lie, or through a list of them where some are padding.
void WinogradSteps::input_tiles(const TileGroup& row, int64_t group, int64_t c0, int64_t c1, float* elements,
                                const float** pixels, const float* zeros) const {
  const int64_t col_floats = p_.groups * p_.in_channels, row_floats = p_.in_w * col_floats;
  const int64_t image = row.row0 / plan_.tile_rows;
  const int64_t h0 = (row.row0 - image * plan_.tile_rows) * plan_.out + p_.phases[0].min_dh;
  const float* const in = p_.in + image * p_.in_h * row_floats + group * p_.in_channels;
  const bool rows_inside = h0 >= 0 && h0 + kIn <= p_.in_h;
  WinogradInputArgs args{};
  args.row = row_floats;
  args.col = col_floats;
  args.channels = c1 - c0;
  args.plane = plan_.plane;
  for (int64_t t = row.col0; t < row.col1; ++t) {
    const int64_t w0 = t * plan_.out + p_.phases[0].min_dw;
    args.dst = elements + (t - row.col0) * plan_.pitch;
    if (rows_inside && w0 >= 0 && w0 + kIn <= p_.in_w) {
      args.pixels = nullptr;
      args.src = in + h0 * row_floats + w0 * col_floats + c0;
    } else {
      for (int64_t i = 0; i < kElements; ++i) {
        const int64_t h = h0 + i / kIn, w = w0 + i % kIn;
        const bool inside = h >= 0 && h < p_.in_h && w >= 0 && w < p_.in_w;
        pixels[i] = inside ? in + h * row_floats + w * col_floats : zeros;
      }
      args.pixels = pixels;
      args.channel = c0;
    }
    kernels_.input(args);
  }
}

// NCHW: the rows under a row of tiles, some channels at a time, transposed into a strip with its padding.
void WinogradSteps::input_planes(const TileGroup& row, int64_t group, int64_t c0, int64_t c1, float* elements,
                                 float* strip) const {
  const int64_t plane = p_.in_h * p_.in_w;
  const int64_t image = row.row0 / plan_.tile_rows;
  const int64_t h0 = (row.row0 - image * plan_.tile_rows) * plan_.out + p_.phases[0].min_dh;
  const int64_t w0 = row.col0 * plan_.out + p_.phases[0].min_dw;
  const int64_t cols = row.cols() * plan_.out + kIn - plan_.out;
  const int64_t left = std::clamp<int64_t>(-w0, 0, cols);
  const int64_t used = std::clamp<int64_t>(p_.in_w - w0, left, cols) - left;
  const float* const in = p_.in + (image * p_.groups + group) * p_.in_channels * plane;
  const auto pixel = [&](int64_t i, int64_t j) { return strip + (i * cols + j) * kStrip; };
  for (int64_t i = 0; i < kIn; ++i) {
    if (h0 + i < 0 || h0 + i >= p_.in_h) {
      std::fill(pixel(i, 0), pixel(i + 1, 0), 0.f);
    } else {
      std::fill(pixel(i, 0), pixel(i, left), 0.f);
      std::fill(pixel(i, left + used), pixel(i + 1, 0), 0.f);
    }
  }
  const int64_t i0 = std::clamp<int64_t>(-h0, 0, kIn), i1 = std::clamp<int64_t>(p_.in_h - h0, i0, kIn);
  WinogradInputArgs args{};
  args.row = cols * kStrip;
  args.col = kStrip;
  args.plane = plan_.plane;
  for (int64_t c = c0; c < c1; c += kStrip) {
    args.channels = std::min(kStrip, c1 - c);
    for (int64_t i = i0; i < i1 && used > 0; ++i) {
      ukernels().conv_pack.transpose({in + c * plane + (h0 + i) * p_.in_w + w0 + left, plane, args.channels,
                                      used, pixel(i, left), kStrip});
    }
    for (int64_t t = 0; t < row.cols(); ++t) {
      args.src = pixel(0, t * plan_.out);
      args.dst = elements + t * plan_.pitch + c - c0;
      kernels_.input(args);
    }
  }
}

bool WinogradSteps::transform_filters(int64_t group, int64_t block, int64_t c0, int64_t c1, float* dst,
                                      int64_t plane, float* scratch) const {
  const int64_t nr = blocks_.nr(block);
  const int64_t lanes = nr % kFilterLanes == 0 ? kFilterLanes : nr;
  int64_t tap_dst[25];
  ConvPackArgs pack{};
  pack.lane_stride = p_.lane_stride;
  pack.channel_stride = p_.channel_stride;
  pack.tap_stride = p_.tap_stride;
  pack.nr = lanes;
  pack.taps = form_.taps;
  pack.dst = scratch;
  pack.tap_dst = tap_dst;
  WinogradWeightArgs args{};
  args.src = scratch;
  args.lanes = lanes;
  args.plane = plane;
  args.row = nr;
  bool finite = true;
  const int64_t items = (c1 - c0 + kFilterChannels - 1) / kFilterChannels * (nr / lanes);
  const auto select = [&](int64_t item) {
    const int64_t c = c0 + item / (nr / lanes) * kFilterChannels, l = item % (nr / lanes) * lanes;
    pack.channels = std::min(kFilterChannels, c1 - c);
    pack.lanes = std::clamp<int64_t>(blocks_.lanes(block) - l, 0, lanes);
    pack.src = p_.weight + group * p_.group_stride + (blocks_.first(block) + l) * p_.lane_stride +
               c * p_.channel_stride;
    args.channels = pack.channels;
    args.dst = dst + (c - c0) * nr + l;
  };
  for (int64_t item = 0; item < items; ++item) {
    if (item + 1 < items && p_.tap_stride == 1) {
      select(item + 1);
      prefetch_filters(pack);
    }
    select(item);
    for (int64_t t = 0; t < form_.taps; ++t) tap_dst[t] = p_.tap_place[t] * args.channels * lanes;
    ukernels().conv_pack.pack(pack);
    finite = form_.weights(args) && finite;
  }
  return finite;
}

void WinogradSteps::multiply(const TileGroup& group, const float* elements, int64_t block0, int64_t block1,
                             int64_t part0, int64_t part1, const float* const* filters, int64_t rows,
                             float* products) const {
  const int64_t tiles = group.tiles(), lanes = plan_.panel_lanes;
  assert(tiles <= kMaxGroupTiles);
  const float* in[kMaxGroupTiles];
  float* out[kMaxGroupTiles];
  for (int64_t t = 0; t < tiles; ++t) {
    in[t] = elements + t * plan_.pitch;
    out[t] = products + t * kElements * lanes;
  }
  const int64_t zero = 0;
  ConvKArgs args{};
  args.tap_input = args.tap_row = &zero;
  args.taps = 1;
  args.run_rows = kRunChannels;
  const int64_t mr = blocks_.mr(), slices = (tiles + mr - 1) / mr;
  for (int64_t e = 0; e < kElements; ++e) {
    for (int64_t block = block0; block < block1; ++block) {
      const ConvKTile& kernel = blocks_.tile(block);
      args.lanes = kernel.nr;
      args.out_offset = e * lanes + blocks_.first(block) - blocks_.first(block0);
      for (int64_t slice = 0; slice < slices; ++slice) {
        const int64_t t0 = tiles * slice / slices, t1 = tiles * (slice + 1) / slices;
        args.pixels = in + t0;
        args.out = out + t0;
        args.weight = filters[block - block0] + e * WinogradFilters::plane(rows, kernel.nr);
        for (int64_t part = part0; part < part1; ++part) {
          args.channel = (part * kElements + e) * plan_.plane;
          args.channels = std::min(plan_.part, p_.in_channels - part * plan_.part);
          args.flags = part ? kConvKAccumulate : 0;
          kernel.run[t1 - t0 - 1](args);
          args.weight += args.channels * kernel.nr;
        }
      }
    }
  }
}

void WinogradSteps::transform_output(const TileGroup& tiles, int64_t group, int64_t block0, int64_t block1,
                                     const float* products, float* scratch) const {
  const int64_t channel = group * p_.out_channels + blocks_.first(block0);
  const int64_t lanes = blocks_.first(block1 - 1) + blocks_.lanes(block1 - 1) - blocks_.first(block0);
  for (int64_t row = tiles.row0; row < tiles.row1; ++row) {
    const TileGroup one{row, row + 1, tiles.col0, tiles.col1};
    if (p_.format == Format::kNCHW)
      output_planes(one, channel, lanes, products, scratch);
    else
      output_tiles(one, channel, lanes, products);
    products += tiles.cols() * kElements * plan_.panel_lanes;
  }
}

void WinogradSteps::output_tiles(const TileGroup& row, int64_t channel, int64_t lanes,
                                 const float* products) const {
  const int64_t image = row.row0 / plan_.tile_rows;
  const int64_t h0 = (row.row0 - image * plan_.tile_rows) * plan_.out;
  const int64_t col_floats = p_.groups * p_.out_channels;
  const bool slow = conv_activation_is_slow(p_.activation);
  WinogradOutputArgs args{};
  args.plane = plan_.panel_lanes;
  args.lanes = lanes;
  args.row = p_.out_w * col_floats;
  args.col = col_floats;
  args.rows = static_cast<int32_t>(std::min(plan_.out, p_.out_h - h0));
  args.bias = p_.bias ? p_.bias + channel : nullptr;
  args.residual = p_.residual ? p_.residual - p_.out : 0;
  args.flags = conv_activation_flags(p_.activation) | (p_.residual ? kConvKResidual : 0);
  args.alpha = p_.alpha;
  for (int64_t t = row.col0; t < row.col1; ++t, products += kElements * plan_.panel_lanes) {
    const int64_t w0 = t * plan_.out;
    args.src = products;
    args.dst = p_.out + ((image * p_.out_h + h0) * p_.out_w + w0) * col_floats + channel;
    args.cols = static_cast<int32_t>(std::min(plan_.out, p_.out_w - w0));
    form_.output(args);
    if (!slow) continue;
    for (int64_t i = 0; i < args.rows; ++i) {
      for (int64_t j = 0; j < args.cols; ++j) {
        conv_activate(p_.activation, p_.alpha, args.dst + i * args.row + j * args.col, lanes);
      }
    }
  }
}

// NCHW: a row of tiles, some channels at a time, through a buffer that is transposed into the planes.
void WinogradSteps::output_planes(const TileGroup& row, int64_t channel, int64_t lanes, const float* products,
                                  float* buffer) const {
  const int64_t image = row.row0 / plan_.tile_rows;
  const int64_t h0 = (row.row0 - image * plan_.tile_rows) * plan_.out, w0 = row.col0 * plan_.out;
  const int64_t plane = p_.out_h * p_.out_w;
  const int64_t rows = std::min(plan_.out, p_.out_h - h0),
                cols = std::min(row.cols() * plan_.out, p_.out_w - w0);
  WinogradOutputArgs args{};
  args.plane = plan_.panel_lanes;
  args.row = cols * kStrip;
  args.col = kStrip;
  args.rows = static_cast<int32_t>(rows);
  // Whole rows follow one another in the planes.
  const int64_t runs = cols == p_.out_w ? 1 : rows;
  TransposeOutArgs out{};
  out.matrix.src_stride = kStrip;
  out.matrix.rows = rows * cols / runs;
  out.matrix.dst_stride = plane;
  out.flags = conv_activation_flags(p_.activation);
  out.alpha = p_.alpha;
  for (int64_t l = 0; l < lanes; l += kStrip) {
    args.lanes = out.matrix.cols = std::min(kStrip, lanes - l);
    args.bias = p_.bias ? p_.bias + channel + l : nullptr;
    for (int64_t t = 0; t < row.cols(); ++t) {
      args.src = products + t * kElements * plan_.panel_lanes + l;
      args.dst = buffer + t * plan_.out * kStrip;
      args.cols = static_cast<int32_t>(std::min(plan_.out, cols - t * plan_.out));
      form_.output(args);
    }
    for (int64_t i = 0; i < runs; ++i) {
      const int64_t offset =
          (image * p_.groups * p_.out_channels + channel + l) * plane + (h0 + i) * p_.out_w + w0;
      out.matrix.src = buffer + i * args.row;
      out.matrix.dst = p_.out + offset;
      out.residual = p_.residual ? p_.residual + offset : nullptr;
      ukernels().conv_pack.transpose_out(out);
      if (!conv_activation_is_slow(p_.activation)) continue;
      for (int64_t k = 0; k < args.lanes; ++k) {
        conv_activate(p_.activation, p_.alpha, out.matrix.dst + k * plane, out.matrix.rows);
      }
    }
  }
}

}  // namespace cnnext
