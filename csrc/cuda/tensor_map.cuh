// What TMA is to copy: boxes of a tensor in global memory, each of which lands in shared memory as rows of
// 128 bytes whose chunks of 16 bytes have changed places by an exclusive or with the row's number (the
// 128-byte swizzle). What a box has outside the tensor is 0. float32 is rounded to TF32 on its way, to the
// nearest, ties to even: tensor cores, which read it from shared memory by themselves, would cut it off.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

// A CUtensorMap, for a kernel's argument that is __grid_constant__.
struct alignas(128) TensorMap {
  uint64_t words[16];
};

// Boxes that a kernel asks for by the coordinates of their first element. Axes come innermost first; strides
// are in elements, that of axis 0 is 1.
struct BoxAxis {
  int64_t size, stride;
  int box;
};
TensorMap map_boxes(const Op& op, int32_t dtype, const void* data, std::initializer_list<BoxAxis> axes);

// Pixels of dense NHWC images, as many as a box has, with `channels` channels each: from a first pixel on
// along a row of windows, then the rows, then the images. A window's position is first + i * step, i < count;
// a tap's offset comes with the copy.
struct WindowPositions {
  int64_t first, step, count;
};
struct PixelBoxes {
  int64_t images, height, width, channels;
  WindowPositions rows, columns;
  int box_pixels, box_channels;
};
// Whether TMA counts that far.
bool fits_pixel_boxes(const PixelBoxes& boxes, int64_t most_offset);
TensorMap map_pixels(const Op& op, int32_t dtype, const void* data, const PixelBoxes& boxes);

}  // namespace cnnext::cuda
