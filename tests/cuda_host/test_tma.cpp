// TMA against plain loops: boxes and windows' pixels with their edges and their swizzle; and what the bed
// reports of mbarriers that are used wrongly.
#include <cuda.h>

#include <cstring>
#include <string>
#include <vector>

#include "bed.h"
#include "check.h"
#include "cuda/hopper_utils.cuh"

using namespace cnnext::cuda;

namespace {

enum Fault { kNone, kNoWait, kWrongParity, kTooManyBytes, kTooFewBytes, kNoFence, kNoBarrier, kArrivesTwice };
constexpr int kMostRows = 64;

struct Request {
  TensorMap map;
  int rows, rank, first[4];
  bool pixels;
  int column_offset, row_offset;
};

// out (rows x 64) <- what TMA brings.
void copy(Request r, uint16_t* out, Fault fault) {
  CNNEXT_SHARED(uint64_t, barriers, 1);
  const int start = static_cast<int>((0u - dynamic_shared<uint16_t>(0, 8).address(0)) % 1024);
  const Shared<uint16_t> tile = dynamic_shared<uint16_t>(start, kMostRows * 64);
  const int me = static_cast<int>(threadIdx.x), bytes = r.rows * 128;
  if (me == 0) {
    mbarrier_init(barriers, 0, 1);
    if (fault != kNoFence) mbarrier_init_fence();
  }
  if (fault != kNoBarrier) block_barrier();
  if (me == 0) {
    mbarrier_expect(barriers, 0, bytes + (fault == kTooManyBytes ? 128 : fault == kTooFewBytes ? -128 : 0));
    if (fault == kArrivesTwice) mbarrier_arrive(barriers, 0);
    const int (&at)[4] = r.first;
    if (r.pixels) {
      load_pixels(r.map, tile, 0, barriers, 0, at, r.column_offset, r.row_offset);
    } else if (r.rank == 2) {
      load_box(r.map, tile, 0, barriers, 0, {at[0], at[1]});
    } else {
      load_box(r.map, tile, 0, barriers, 0, at);
    }
  }
  if (fault == kNoWait) {
    block_barrier();  // which says nothing of TMA
  } else {
    mbarrier_wait(barriers, 0, fault == kWrongParity ? 1 : 0);
  }
  for (int i = me; i < r.rows * 64; i += 32) {
    const int row = i / 64, column = i % 64;
    out[i] = tile.get(row * 64 + ((column / 8) ^ (row % 8)) * 8 + column % 8);
  }
}

class Memory {
 public:
  explicit Memory(size_t count) : count_(count) {
    void* block = nullptr;
    CHECK_EQ(cudaMalloc(&block, count * 2), cudaSuccess);
    values = static_cast<uint16_t*>(block);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint16_t>(i + 1);
  }
  ~Memory() { cudaFree(values); }
  uint16_t* values;
  size_t count_;
};

cudaError_t run(const Request& r, uint16_t* out, Fault fault = kNone) {
  return raw_launch(copy, dim3(1), dim3(32), kMostRows * 128 + 1024, nullptr, r, out, fault);
}
TensorMap as_map(const CUtensorMap& map) { return bits_as<TensorMap>(map); }

Request matrix_request(const Memory& m, int lines, int terms, int first_term, int first_line) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(terms), static_cast<cuuint64_t>(lines)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(terms) * 2};
  const cuuint32_t box[] = {64, 16}, steps[] = {1, 1};
  CUtensorMap map;
  CHECK_EQ(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, m.values, sizes, strides, box,
                                  steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
           CUDA_SUCCESS);
  return {as_map(map), 16, 2, {first_term, first_line, 0, 0}, false, 0, 0};
}

void boxes_of_a_matrix() {
  constexpr int kLines = 21, kTerms = 88;
  const Memory m(kLines * kTerms);
  for (const int line0 : {0, 8, 16}) {
    for (const int term0 : {0, 64}) {
      uint16_t out[16 * 64];
      CHECK_EQ(run(matrix_request(m, kLines, kTerms, term0, line0), out), cudaSuccess);
      for (int i = 0; i < 16 * 64; ++i) {
        const int line = line0 + i / 64, term = term0 + i % 64;
        CHECK_EQ(out[i], line < kLines && term < kTerms ? m.values[line * kTerms + term] : 0);
      }
    }
  }
}

void boxes_of_four_axes() {  // weights (K, R, S, C): 64 channels of a tap for some k
  constexpr int K = 20, R = 2, S = 3, C = 72;
  const Memory m(K * R * S * C);
  const cuuint64_t sizes[] = {C, S, R, K}, strides[] = {C * 2, S * C * 2, R * S * C * 2};
  const cuuint32_t box[] = {64, 1, 1, 16}, steps[] = {1, 1, 1, 1};
  CUtensorMap map;
  CHECK_EQ(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4, m.values, sizes, strides, box,
                                  steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
           CUDA_SUCCESS);
  uint16_t out[16 * 64];
  CHECK_EQ(run({as_map(map), 16, 4, {64, 2, 1, 8}, false, 0, 0}, out), cudaSuccess);
  for (int i = 0; i < 16 * 64; ++i) {
    const int k = 8 + i / 64, c = 64 + i % 64;
    CHECK_EQ(out[i], k < K && c < C ? m.values[((k * R + 1) * S + 2) * C + c] : 0);
  }
}

// float32 is rounded to the nearest TF32, ties to even; what is not finite stays.
void float32_is_rounded() {
  constexpr uint32_t kValues[][2] = {
      {0x3f800fff, 0x3f800000}, {0x3f801000, 0x3f800000}, {0x3f801001, 0x3f802000},
      {0x3f803000, 0x3f804000}, {0xbf802fff, 0xbf802000}, {0x3ffff000, 0x40000000},
      {0x7f7fffff, 0x7f800000}, {0x7f800000, 0x7f800000}, {0x7fc01001, 0x7fc01001}};
  constexpr int kCount = static_cast<int>(std::size(kValues)), kTerms = 36, kLines = 16;
  const Memory m(kLines * kTerms * 2);
  auto* const words = reinterpret_cast<uint32_t*>(m.values);
  for (int i = 0; i < kLines * kTerms; ++i) words[i] = kValues[i % kCount][0];
  const cuuint64_t sizes[] = {kTerms, kLines}, strides[] = {kTerms * 4};
  const cuuint32_t box[] = {32, 16}, steps[] = {1, 1};
  for (const auto type : {CU_TENSOR_MAP_DATA_TYPE_TFLOAT32, CU_TENSOR_MAP_DATA_TYPE_FLOAT32}) {
    CUtensorMap map;
    CHECK_EQ(cuTensorMapEncodeTiled(&map, type, 2, m.values, sizes, strides, box, steps,
                                    CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
             CUDA_SUCCESS);
    uint32_t out[16 * 32];
    CHECK_EQ(run({as_map(map), 16, 2, {8, 0, 0, 0}, false, 0, 0}, reinterpret_cast<uint16_t*>(out)),
             cudaSuccess);
    for (int i = 0; i < 16 * 32; ++i) {
      const int term = 8 + i % 32, number = (i / 32 * kTerms + term) % kCount;
      CHECK_EQ(out[i], term < kTerms ? kValues[number][type == CU_TENSOR_MAP_DATA_TYPE_TFLOAT32] : 0);
    }
  }
}

struct Windows {
  int N, H, W, R, S, stride_h, stride_w, dilation_h, dilation_w, top, left, P, Q;
};

// Every tile of every tap of a convolution's windows.
void check_windows(const Windows& s) {
  constexpr int C = 64, kPixels = 32;
  const auto count = static_cast<size_t>(s.N * s.H * s.W * C);
  const Memory m(count);
  const auto size = [](int n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[] = {C, size(s.W), size(s.H), size(s.N)};
  const cuuint64_t strides[] = {C * 2, size(s.W) * C * 2, size(s.H * s.W) * C * 2};
  const int lower[] = {-s.left, -s.top};
  const int upper[] = {(s.Q - 1) * s.stride_w - s.left - (s.W - 1),
                       (s.P - 1) * s.stride_h - s.top - (s.H - 1)};
  const cuuint32_t steps[] = {1, static_cast<cuuint32_t>(s.stride_w), static_cast<cuuint32_t>(s.stride_h), 1};
  CUtensorMap map;
  CHECK_EQ(cuTensorMapEncodeIm2col(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4, m.values, sizes, strides, lower,
                                   upper, C, kPixels, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                   CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
           CUDA_SUCCESS);
  for (int pixel0 = 0; pixel0 < s.N * s.P * s.Q; pixel0 += kPixels) {
    for (int tap = 0; tap < s.R * s.S; ++tap) {
      const int right = tap % s.S * s.dilation_w, down = tap / s.S * s.dilation_h;
      const int q0 = pixel0 % s.Q, p0 = pixel0 / s.Q % s.P, n0 = pixel0 / s.Q / s.P;
      uint16_t out[kPixels * 64];
      CHECK_EQ(run({as_map(map),
                    kPixels,
                    4,
                    {0, q0 * s.stride_w - s.left, p0 * s.stride_h - s.top, n0},
                    true,
                    right,
                    down},
                   out),
               cudaSuccess);
      for (int i = 0; i < kPixels * 64; ++i) {
        const int pixel = pixel0 + i / 64, n = pixel / s.Q / s.P;
        const int h = pixel / s.Q % s.P * s.stride_h - s.top + down,
                  w = pixel % s.Q * s.stride_w - s.left + right;
        const bool inside = n < s.N && h >= 0 && h < s.H && w >= 0 && w < s.W;
        CHECK_EQ(out[i], inside ? m.values[((n * s.H + h) * s.W + w) * C + i % 64] : 0);
      }
    }
  }
}
void pixels_of_windows() {
  check_windows({2, 5, 7, 3, 3, 1, 1, 1, 1, 1, 1, 5, 7});
  check_windows({3, 6, 5, 1, 1, 2, 3, 1, 1, 0, 0, 3, 2});
  check_windows({2, 9, 6, 3, 2, 2, 1, 2, 3, 3, 1, 5, 6});  // padding on the top and left, and not behind
  check_windows({1, 4, 8, 2, 3, 3, 2, 1, 2, 0, 4, 1, 5});
}

void faults_are_reported() {
  const Memory m(64 * 64);
  const auto finds = [&](Fault fault, const char* text, uint64_t order = 0) {
    uint16_t out[16 * 64];
    cuda_host::control().order = order;
    const cudaError_t error = run(matrix_request(m, 64, 64, 0, 0), out, fault);
    cuda_host::control().order = 0;
    const std::string reported = error == cudaSuccess ? "" : cudaGetErrorString(error);
    if (reported.find(text) == std::string::npos) std::fprintf(stderr, "reported: %s\n", reported.c_str());
    return reported.find(text) != std::string::npos;
  };
  CHECK(finds(kNoWait, "has arrived"));
  CHECK(finds(kNoWait, "before its mbarrier said", 5));
  CHECK(finds(kWrongParity, "which nobody has written"));
  CHECK(finds(kTooManyBytes, "deadlock"));
  CHECK(finds(kTooFewBytes, "deadlock"));
  CHECK(finds(kNoFence, "no fence or barrier"));
  CHECK(finds(kNoBarrier, "mbarrier"));
  CHECK(finds(kArrivesTwice, "more arrivals"));
}

void limits_of_maps() {
  const Memory m(64 * 64);
  const cuuint64_t sizes[] = {64, 64}, strides[] = {128}, odd[] = {120};
  const cuuint32_t box[] = {64, 64}, wide[] = {128, 8}, steps[] = {1, 1};
  CUtensorMap map;
  const auto encode = [&](void* address, const cuuint64_t* of, const cuuint32_t* size) {
    return cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, address, sizes, of, size, steps,
                                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CHECK_EQ(encode(m.values, strides, box), CUDA_SUCCESS);
  CHECK_EQ(encode(m.values + 1, strides, box), CUDA_ERROR_INVALID_VALUE);
  CHECK_EQ(encode(m.values, odd, box), CUDA_ERROR_INVALID_VALUE);
  CHECK_EQ(encode(m.values, strides, wide), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace

int main() {
  RUN(boxes_of_a_matrix);
  RUN(boxes_of_four_axes);
  RUN(float32_is_rounded);
  RUN(pixels_of_windows);
  RUN(faults_are_reported);
  RUN(limits_of_maps);
  return check::result();
}
