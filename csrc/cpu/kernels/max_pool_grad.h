// Max-pool's backward kernels. The argmax comes as taps: the number of the element within its window in one
// byte, all ones for none.
#pragma once

#include <stdint.h>

namespace cnnext {

constexpr uint8_t kNoTapByte = UINT8_MAX;
constexpr uint8_t kBadTapByte = UINT8_MAX - 1;  // names no element of its window
constexpr int64_t kMostTaps = UINT8_MAX - 1;    // of a window whose argmax is held as taps

// One term of the gradient: grad[i] where taps[i] == tap.
struct PoolTerm {
  const float* grad;
  const uint8_t* taps;
  uint8_t tap;
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

// Planes: grad_x[i] is the sum of the terms at i, which are read in whole vectors.
struct MaxPoolGradRow {
  const PoolTerm* terms;
  int64_t num_terms, width;
  float* grad_x;
};

// Rows of windows, copied to rows that are `pitch` apart, in whole vectors. Between them there is no tap.
struct MaxPoolGradStrip {
  const float* grad;    // rows x columns
  const uint8_t* taps;  // the same
  int64_t rows, columns, pitch;
  float* grad_out;
  uint8_t* taps_out;
};

// Planes: windows of R x S, S at most 2, side by side, two columns and stride_h rows from one to the next.
struct MaxPoolGradTiles {
  const float* grad;    // rows x columns
  const uint8_t* taps;  // the same
  int64_t rows, columns, stride_h, R, S;
  int64_t height, width;  // of grad_x; what no window covers gets zeros
  float* grad_x;
};

// Plane indices of windows with corners `corner` + corners[i] (null: 0), which may lie in the padding, as if
// rows went on there. width: of the plane; (S - 1) * dilation_w is less.
struct PlaneTaps {
  const int64_t* planes;
  int64_t count, corner;
  const int32_t* corners;
  int64_t width, R, S, dilation_h, dilation_w;
  uint8_t* taps;  // kBadTapByte for what is in no window
};

// The place of a row and a column modulo 2^32, of a window's corner too, which may be far outside of the
// plane: what overflows on the way to a place in the plane comes back.
inline uint32_t low_place(int64_t row, int64_t width, int64_t column = 0) {
  return static_cast<uint32_t>(row) * static_cast<uint32_t>(width) + static_cast<uint32_t>(column);
}

// The places in the plane that the taps of windows with corners `corner` + corners[i] name; -1 where there is
// no tap. line, step: from one row of taps and from one column to the next.
struct TapPlaces {
  const uint8_t* taps;
  int64_t count;
  uint32_t corner;
  const int32_t* corners;
  int64_t S;
  uint32_t line, step;
  int32_t* places;
};

// Window i may name tap t < 32 where bit t of mask & masks[i] is set; null masks are all ones.
struct TapCheck {
  const uint8_t* taps;
  int64_t count;
  const uint32_t* masks;
  uint32_t mask;
};

struct MaxPoolGradUkernels {
  void (*pixels)(const MaxPoolGradPixels&);
  void (*row)(const MaxPoolGradRow&);
  void (*tiles)(const MaxPoolGradTiles&);
  void (*strip)(const MaxPoolGradStrip&);
  void (*taps_of_planes)(const PlaneTaps&);
  void (*places_of_taps)(const TapPlaces&);
  bool (*check)(const TapCheck&);  // whether all are good
};

}  // namespace cnnext
