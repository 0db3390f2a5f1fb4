#include "cpu/half_rows.h"

#include <algorithm>

namespace cnnext {
namespace {

constexpr int64_t kTaskValues = 1 << 15;

template <class Body>
void for_runs(int64_t count, Exec& exec, const Body& body) {
  exec.parallel_for((count + kTaskValues - 1) / kTaskValues, [&](int64_t task) {
    const int64_t at = task * kTaskValues;
    body(at, std::min(kTaskValues, count - at));
  });
}

}  // namespace

const HalfConverter& half_converter(int32_t dtype) {
  const HalfUkernels& half = ukernels().half;
  return dtype == CNNEXT_FLOAT16 ? half.float16 : half.bfloat16;
}

void widen_rows(const HalfConverter& half, int64_t rows, int64_t cols, const uint16_t* in, int64_t in_step,
                float* out, int64_t out_step) {
  if (in_step == cols && out_step == cols) return half.widen(rows * cols, in, out);
  for (int64_t r = 0; r < rows; ++r) half.widen(cols, in + r * in_step, out + r * out_step);
}

void narrow_rows(const HalfConverter& half, int64_t rows, int64_t cols, const float* in, int64_t in_step,
                 uint16_t* out, int64_t out_step) {
  if (in_step == cols && out_step == cols) return half.narrow(rows * cols, in, out);
  for (int64_t r = 0; r < rows; ++r) half.narrow(cols, in + r * in_step, out + r * out_step);
}

void widen_transposed(const HalfConverter& half, int64_t rows, int64_t cols, const uint16_t* in,
                      int64_t in_step, float* out, int64_t out_step) {
  for_half_blocks(rows, cols, [&](int64_t r, int64_t m, int64_t c, int64_t n, float* block) {
    widen_rows(half, m, n, in + r * in_step + c, in_step, block, n);
    ukernels().conv_pack.transpose({block, n, m, n, out + c * out_step + r, out_step});
  });
}

const float* widened(const Tensor& t, Exec& exec) {
  const int64_t count = numel(t);
  float* const out = exec.scratch_array<float>(count);
  const auto* const in = static_cast<const uint16_t*>(t.data);
  const HalfConverter& half = half_converter(t.dtype);
  for_runs(count, exec, [&](int64_t at, int64_t n) { half.widen(n, in + at, out + at); });
  return out;
}

void narrow_all(const float* in, const Tensor& t, Exec& exec) {
  const int64_t count = numel(t);
  auto* const out = static_cast<uint16_t*>(t.data);
  const HalfConverter& half = half_converter(t.dtype);
  for_runs(count, exec, [&](int64_t at, int64_t n) { half.narrow(n, in + at, out + at); });
}

}  // namespace cnnext
