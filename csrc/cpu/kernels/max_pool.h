// Max-pool's forward kernels. Codes are 32-bit: whatever number the caller gave each tap, plus a part that
// depends on the output alone. Ties go to the first tap of the list, NaN wins over every number and the last
// NaN over others.
#pragma once

#include <stdint.h>

namespace cnnext {

// Channels-last: `pixels` outputs in a row of the image, whose windows hold the same taps.
struct MaxPoolPixels {
  const float* const* taps;  // of the first output, at channel 0
  const int32_t* tap_codes;
  int64_t num_taps;  // at least 1
  int64_t pixels, channels;
  int64_t pixel_step;  // floats from one output's tap to the next output's
  int32_t code_step;   // added to every code from one output to the next
  float* y;            // pixels x channels
  int32_t* codes;      // the same; nullptr: not asked for
};

// Planes: `count` outputs in a row. taps[t][i] is tap t of output i; padding holds -inf.
struct MaxPoolRow {
  const float* const* taps;
  const int32_t* tap_codes;
  int64_t num_taps;
  int64_t count;
  const int32_t* first_codes;  // of each output's first valid tap but for first_base
  int32_t first_base;
  const int32_t* ramp;  // added to each output's code
  bool finite;          // the rows hold no NaN
  float* y;
  int32_t* codes;  // nullptr: not asked for. Both are written up to count and no further
};

// A row of the image split by phase: element w goes to out[(w + pad) % stride * phase_step + (w + pad) /
// stride].
struct PoolStrip {
  const float* row;
  int64_t width, pad, stride;
  float* out;
  int64_t phase_step;
};

struct MaxPoolUkernels {
  void (*pixels)(const MaxPoolPixels&);
  void (*row)(const MaxPoolRow&);
  bool (*strip)(const PoolStrip&);  // whether the row holds a NaN
  // Codes in their stored form, whose dtype is uint8, uint16 or int32 (taps) or int64 (plane indices); -1
  // becomes all ones.
  void (*narrow)(const int32_t* codes, int64_t count, int32_t dtype, void* out);
};

}  // namespace cnnext
