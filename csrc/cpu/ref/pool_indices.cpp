// What is done with the argmax: the gradient of max-pool, reading and writing at it, and the conversions
// between its forms. Codes may come from outside: each is checked before it is used, and the first bad one in
// row-major order is reported once all tasks have ended.
#include <atomic>

#include "core/pool_index.h"
#include "cpu/ref/ref.h"
#include "cpu/ref/rows.h"
#include "cpu/ref/window.h"

namespace cnnext {
namespace {

// body(offset of y, plane position) for each window of plane (n, c) in row-major order; kNoTap is passed on.
// Returns whether every code was good.
template <class Body>
bool for_each_window(const Pool2dDesc& d, int64_t n, int64_t c, const ImageStrides& ys, const Body& body) {
  const ImageStrides is = image_strides(d.indices);
  for (int64_t p = 0; p < d.P; ++p) {
    for (int64_t q = 0; q < d.Q; ++q) {
      const int64_t offset = n * is.n + c * is.c + p * is.h + q * is.w;
      const int64_t code = load_index(d.indices.data, d.index_dtype, offset);
      const int64_t plane = plane_from_code(d, d.index_kind, code, {n, c, p, q});
      if (plane == kBadIndex) return false;
      body(n * ys.n + c * ys.c + p * ys.h + q * ys.w, plane);
    }
  }
  return true;
}

template <class T>
bool backward(const Pool2dDesc& d, Exec& exec) {
  const T* y = static_cast<const T*>(d.y.data);
  T* x = static_cast<T*>(d.x.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  std::atomic<bool> good{true};
  for_each_sum(exec, d.N * d.C, d.H * d.W, d.H * d.W, exec.num_threads(), [&](int64_t i, double* sums) {
    const int64_t n = i / d.C, c = i % d.C;
    const bool plane_good = for_each_window(d, n, c, ys, [&](int64_t at, int64_t plane) {
      if (plane != kNoTap) sums[plane] += y[at];
    });
    if (!plane_good) good = false;
    for (int64_t j = 0; j < d.H * d.W; ++j) {
      x[n * xs.n + c * xs.c + j / d.W * xs.h + j % d.W * xs.w] = static_cast<T>(sums[j]);
    }
  });
  return good;
}

template <class T>
bool unpool(const Pool2dDesc& d, Exec& exec) {
  const T* y = static_cast<const T*>(d.y.data);
  T* x = static_cast<T*>(d.x.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  std::atomic<bool> good{true};
  for_each_item(exec, d.N * d.C, d.H * d.W, [&](int64_t i) {
    const int64_t n = i / d.C, c = i % d.C, base = n * xs.n + c * xs.c;
    for (int64_t j = 0; j < d.H * d.W; ++j) x[base + j / d.W * xs.h + j % d.W * xs.w] = 0;
    const bool plane_good = for_each_window(d, n, c, ys, [&](int64_t at, int64_t plane) {
      if (plane != kNoTap) x[base + plane / d.W * xs.h + plane % d.W * xs.w] = y[at];
    });
    if (!plane_good) good = false;
  });
  return good;
}

template <class T>
bool gather(const Pool2dDesc& d, Exec& exec) {
  const T* x = static_cast<const T*>(d.x.data);
  T* y = static_cast<T*>(d.y.data);
  const ImageStrides xs = image_strides(d.x), ys = image_strides(d.y);
  std::atomic<bool> good{true};
  for_each_item(exec, d.N * d.C, d.H * d.W, [&](int64_t i) {
    const int64_t n = i / d.C, c = i % d.C, base = n * xs.n + c * xs.c;
    const bool plane_good = for_each_window(d, n, c, ys, [&](int64_t at, int64_t plane) {
      y[at] = plane == kNoTap ? T(0) : x[base + plane / d.W * xs.h + plane % d.W * xs.w];
    });
    if (!plane_good) good = false;
  });
  return good;
}

bool convert(const ConvertIndicesDesc& desc, Exec& exec) {
  const Pool2dDesc& d = desc.pool;
  const ImageStrides is = image_strides(d.indices), os = image_strides(desc.out);
  std::atomic<bool> good{true};
  for_each_item(exec, d.N * d.C * d.P, d.Q, [&](int64_t i) {
    PoolPosition at = {i / (d.C * d.P), i / d.P % d.C, i % d.P, 0};
    for (at.q = 0; at.q < d.Q; ++at.q) {
      const int64_t from = at.n * is.n + at.c * is.c + at.p * is.h + at.q * is.w;
      const int64_t plane =
          plane_from_code(d, d.index_kind, load_index(d.indices.data, d.index_dtype, from), at);
      const int64_t code = code_from_plane(d, desc.target_kind, plane, at);
      if (code == kBadIndex) {
        good = false;
        return;
      }
      store_index(desc.out.data, desc.out.dtype, at.n * os.n + at.c * os.c + at.p * os.h + at.q * os.w, code);
    }
  });
  return good;
}

}  // namespace

Ran ref_max_pool2d_backward(const Pool2dDesc& desc, Exec& exec) {
  bool good = true;
  dispatch_any_float(desc.dtype, [&](auto t) { good = backward<decltype(t)>(desc, exec); });
  if (!good) fail_bad_index(desc, desc.index_kind);
  exec.ran("ref/max_pool2d_backward");
  return Ran::kDone;
}

Ran ref_max_unpool2d(const Pool2dDesc& desc, Exec& exec) {
  bool good = true;
  dispatch_float(desc.dtype, [&](auto t) { good = unpool<decltype(t)>(desc, exec); });
  if (!good) fail_bad_index(desc, desc.index_kind);
  exec.ran("ref/max_unpool2d");
  return Ran::kDone;
}

Ran ref_max_pool2d_gather(const Pool2dDesc& desc, Exec& exec) {
  bool good = true;
  dispatch_float(desc.dtype, [&](auto t) { good = gather<decltype(t)>(desc, exec); });
  if (!good) fail_bad_index(desc, desc.index_kind);
  exec.ran("ref/max_pool2d_gather");
  return Ran::kDone;
}

Ran ref_convert_indices(const ConvertIndicesDesc& desc, Exec& exec) {
  if (!convert(desc, exec)) fail_bad_index(desc.pool, desc.target_kind);
  exec.ran("ref/convert_indices");
  return Ran::kDone;
}

}  // namespace cnnext
