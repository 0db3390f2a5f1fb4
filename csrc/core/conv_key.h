// Under which key autotune keeps what it found for a convolution.
#pragma once

#include "core/autotune.h"
#include "core/desc.h"

namespace cnnext {

// Everything that decides what runs and how fast, but for the processor and its instruction set, which have
// files of their own. who: the number of threads, or which CUDA device.
inline TuneKey conv_key(int64_t mode, int64_t pass, int64_t who, const Conv2dDesc& d, int64_t backend) {
  const int64_t formats = static_cast<int64_t>(d.format) * 4 + static_cast<int64_t>(d.w_format);
  const int64_t operands = (present(d.bias) ? 1 : 0) + (present(d.residual) ? 2 : 0) + (d.packed ? 4 : 0);
  return {mode,       pass,         who,          d.N,       d.C,          d.H,        d.W,
          d.K,        d.R,          d.S,          d.P,       d.Q,          d.groups,   d.stride_h,
          d.stride_w, d.dilation_h, d.dilation_w, d.pad_top, d.pad_bottom, d.pad_left, d.pad_right,
          d.dtype,    d.activation, d.algorithm,  formats,   operands,     backend};
}

}  // namespace cnnext
