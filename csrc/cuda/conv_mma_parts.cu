#include <array>
#include <cstdio>

#include "cuda/conv_mma_parts.cuh"
#include "cuda/mma_banks.cuh"

namespace cnnext::cuda {

static_assert(tiles_are_free<float>() && tiles_are_free<float16>());

namespace {

// to (K x pitch) <- from: the place t of a row is the channel t % inner of the tap t / inner, or, with
// channels slowest, the tap t % taps of the channel t / taps.
struct PackedTerms {
  int64_t count, channels, taps;
  bool channels_first;
  FastDivisor by_pitch, by_inner, by_columns;  // inner: channels with what fills them up, or taps
  Strides from;
};

template <class T>
__global__ void __launch_bounds__(kBlock) pack_terms(const T* from, T* to, PackedTerms s) {
  for (int64_t i = first_item(); i < s.count; i += item_step()) {
    int64_t t = i;
    const int64_t k = s.by_pitch.split(&t), outer = s.by_inner.split(&t);
    const int64_t c = s.channels_first ? outer : t;
    int64_t column = s.channels_first ? t : outer;
    const bool is_there = c < s.channels && column < s.taps;
    const int64_t row = s.by_columns.split(&column);
    to[i] = is_there ? from[k * s.from.n + c * s.from.c + row * s.from.h + column * s.from.w] : T{};
  }
}

// Weights as (K, taps, channels up to `inner`), or (K, channels, taps), with rows of `pitch` values.
template <class T>
Conv2dDesc packed(const Op& op, const Conv2dDesc& d, bool channels_first, int64_t inner, int64_t pitch) {
  const int64_t channels = d.C / d.groups, taps = d.R * d.S;
  const Format format = channels_first ? Format::kNCHW : Format::kNHWC;
  const bool in_order = d.w_format == format || taps == 1 || channels == 1;
  Conv2dDesc result = d;
  if (!in_order || pitch != channels * taps || !is_aligned(d.w.data)) {
    const PackedTerms s{d.K * pitch,
                        channels,
                        taps,
                        channels_first,
                        FastDivisor(greatest(pitch, 1)),
                        FastDivisor(greatest(channels_first ? taps : inner, 1)),
                        FastDivisor(greatest(d.S, 1)),
                        Strides(d.w)};
    T* const to = op.scratch<T>(s.count);
    launch_flat(op, pack_terms<T>, blocks_for(s.count, kBlock), data<const T>(d.w), to, s);
    result.w.data = to;
  }
  result.w.strides[0] = pitch;
  result.w.strides[1] = channels_first ? taps : 1;
  result.w.strides[2] = (channels_first ? 1 : inner) * d.S;
  result.w.strides[3] = channels_first ? 1 : inner;
  return result;
}

}  // namespace

template <class T>
Conv2dDesc with_terms_in_order(const Op& op, const Conv2dDesc& d, bool channels_fast) {
  const int64_t channels = d.C / d.groups, terms = channels * d.R * d.S;
  return packed<T>(op, d, !channels_fast, channels, ceil_div(terms, kWidest<T>) * kWidest<T>);
}
template <class T>
Conv2dDesc with_channels_last(const Op& op, const Conv2dDesc& d) {
  const int64_t inner = ceil_div(d.C / d.groups, kWidest<T>) * kWidest<T>;
  return packed<T>(op, d, false, inner, d.R * d.S * inner);
}
#define CNNEXT_PACK(T)                                                            \
  template Conv2dDesc with_terms_in_order<T>(const Op&, const Conv2dDesc&, bool); \
  template Conv2dDesc with_channels_last<T>(const Op&, const Conv2dDesc&);
CNNEXT_PACK(float)
CNNEXT_PACK(float16)
CNNEXT_PACK(bfloat16)
#undef CNNEXT_PACK

int64_t multiprocessors(const Op& op) {
  int device = 0, count = 0;
  check(op, "asking for the current device", cudaGetDevice(&device));
  check(op, "asking for the device's multiprocessors",
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return greatest(count, 1);
}

bool has_wgmma(const Op& op) {
#if CNNEXT_CUDA_SM_90A
  int device = 0, major = 0, minor = 0;
  check(op, "asking for the current device", cudaGetDevice(&device));
  check(op, "asking for the device's compute capability",
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check(op, "asking for the device's compute capability",
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
#else
  static_cast<void>(op);
  return false;
#endif
}

const char* mma_name(MmaPass pass, const Conv2dDesc& d, int shape) {
  constexpr int kPasses = 3, kKinds = 4;  // wgmma takes not all of them
  using Name = std::array<char, 48>;
  static const auto names = [] {
    std::array<Name, kPasses * kShapeCount * kKinds> all{};
    size_t i = 0;
    for (const char* of : {"", "_data", "_weights"}) {
      for (int shape = 0; shape < kShapeCount; ++shape) {
        const bool by_wgmma = shape >= kFirstWgmma;
        const MmaShape& s = by_wgmma ? kWgmmaShapes[shape - kFirstWgmma] : kMmaShapes[shape];
        for (const char* kind : {"nchw", "nchw_tf32", "nhwc", "nhwc_tf32"}) {
          std::snprintf(all[i++].data(), sizeof(Name), "cuda/conv2d%s_%s_%dx%d_%s", of,
                        by_wgmma ? "wgmma" : "mma", s.rows, s.columns, kind);
        }
      }
    }
    return all;
  }();
  const int kind = (d.format == Format::kNHWC ? 2 : 0) + (d.dtype == CNNEXT_FLOAT32 ? 1 : 0);
  return names[static_cast<size_t>((static_cast<int>(pass) * kShapeCount + shape) * kKinds + kind)].data();
}

}  // namespace cnnext::cuda
