// Tensor-core fragments: a 16 x 8 product through ldmatrix and mma.sync against plain loops, and what comes
// of a wrong lane, swizzle or transposition.
#include <cmath>
#include <random>

#include "bed.h"
#include "check.h"
#include "cuda/device_utils.cuh"

using namespace cnnext::cuda;

namespace {

enum Fault { kNone, kNotTransposed, kWrongSwizzle, kMatricesExchanged };

// Rows of 16 values as two groups of 8, exchanged in every other four rows so that ldmatrix meets no bank
// twice.
constexpr int swizzled(int row, int column, bool wrong) {
  return row * 16 + (((column / 8) ^ (wrong ? 0 : row / 4 % 2)) * 8) + column % 8;
}

// d = a (16 x 16) b (16 x 8), both row-major.
template <class T>
void product(const float* a, const float* b, float* d, Fault fault) {
  CNNEXT_SHARED(T, tile_a, 256);
  CNNEXT_SHARED(T, tile_b, 128);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) tile_a.set(swizzled(i / 16, i % 16, false), from_float<T>(a[i]));
  for (int i = lane; i < 128; i += 32) tile_b.set(i, from_float<T>(b[i]));
  warp_barrier();
  uint32_t fa[4], fb[4];
  const int matrix = lane / 8, row = lane % 8;
  // a's quarters in the order of the registers: rows 0-7, rows 8-15, then the same of columns 8-15.
  const int down = fault == kMatricesExchanged ? matrix / 2 : matrix % 2, right = matrix / 2;
  ldmatrix_x4(fa, tile_a, swizzled(down * 8 + row, right * 8, fault == kWrongSwizzle));
  const int at = (matrix % 2 * 8 + row) * 8;  // two matrices; lanes 16-31 repeat their addresses
  if (fault == kNotTransposed) {
    ldmatrix_x4(fb, tile_b, at);
  } else {
    ldmatrix_x4_transposed(fb, tile_b, at);
  }
  float sums[4] = {0, 0, 0, 0};
  const uint32_t b_registers[2] = {fb[0], fb[1]};
  mma_16x8x16<T>(sums, fa, b_registers);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

void product_tf32(const float* a, const float* b, float* d, Fault) {
  const int lane = static_cast<int>(threadIdx.x), group = lane / 4, in_group = lane % 4;
  float sums[4] = {0, 0, 0, 0};
  for (int k = 0; k < 16; k += 8) {
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; ++i) fa[i] = to_tf32(a[(group + i % 2 * 8) * 16 + k + in_group + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) fb[i] = to_tf32(b[(k + in_group + i * 4) * 8 + group]);
    mma_16x8x8_tf32(sums, fa, fb);
  }
  for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + in_group * 2 + i % 2] = sums[i];
}

// Whether the kernel's product of small whole numbers, which all types hold, is right.
bool is_right(void (*kernel)(const float*, const float*, float*, Fault), Fault fault) {
  std::mt19937 random(3);
  float a[256], b[128], d[128];
  for (float& value : a) value = static_cast<float>(random() % 17) - 8;
  for (float& value : b) value = static_cast<float>(random() % 17) - 8;
  const cudaError_t error = raw_launch(kernel, dim3(1), dim3(32), 0, nullptr, a, b, d, fault);
  if (error != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  CHECK_EQ(error, cudaSuccess);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[i * 16 + k] * b[k * 8 + j];
      if (d[i * 8 + j] != sum) return false;
    }
  }
  return true;
}

void products() {
  CHECK(is_right(product<float16>, kNone));
  CHECK(is_right(product<bfloat16>, kNone));
  CHECK(is_right(product_tf32, kNone));
}

void faults_show() {
  for (const Fault fault : {kNotTransposed, kWrongSwizzle, kMatricesExchanged}) {
    CHECK(!is_right(product<float16>, fault));
    CHECK(!is_right(product<bfloat16>, fault));
  }
}

void tf32_has_ten_bits() {
  CHECK_EQ(bits_as<float>(to_tf32(1.0f)), 1.0f);
  CHECK_EQ(bits_as<float>(to_tf32(1 + 0x1p-10f)), 1 + 0x1p-10f);
  CHECK_EQ(bits_as<float>(to_tf32(1 + 0x1p-11f)), 1 + 0x1p-10f);  // ties go away from zero
  CHECK_EQ(bits_as<float>(to_tf32(1 + 0x1p-12f)), 1.0f);
  CHECK_EQ(bits_as<float>(to_tf32(-INFINITY)), -INFINITY);
}

}  // namespace

int main() {
  RUN(products);
  RUN(faults_show);
  RUN(tf32_has_ten_bits);
  return check::result();
}
