// Max-pool's kernels. Codes are 32-bit: whatever number the caller gave each tap, plus a part that depends on
// the output alone. Ties go to the first tap of the list, NaN wins over every number and the last NaN over
// others.
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

// One term of the gradient: grad[i] where codes[i] == tap. Taps count from 1 here; 0 is no tap.
struct PoolTerm {
  const float* grad;
  const int32_t* codes;
  int32_t tap;
};

// Channels-last: pixels of grad_x, whose terms lie `channels` further from one to the next. No terms give
// zeros.
struct MaxPoolGradPixels {
  const PoolTerm* terms;
  int64_t num_terms;
  int64_t pixels, channels;
  float* grad_x;
  int64_t out_step;  // floats from one pixel to the next
};

// Planes: a row of grad_x. Element i * stride + k is the sum of terms[k]; stride is 1 or 2.
struct MaxPoolGradRow {
  const PoolTerm* terms[2];
  int64_t num_terms[2];
  int64_t stride, width;
  float* grad_x;
};

constexpr int64_t kMaxTileRows = 4;

// Planes: windows side by side, two columns and stride_h rows from one to the next. Element (r, 0) of a
// window is its gradient where its code is even[r], else zero; (r, 1) likewise with odd[r].
struct MaxPoolGradTiles {
  const float* grad;     // rows x columns
  const int32_t* codes;  // as terms'
  int64_t rows, columns, stride_h;
  int32_t even[kMaxTileRows], odd[kMaxTileRows];
  int64_t height, width;  // of grad_x; what no window covers gets zeros
  float* grad_x;
};

struct MaxPoolUkernels {
  void (*pixels)(const MaxPoolPixels&);
  void (*row)(const MaxPoolRow&);
  bool (*strip)(const PoolStrip&);                   // whether the row holds a NaN
  int64_t (*grad_pixels)(const MaxPoolGradPixels&);  // how many codes matched
  int64_t (*grad_row)(const MaxPoolGradRow&);        // the same
  int64_t (*grad_tiles)(const MaxPoolGradTiles&);    // the same
  // Codes to and from their stored form, whose dtype is uint8, uint16 or int32 (taps) or int64 (plane
  // indices); all ones is -1. widen gives 1 + tap, or 1 + index - base - i * step, and 0 for -1 and for what
  // an int32 cannot hold; it returns how many were not -1.
  void (*narrow)(const int32_t* codes, int64_t count, int32_t dtype, void* out);
  int64_t (*widen)(const void* codes, int32_t dtype, int64_t count, int64_t base, int64_t step, int32_t* out);
};

}  // namespace cnnext
