#include "cpu/conv_pool.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "cpu/conv_part.h"
#include "cpu/pool_tables.h"

namespace cnnext {
namespace {

constexpr int64_t kStripFloats = 256 << 10;         // of one thread, about an L2 cache
constexpr int64_t kChunkFloats = (2 << 20) - 1024;  // of all threads, in L3: less than what is streamed past
constexpr int64_t kMinStrips = 8;                   // fewer tasks than that do not share out well
constexpr int64_t kMinRows = 8;                     // of the convolution
constexpr int64_t kTileRows = 4;                    // Winograd's: strips begin where its tiles do
constexpr int64_t kMostRepeated = 16;               // at most one row in so many is computed twice

// Rows of the convolution that a window spans.
int64_t window_rows(const ConvPoolDesc& d) { return (d.pool.R - 1) * d.pool.dilation_h + 1; }

// Rows of windows of a strip of about `floats` values of the convolution.
int64_t strip_rows(const ConvPoolDesc& d, int64_t floats) {
  const Pool2dDesc& pool = d.pool;
  const int64_t stride = pool.stride_h;
  const int64_t repeated = std::clamp<int64_t>(window_rows(d) - stride, 0, d.conv.P);
  const int64_t fit = (floats / (d.conv.K * d.conv.Q) - repeated) / stride;
  const int64_t least = std::max(ceil_div(kMostRepeated * repeated, stride), ceil_div(kMinRows, stride));
  const int64_t whole = kTileRows / std::gcd(kTileRows, stride);
  const int64_t parts = ceil_div(pool.P, std::max(fit, least));
  return std::min(pool.P, round_up(ceil_div(pool.P, parts), whole));
}

}  // namespace

ConvPoolStrips plan_conv_pool(const ConvPoolDesc& d) {
  const int64_t image_floats = d.conv.K * d.conv.P * d.conv.Q;
  const auto cut = [&](int64_t floats, int64_t most_images) {
    ConvPoolStrips s{};
    s.rows = strip_rows(d, floats);
    s.row_parts = ceil_div(d.pool.P, s.rows);
    const int64_t fit = s.row_parts > 1 ? 1 : std::clamp<int64_t>(floats / image_floats, 1, most_images);
    s.image_parts = ceil_div(d.conv.N, fit);
    s.images = ceil_div(d.conv.N, s.image_parts);
    s.image_parts = ceil_div(d.conv.N, s.images);
    return s;
  };
  ConvPoolStrips s = cut(kStripFloats, std::max<int64_t>(1, d.conv.N / kMinStrips));
  s.serial = s.count() >= kMinStrips;
  if (!s.serial) s = cut(kChunkFloats, d.conv.N);
  s.conv_rows = std::min(d.conv.P, (s.rows - 1) * d.pool.stride_h + window_rows(d));
  return s;
}

int64_t conv_pool_backward_images(const ConvPoolDesc& d) {
  const int64_t fit = std::clamp<int64_t>(kChunkFloats / (d.conv.K * d.conv.P * d.conv.Q), 1, d.conv.N);
  return ceil_div(d.conv.N, ceil_div(d.conv.N, fit));
}

ConvPoolStrip conv_pool_strip(const ConvPoolDesc& d, const ConvPoolStrips& strips, int64_t index) {
  const Pool2dDesc& pool = d.pool;
  ConvPoolStrip s;
  s.n0 = index / strips.row_parts * strips.images;
  s.n1 = std::min(d.conv.N, s.n0 + strips.images);
  s.p0 = index % strips.row_parts * strips.rows;
  s.p1 = std::min(pool.P, s.p0 + strips.rows);
  // Where all windows of a strip lie in the padding, one row stands for the image.
  s.h0 = std::clamp<int64_t>(s.p0 * pool.stride_h - pool.pad_top, 0, d.conv.P - 1);
  s.h1 = std::clamp<int64_t>((s.p1 - 1) * pool.stride_h - pool.pad_top + window_rows(d), s.h0 + 1, d.conv.P);
  return s;
}

ConvPoolStrip conv_pool_images(const ConvPoolDesc& d, int64_t n0, int64_t n1) {
  return {n0, n1, 0, d.pool.P, 0, d.conv.P};
}

void zero_conv_pool_gradients(const ConvPoolDesc& d) {
  for (const Tensor* t : {&d.grad_w, &d.grad_bias}) {
    if (present(*t)) std::memset(t->data, 0, static_cast<size_t>(numel(*t) * dtype_size(t->dtype)));
  }
}

Conv2dDesc strip_conv(const ConvPoolDesc& d, const ConvPoolStrip& s, void* inner) {
  return conv_part(d.conv, {s.n0, s.n1, s.h0, s.h1}, inner);
}

Pool2dDesc strip_pool(const ConvPoolDesc& d, const ConvPoolStrip& s, void* inner) {
  Pool2dDesc pool = d.pool;
  pool.N = s.images();
  pool.H = s.h1 - s.h0;
  pool.P = s.rows();
  pool.pad_top += s.h0 - s.p0 * pool.stride_h;
  pool.x = dense_image(pool.N, pool.C, pool.H, pool.W, d.conv, inner);
  return pool;
}

}  // namespace cnnext
