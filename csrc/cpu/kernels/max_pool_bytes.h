// Max-pool of bytes.
#pragma once

#include <stdint.h>

namespace cnnext {

// `count` outputs side by side; taps[t][i] is tap t of output i. Ties go to the first tap of the list.
struct MaxPoolBytes {
  const uint8_t* const* taps;
  const uint8_t* tap_numbers;
  int64_t num_taps, count;
  bool is_signed;
  // The tap of output i if none is above the least value; nullptr: the list's first. With it, first and taps
  // are read in whole vectors of 64.
  const uint8_t* first;
  uint8_t* y;
  uint8_t* numbers;
};

struct MaxPoolBytesUkernels {
  void (*run)(const MaxPoolBytes&);
};

}  // namespace cnnext
