// Max-pool backward by gather: each element looks at the windows over it and adds up the gradients of those
// whose code names it, in row-major order of the windows. No atomics, no zeroing, one write of each element.
//
// Plane codes may come from outside and name an element that their window does not cover. A second kernel
// looks for such codes; only planes that have one are gathered again, by a slow kernel, over all of their
// windows. Which they are is decided on the device, so that nothing waits for it. A code that names no
// element at all is dropped.
#include "cuda/codes.cuh"
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

template <class T, class Code, int V, class I>
CNNEXT_DEVICE void add_matching_as(const T* grad_y, const Code* codes, I at, I plane_or_tap,
                                   Vec<float, V>* sum) {
  const Code wanted = static_cast<Code>(plane_or_tap);
  // A type that is too small for it has no such code, and all ones are none.
  if (static_cast<int64_t>(wanted) != plane_or_tap) return;
  if (std::is_unsigned_v<Code> && wanted == static_cast<Code>(~Code{0})) return;
  constexpr int kAtOnce = V < kWidest<Code> ? V : kWidest<Code>;
  bool matches[V], any = false;
#pragma unroll
  for (int i = 0; i < V; i += kAtOnce) {
    const Vec<Code, kAtOnce> part = load<kAtOnce>(codes + at + i);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) any = (matches[i + j] = part[j] == wanted) || any;
  }
  if (!any) return;
  const Vec<float, V> grad = to_floats(load<V>(grad_y + at));
#pragma unroll
  for (int j = 0; j < V; ++j) (*sum)[j] += matches[j] ? grad[j] : 0;
}
// The codes' type is the same for all threads.
template <class T, int V, class I>
CNNEXT_DEVICE void add_matching(const T* grad_y, const Codes& codes, I at, I wanted, Vec<float, V>* sum) {
  switch (codes.dtype) {
    case CNNEXT_UINT8:
      return add_matching_as(grad_y, static_cast<const uint8_t*>(codes.data), at, wanted, sum);
    case CNNEXT_UINT16:
      return add_matching_as(grad_y, static_cast<const uint16_t*>(codes.data), at, wanted, sum);
    case CNNEXT_INT32:
      return add_matching_as(grad_y, static_cast<const int32_t*>(codes.data), at, wanted, sum);
    default:
      return add_matching_as(grad_y, static_cast<const int64_t*>(codes.data), at, wanted, sum);
  }
}

// I: the type of indices, of which this kernel computes more than anything else.
template <class T, int V, bool kNhwc, class I>
__global__ void __launch_bounds__(kBlock)
    max_pool_backward(PoolAxes<I> s, Images<V, kNhwc, I> to, Images<V, kNhwc, I> from, T* grad_x,
                      const T* grad_y, Codes codes) {
  for (I item = static_cast<I>(first_item()); item < to.count(); item += static_cast<I>(item_step())) {
    const PixelOf<I> at = to.pixel(item);
    const I base = from.base(at), plane = at.row * s.columns.size + at.column;
    const RangeOf<I> rows = s.rows.windows_over(at.row), columns = s.columns.windows_over(at.column);
    Vec<float, V> sum{};
    for (I p = rows.begin; p < rows.end; ++p) {
      const I r = s.rows.tap_at(p, at.row);
      if (r < 0) continue;
      for (I q = columns.begin; q < columns.end; ++q) {
        const I t = s.columns.tap_at(q, at.column);
        if (t < 0) continue;
        const I wanted = codes.kind == CNNEXT_INDEX_WINDOW ? r * s.columns.kernel + t : plane;
        add_matching(grad_y, codes, from.offset(base, p, q), wanted, &sum);
      }
    }
    store(grad_x + to.offset(to.base(at), at.row, at.column), from_floats<T>(sum));
  }
}

// Set where a plane code names an element that is no tap of its window.
struct ForeignFlags {
  uint32_t *any, *planes;  // planes: one for the V planes of an item
};
template <int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    find_foreign_codes(PoolShape s, Images<V, kNhwc> from, Codes codes, ForeignFlags found) {
  for (int64_t item = first_item(); item < from.count(); item += item_step()) {
    const Pixel at = from.pixel(item);
    int64_t code[V];
    load_codes<V>(codes.data, codes.dtype, from.offset(from.base(at), at.row, at.column), code);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const int64_t plane = plane_of_code(s, codes.kind, code[j], at);
      if (plane >= 0 && code_of_plane(s, CNNEXT_INDEX_WINDOW, plane, at) == kBadIndex) {
        atomic_or(found.planes + at.image_channel / V, 1);
        atomic_or(found.any, 1);
      }
    }
  }
}

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    gather_from_all_windows(PoolShape s, Images<V, kNhwc> to, Images<V, kNhwc> from, T* grad_x,
                            const T* grad_y, Codes codes, ForeignFlags found) {
  if (*found.any == 0) return;
  for (int64_t item = first_item(); item < to.count(); item += item_step()) {
    const Pixel at = to.pixel(item);
    if (found.planes[at.image_channel / V] == 0) continue;
    const int64_t base = from.base(at), plane = at.row * s.columns.size + at.column;
    Vec<float, V> sum{};
    for (int64_t p = 0; p < s.rows.windows; ++p) {
      for (int64_t q = 0; q < s.columns.windows; ++q) {
        add_matching(grad_y, codes, from.offset(base, p, q), plane, &sum);
      }
    }
    store(grad_x + to.offset(to.base(at), at.row, at.column), from_floats<T>(sum));
  }
}

template <class T>
void run(const Op& op, const Pool2dDesc& d) {
  const Codes codes = codes_of(d);
  T *grad_x = data<T>(d.x), *grad_y = data<T>(d.y);
  dispatch_images<T>(d, {grad_x, grad_y, codes.data}, [&](auto v, auto nhwc) {
    constexpr int V = decltype(v)::value;
    constexpr bool kNhwc = decltype(nhwc)::value;
    const PoolShape shape(d);
    const Images<V, kNhwc> to(d.N, d.C, d.H, d.W), from(d.N, d.C, d.P, d.Q);
    const int64_t blocks = blocks_for(to.count(), kBlock);
    dispatch_index(d, [&](auto index) {
      using I = decltype(index);
      launch_flat(op, max_pool_backward<T, V, kNhwc, I>, blocks, PoolAxes<I>(shape),
                  Images<V, kNhwc, I>(d.N, d.C, d.H, d.W), Images<V, kNhwc, I>(d.N, d.C, d.P, d.Q), grad_x,
                  grad_y, codes);
    });
    if (d.index_kind == CNNEXT_INDEX_WINDOW) return;
    const int64_t flags = 1 + d.N * d.C / V;
    uint32_t* const memory = op.scratch<uint32_t>(flags);
    clear(op, "clearing the flags", memory, flags * int64_t{sizeof(*memory)});
    const ForeignFlags found{memory, memory + 1};
    launch_flat(op, find_foreign_codes<V, kNhwc>, blocks_for(from.count(), kBlock), shape, from, codes,
                found);
    launch_flat(op, gather_from_all_windows<T, V, kNhwc>, blocks, shape, to, from, grad_x, grad_y, codes,
                found);
  });
}

}  // namespace

Ran max_pool2d_backward(const Op& op, const Pool2dDesc& d) {
  if (!dispatch_float(d.dtype, [&](auto t) { run<decltype(t)>(op, d); })) return Ran::kUnsupported;
  return op.done(d.format == Format::kNCHW ? "cuda/max_pool_backward_nchw" : "cuda/max_pool_backward_nhwc");
}

Ran max_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  return max_pool2d_backward({"max_pool2d_backward", exec, d.x}, d);
}

}  // namespace cnnext::cuda
