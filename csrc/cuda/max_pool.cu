// Max-pool forward: one thread an output (NCHW), or the outputs of 16 bytes of channels (NHWC); maximum and
// tap stay in registers over all taps. The value's bits are passed on as they are.
#include "cuda/codes.cuh"
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

// -inf, but for integers.
template <class T>
CNNEXT_DEVICE T lowest() {
  if constexpr (std::is_same_v<T, uint8_t>) {
    return 0;
  } else if constexpr (std::is_same_v<T, int8_t>) {
    return -128;
  } else {
    return from_float<T>(-INFINITY);
  }
}

// codes: null where nobody wants them. after_relu: x is a ReLU's result, whose gradient stops where it is 0,
// so the codes of such maxima name no tap.
template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    max_pool_forward(PoolShape s, Images<V, kNhwc> from, Images<V, kNhwc> to, const T* x, T* y, void* codes,
                     int32_t code_dtype, bool window_codes, bool after_relu) {
  for (int64_t item = first_item(); item < to.count(); item += item_step()) {
    const Pixel at = to.pixel(item);
    const Range rows = s.rows.taps(at.row), columns = s.columns.taps(at.column);
    const int64_t base = from.base(at);
    Vec<T, V> best;
    int64_t code[V];
#pragma unroll
    for (int j = 0; j < V; ++j) best[j] = lowest<T>(), code[j] = kNoTap;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t h = s.rows.position(at.row, r);
      for (int64_t t = columns.begin; t < columns.end; ++t) {
        const int64_t w = s.columns.position(at.column, t);
        const Vec<T, V> values = load<V>(x + from.offset(base, h, w));
        const int64_t here = window_codes ? r * s.columns.kernel + t : h * s.columns.size + w;
        const bool first = r == rows.begin && t == columns.begin;
#pragma unroll
        for (int j = 0; j < V; ++j) {  // NaN beats every number, and the last NaN stays
          const float value = to_float(values[j]);
          if (first || value > to_float(best[j]) || value != value) best[j] = values[j], code[j] = here;
        }
      }
    }
    const int64_t out = to.offset(to.base(at), at.row, at.column);
    store(y + out, best);
    if (!codes) continue;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      if (after_relu && to_float(best[j]) <= 0) code[j] = kNoTap;
    }
    store_codes<V>(codes, code_dtype, out, code);
  }
}

template <class T>
void run(const Op& op, const Pool2dDesc& d, bool after_relu) {
  void* const codes = present(d.indices) ? d.indices.data : nullptr;
  dispatch_images<T>(d, {d.x.data, d.y.data, codes}, [&](auto v, auto nhwc) {
    constexpr int V = decltype(v)::value;
    constexpr bool kNhwc = decltype(nhwc)::value;
    const Images<V, kNhwc> from(d.N, d.C, d.H, d.W), to(d.N, d.C, d.P, d.Q);
    launch_flat(op, max_pool_forward<T, V, kNhwc>, blocks_for(to.count(), kBlock), PoolShape(d), from, to,
                data<const T>(d.x), data<T>(d.y), codes, d.index_dtype, d.index_kind == CNNEXT_INDEX_WINDOW,
                after_relu);
  });
}

}  // namespace

Ran max_pool2d_forward(const Op& op, const Pool2dDesc& d, bool after_relu) {
  const char* const kernel =
      d.format == Format::kNCHW ? "cuda/max_pool_forward_nchw" : "cuda/max_pool_forward_nhwc";
  if (d.dtype == CNNEXT_UINT8) {
    run<uint8_t>(op, d, after_relu);
  } else if (d.dtype == CNNEXT_INT8) {
    run<int8_t>(op, d, after_relu);
  } else if (!dispatch_float(d.dtype, [&](auto t) { run<decltype(t)>(op, d, after_relu); })) {
    return Ran::kUnsupported;
  }
  return op.done(kernel);
}

Ran max_pool2d_forward(const Pool2dDesc& d, Exec& exec) {
  return max_pool2d_forward({"max_pool2d_forward", exec, d.x}, d, false);
}

}  // namespace cnnext::cuda
