// Reading and writing at the argmax, and the conversions between its kinds. What ref reports as a ValueError
// cannot be reported here without waiting for the device: a code that names no element is read as NaN, writes
// nothing, and is converted to -1 (all ones).
#include "cuda/codes.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

CNNEXT_DEVICE int64_t load_plane(const PoolShape& s, const Codes& codes, int64_t offset, const Pixel& at) {
  int64_t code[1];
  load_codes<1>(codes.data, codes.dtype, offset, code);
  return plane_of_code(s, codes.kind, code[0], at);
}

// y <- x at the argmax; 0 where a window has no tap.
template <class T, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    read_at_codes(PoolShape s, Images<1, kNhwc> large, Images<1, kNhwc> pooled, const T* x, T* y,
                  Codes codes) {
  for (int64_t item = first_item(); item < pooled.count(); item += item_step()) {
    const Pixel at = pooled.pixel(item);
    const int64_t out = pooled.offset(pooled.base(at), at.row, at.column);
    const int64_t plane = load_plane(s, codes, out, at), W = s.columns.size;
    T value = from_float<T>(plane == kBadIndex ? NAN : 0.0f);
    if (plane >= 0) value = x[large.offset(large.base(at), plane / W, plane % W)];
    y[out] = value;
  }
}

// The last window in row-major order that names an element writes it: its number + 1 is the largest.
template <bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    find_writers(PoolShape s, Images<1, kNhwc> large, Images<1, kNhwc> pooled, Codes codes,
                 uint32_t* writers) {
  for (int64_t item = first_item(); item < pooled.count(); item += item_step()) {
    const Pixel at = pooled.pixel(item);
    const int64_t plane = load_plane(s, codes, pooled.offset(pooled.base(at), at.row, at.column), at);
    const int64_t W = s.columns.size;
    if (plane < 0) continue;
    atomic_max(writers + large.offset(large.base(at), plane / W, plane % W),
               static_cast<uint32_t>(at.row * s.columns.windows + at.column + 1));
  }
}

template <class T, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    read_writers(PoolShape s, Images<1, kNhwc> large, Images<1, kNhwc> pooled, T* x, const T* y,
                 const uint32_t* writers) {
  for (int64_t item = first_item(); item < large.count(); item += item_step()) {
    const Pixel at = large.pixel(item);
    const int64_t out = large.offset(large.base(at), at.row, at.column);
    const int64_t window = static_cast<int64_t>(writers[out]) - 1, Q = s.columns.windows;
    x[out] = window < 0 ? from_float<T>(0) : y[pooled.offset(pooled.base(at), window / Q, window % Q)];
  }
}

template <bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    convert_codes(PoolShape s, Images<1, kNhwc> pooled, Codes from, Codes to) {
  for (int64_t item = first_item(); item < pooled.count(); item += item_step()) {
    const Pixel at = pooled.pixel(item);
    const int64_t offset = pooled.offset(pooled.base(at), at.row, at.column);
    const int64_t code = code_of_plane(s, to.kind, load_plane(s, from, offset, at), at);
    const int64_t result[1] = {code == kBadIndex ? kNoTap : code};
    store_codes<1>(to.data, to.dtype, offset, result);
  }
}

template <class Body>
void dispatch_format(const Pool2dDesc& d, const Body& body) {
  if (d.format == Format::kNCHW) {
    body(std::false_type{});
  } else {
    body(std::true_type{});
  }
}

template <bool kNhwc>
struct Sides {
  Images<1, kNhwc> large, pooled;
  explicit Sides(const Pool2dDesc& d) : large(d.N, d.C, d.H, d.W), pooled(d.N, d.C, d.P, d.Q) {}
};

}  // namespace

Ran max_pool2d_gather(const Pool2dDesc& d, Exec& exec) {
  const Op op{"max_pool2d_gather", exec, d.x};
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    dispatch_format(d, [&](auto nhwc) {
      constexpr bool kNhwc = decltype(nhwc)::value;
      const Sides<kNhwc> sides(d);
      launch_flat(op, read_at_codes<T, kNhwc>, blocks_for(sides.pooled.count(), kBlock), PoolShape(d),
                  sides.large, sides.pooled, data<const T>(d.x), data<T>(d.y), codes_of(d));
    });
  });
  return known ? op.done("cuda/max_pool_gather") : Ran::kUnsupported;
}

Ran max_unpool2d(const Pool2dDesc& d, Exec& exec) {
  const Op op{"max_unpool2d", exec, d.x};
  if (d.P * d.Q >= UINT32_MAX) return Ran::kUnsupported;
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    dispatch_format(d, [&](auto nhwc) {
      constexpr bool kNhwc = decltype(nhwc)::value;
      const Sides<kNhwc> sides(d);
      const int64_t count = sides.large.count();
      uint32_t* const writers = op.scratch<uint32_t>(count);
      clear(op, "clearing scratch", writers, count * int64_t{sizeof(*writers)});
      launch_flat(op, find_writers<kNhwc>, blocks_for(sides.pooled.count(), kBlock), PoolShape(d),
                  sides.large, sides.pooled, codes_of(d), writers);
      launch_flat(op, read_writers<T, kNhwc>, blocks_for(count, kBlock), PoolShape(d), sides.large,
                  sides.pooled, data<T>(d.x), data<const T>(d.y), writers);
    });
  });
  return known ? op.done("cuda/max_unpool") : Ran::kUnsupported;
}

Ran convert_indices(const ConvertIndicesDesc& desc, Exec& exec) {
  const Pool2dDesc& d = desc.pool;
  const Op op{"convert_indices", exec, d.indices};
  dispatch_format(d, [&](auto nhwc) {
    constexpr bool kNhwc = decltype(nhwc)::value;
    const Images<1, kNhwc> pooled(d.N, d.C, d.P, d.Q);
    launch_flat(op, convert_codes<kNhwc>, blocks_for(pooled.count(), kBlock), PoolShape(d), pooled,
                codes_of(d), Codes{desc.out.data, desc.out.dtype, desc.target_kind});
  });
  return op.done("cuda/convert_indices");
}

}  // namespace cnnext::cuda
