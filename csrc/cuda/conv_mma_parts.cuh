// What the three passes on tensor cores share.
#pragma once

#include "cuda/conv_backward.cuh"
#include "cuda/conv_mma.cuh"
#include "cuda/mma_choice.cuh"
#include "cuda/mma_gemm.cuh"

namespace cnnext::cuda {

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }
// So many channels of a dense NHWC image are read and written in chunks.
template <class T>
bool in_chunks(const Tensor& t, int64_t channels) {
  return channels % kWidest<T> == 0 && is_aligned(t.data);
}

int64_t multiprocessors(const Op& op);
bool has_wgmma(const Op& op);  // and TMA: the device, and this library for it

enum class MmaPass { kForward, kData, kWeights };
const char* mma_name(MmaPass pass, const Conv2dDesc& d, int shape);  // kFirstWgmma and on: by wgmma

// One phase of backward-data by wgmma, with weights as with_channels_last has them, for float16 and bfloat16:
// by which of its tiles, or kByMma where it does not take it.
template <class T>
int wgmma_data_shape(const Op& op, const Conv2dDesc& d, const ConvBackwardData<T, true>& problem,
                     const MmaWork& work);
template <class T>
void run_wgmma_data(const Op& op, const Conv2dDesc& d, const ConvBackwardData<T, true>& problem, int shape,
                    bool whole_results);

// So are a dense NCHW image's pixels, of which each is a window.
template <class T>
bool pixels_in_chunks(const Conv2dDesc& d, const Tensor& t) {
  return is_pixelwise(d) && d.H * d.W % kWidest<T> == 0 && is_aligned(t.data);
}

// The convolution with weights that lie in the order in which a pass reads them, copied to scratch where they
// do not: for each k the terms of forward's sums (a tap's channels side by side, or a channel's taps), zeros
// behind them; or, for backward-data, (R, S, C) with zeros behind the channels. The zeros fill a chunk.
template <class T>
Conv2dDesc with_terms_in_order(const Op& op, const Conv2dDesc& d, bool channels_fast);
template <class T>
Conv2dDesc with_channels_last(const Op& op, const Conv2dDesc& d);

// body(T{}) where the convolution's products may be taken by tensor cores; else false.
template <class Body>
bool dispatch_mma(const Conv2dDesc& d, const Body& body) {
  if (d.dtype == CNNEXT_FLOAT32 && services->float32_matmul_precision() == CNNEXT_FLOAT32_HIGHEST) {
    return false;
  }
  return dispatch_float(d.dtype, body);
}

// The largest tile that there are registers for: in NCHW, where what is read is on its way and results are
// stored one by one, less than the largest.
template <class Problem, bool kWholeA, bool kWholeB>
constexpr int first_shape() {
  using T = typename Problem::Value;
  if (!kWholeA) return kFirstShape<T, false>;
  return static_cast<int>(greatest(kFirstShape<T, true>, Problem::kResultsAlongColumns && kWholeB ? 0 : 1));
}

template <bool kWholeA, bool kWholeB, class Problem>
void run_choice(const Op& op, const Problem& problem, int shape, bool whole_results) {
  using T = typename Problem::Value;
  constexpr int kFirst = first_shape<Problem, kWholeA, kWholeB>();
  if constexpr (kFirst <= 0) {
    if (shape == 0) return run_mma<MmaTileOf<T, 0>, kWholeA, kWholeB>(op, problem, whole_results);
  }
  if constexpr (kFirst <= 1) {
    if (shape == 1) return run_mma<MmaTileOf<T, 1>, kWholeA, kWholeB>(op, problem, whole_results);
  }
  using Small = std::conditional_t<kWholeA && kWholeB, MmaTileOf<T, 2>, MmaGatherTile<T>>;
  run_mma<Small, kWholeA, kWholeB>(op, problem, whole_results);
}

template <class T>
int64_t strips_of(int64_t terms) {
  return ceil_div(terms, kStripBytes / static_cast<int64_t>(sizeof(T)));
}

}  // namespace cnnext::cuda
