// What the fake driver writes into a tensor map.
#pragma once

#include <cuda.h>

namespace cuda_host {

// Axes are innermost first; strides are in bytes, of axis 1 and on.
struct MapContents {
  const unsigned char* address;
  uint64_t strides[4];
  uint32_t sizes[5];
  uint16_t box[5];  // in im2col mode: channels, pixels
  uint8_t steps[5];
  uint8_t rank;
  uint8_t element;  // bytes
  bool rounds;      // float32 to TF32
  bool is_im2col;
  int8_t lower[2], upper[2];  // columns, rows
  uint32_t mark;              // that this is one
};
constexpr uint32_t kMapMark = 0x7e4503a9;

}  // namespace cuda_host
