// wgmma through descriptors with the 128-byte swizzle against plain loops, for operands whose terms or whose
// lines lie side by side, and what comes of a wrong descriptor, swizzle, fence or wait.
#include <random>
#include <string>

#include "bed.h"
#include "check.h"
#include "cuda/hopper_utils.cuh"

using namespace cnnext::cuda;

namespace {

enum Fault {
  kNone,
  kNoSwizzle,
  kWrongStride,
  kWrongLeading,
  kWrongAdvance,
  kNoProxyFence,
  kNoBarrier,
  kNoWgmmaFence,
  kNoWait,
  kOverwritten
};

constexpr int kRows = 64, kMostColumns = 256, kRowBytes = 128;

// Where an element of an operand lies, in values: in a row of its line's terms, or in one of its term's
// lines.
template <class T, bool kAcross>
int place(int line, int term, bool swizzled) {
  constexpr int kSize = static_cast<int>(sizeof(T)), kTerms = kRowBytes / kSize;
  int at = line * kRowBytes + term * kSize;
  if (kAcross) at = line / 64 * 64 * kRowBytes + term * kRowBytes + line % 64 * kSize;
  static_assert(!kAcross || kTerms == 64);
  if (swizzled) at ^= at / kRowBytes % 8 * 16;
  return at / kSize;
}

// d (64 x columns) = a (64 x 128 bytes of terms) b^T (columns x as many), all row-major.
template <class T, int kColumns, bool kAcrossA, bool kAcrossB>
void product(const float* a, const float* b, float* d, Fault fault) {
  constexpr int kSize = static_cast<int>(sizeof(T)), kTerms = kRowBytes / kSize;
  const int start = static_cast<int>((0u - dynamic_shared<T>(0, 8).address(0)) % 1024);
  const Shared<T> tile_a = dynamic_shared<T>(start, kRows * kTerms);
  const Shared<T> tile_b = dynamic_shared<T>(start + kRows * kRowBytes, kColumns * kTerms);
  const int me = static_cast<int>(threadIdx.x);
  const bool swizzled = fault != kNoSwizzle;
  for (int i = me; i < kRows * kTerms; i += kWarpgroup) {
    tile_a.set(place<T, kAcrossA>(i / kTerms, i % kTerms, swizzled), from_float<T>(a[i]));
  }
  for (int i = me; i < kColumns * kTerms; i += kWarpgroup) {
    tile_b.set(place<T, kAcrossB>(i / kTerms, i % kTerms, swizzled), from_float<T>(b[i]));
  }
  if (fault != kNoProxyFence) async_proxy_fence();
  if (fault != kNoBarrier) block_barrier();
  const uint32_t stride = fault == kWrongStride ? 512 : 1024;
  const uint32_t leading = fault == kWrongLeading ? 1024 : 64 * kRowBytes;
  const uint64_t from_a = wgmma_descriptor(tile_a.address(0), leading, stride),
                 from_b = wgmma_descriptor(tile_b.address(0), leading, stride);
  float sums[kColumns / 32][4][4] = {};  // in rows of any length
  if (fault != kNoWgmmaFence) wgmma_fence();
  for (int step = 0; step < 4; ++step) {
    const int by = fault == kWrongAdvance ? 16 : 32;
    wgmma<T, kAcrossA, kAcrossB>(sums, advanced(from_a, step * (kAcrossA ? 16 * kRowBytes : by)),
                                 advanced(from_b, step * (kAcrossB ? 16 * kRowBytes : by)), step > 0);
  }
  wgmma_commit();
  if (fault == kOverwritten) tile_a.set(me, T{});
  if (fault != kNoWait) wgmma_wait<0>();
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = me / 32 * 16 + me % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + me % 4 * 2 + i % 2;
    d[row * kColumns + column] = sums[i / 16][i / 4 % 4][i % 4];
  }
}

// Whether the kernel's product of small whole numbers, which all types hold, is right; "" or what was
// reported.
template <class T, bool kAcrossA, bool kAcrossB, int kColumns = 128>
bool is_right(Fault fault, std::string* reported = nullptr) {
  constexpr int kTerms = kRowBytes / static_cast<int>(sizeof(T));
  std::mt19937 random(3);
  static float a[kRows * kTerms], b[kMostColumns * kTerms], d[kRows * kMostColumns];
  for (float& value : a) value = static_cast<float>(random() % 17) - 8;
  for (float& value : b) value = static_cast<float>(random() % 17) - 8;
  const cudaError_t error = raw_launch(product<T, kColumns, kAcrossA, kAcrossB>, dim3(1), dim3(kWarpgroup),
                                       (kRows + kColumns) * kRowBytes + 1024, nullptr, a, b, d, fault);
  if (reported) *reported = error == cudaSuccess ? "" : cudaGetErrorString(error);
  if (!reported) CHECK_EQ(error, cudaSuccess);
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      float sum = 0;
      for (int k = 0; k < kTerms; ++k) sum += a[i * kTerms + k] * b[j * kTerms + k];
      if (d[i * kColumns + j] != sum) return false;
    }
  }
  return true;
}

void products() {
  CHECK((is_right<float16, false, false>(kNone)));
  CHECK((is_right<bfloat16, false, false>(kNone)));
  CHECK((is_right<bfloat16, true, false>(kNone)));
  CHECK((is_right<bfloat16, false, true>(kNone)));
  CHECK((is_right<float16, true, true>(kNone)));
  CHECK((is_right<float, false, false>(kNone)));  // TF32
  CHECK((is_right<float16, false, false, 256>(kNone)));
  CHECK((is_right<bfloat16, false, true, 256>(kNone)));
}

void faults_show() {
  for (const Fault fault : {kNoSwizzle, kWrongStride, kWrongAdvance, kNoWait}) {
    std::string reported;
    CHECK((!is_right<float16, false, false>(fault, &reported)));
    CHECK((!is_right<float, false, false>(fault, &reported)));
  }
  std::string reported;
  CHECK((!is_right<bfloat16, false, true>(kWrongLeading, &reported)));
  CHECK((!is_right<bfloat16, true, true>(kWrongStride, &reported)));
  CHECK((!is_right<bfloat16, false, true, 256>(kWrongLeading, &reported)));
  CHECK((!is_right<float16, false, false, 256>(kNoWait, &reported)));
}

void what_is_reported() {
  const auto finds = [](Fault fault, const char* text) {
    std::string reported;
    is_right<bfloat16, false, false>(fault, &reported);
    if (reported.find(text) == std::string::npos) std::fprintf(stderr, "reported: %s\n", reported.c_str());
    return reported.find(text) != std::string::npos;
  };
  CHECK(finds(kNoProxyFence, "without async_proxy_fence()"));
  CHECK(finds(kNoBarrier, "since the last barrier"));
  CHECK(finds(kNoWgmmaFence, "without wgmma_fence()"));
  CHECK(finds(kOverwritten, "which a wgmma reads"));
}

}  // namespace

int main() {
  RUN(products);
  RUN(faults_show);
  RUN(what_is_reported);
  return check::result();
}
