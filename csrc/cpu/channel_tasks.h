// How sums over channels are cut. Channels-last: the tensor is a matrix with a row a pixel; a few rows are
// taken as one where the number of channels is no multiple of a vector, so that vectors are full (column j is
// channel j % C). Slices of rows give partial sums in double, added in order. Planes: a channel's rows, in
// slices of images. All borders follow from the shape.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/desc.h"

namespace cnnext {

constexpr int64_t kRowChunk = 4096;      // values that a kernel adds up in float
constexpr int64_t kSliceFloats = 65536;  // values of a slice, at least
constexpr int64_t kMostSlices = 64;
constexpr int64_t kMostRoundColumns = 1024;  // of several channels' rounds

// A channels-last tensor of `pixels` x C as a matrix.
struct ChannelMatrix {
  int64_t C, rounds, columns;  // columns = C * rounds
  int64_t rows, rest;          // whole rows, and the values after them (of the first columns)
  int64_t slices, slice_rows, block_rows;

  ChannelMatrix(int64_t pixels, int64_t channels, int64_t lanes) : C(channels), rounds(1) {
    while (C * rounds % lanes != 0) ++rounds;
    if (C * rounds > kMostRoundColumns) rounds = 1;
    columns = C * rounds;
    rows = pixels / rounds;
    rest = pixels % rounds * C;
    block_rows = std::clamp<int64_t>(kRowChunk / columns, 64, 256);
    slices = std::clamp<int64_t>(std::min(rows * columns / kSliceFloats, rows / 256), 1, kMostSlices);
    slice_rows = (rows + slices - 1) / slices;
  }

  int64_t begin(int64_t slice) const { return std::min(rows, slice * slice_rows); }
  int64_t end(int64_t slice) const { return std::min(rows, (slice + 1) * slice_rows); }
};

// Planes: slices of images for each channel, one where channels alone are tasks enough or the work is small.
inline int64_t image_slices(int64_t N, int64_t C, int64_t inner) {
  if (C >= kMostSlices || N * C * inner <= kSliceFloats) return 1;
  return std::clamp<int64_t>((kMostSlices + C - 1) / C, 1, std::max<int64_t>(N, 1));
}

// body(offset, rows, count) over channel c's values in images [begin, end): several images' planes at a time
// where they are small, parts of a plane where it is large.
template <class Body>
void for_runs(int64_t C, int64_t inner, int64_t c, int64_t begin, int64_t end, const Body& body) {
  if (inner == 0) return;
  const int64_t rows = std::max<int64_t>(1, kRowChunk / inner), part = std::min(inner, kRowChunk);
  for (int64_t n = begin; n < end; n += rows) {
    const int64_t row = (n * C + c) * inner;
    for (int64_t i = 0; i < inner; i += part)
      body(row + i, std::min(rows, end - n), std::min(part, inner - i));
  }
}

// Channels of a task.
inline int64_t channels_per_task(int64_t work_per_channel, int64_t C) {
  return std::clamp<int64_t>(kSliceFloats / 4 / std::max<int64_t>(work_per_channel, 1), 1,
                             std::max<int64_t>(C, 1));
}

}  // namespace cnnext
