// Uses every primitive, so that nvcc and its assembler see those that no kernel uses yet. Never runs.
#include "cuda/hopper_utils.cuh"

namespace cnnext::cuda {

template <class T>
__global__ void use_tensor_cores(const T* from, float* to) {
  const Shared<T> tile = dynamic_shared<T>(0, 1024);
  const int lane = static_cast<int>(threadIdx.x % 32);
  cp_async16(tile, lane * kWidest<T>, from + lane * kWidest<T>, lane != 3);
  cp_async_commit();
  cp_async_wait<1>();
  cp_async_wait<0>();
  block_barrier();
  uint32_t a[4], b[4];
  ldmatrix_x4(a, tile, lane * 8);
  ldmatrix_x4_transposed(b, tile, lane * 8);
  float sums[4] = {};
  const uint32_t b_registers[2] = {b[0], b[1]};
  if constexpr (sizeof(T) == 2) {
    mma_16x8x16<T>(sums, a, b_registers);
  } else {
    a[0] = to_tf32(to_float(from[lane]));
    mma_16x8x8_tf32(sums, a, b_registers);
  }
  warp_barrier();
  const bool vote = any_lane(sums[0] > 0) && !all_lanes(sums[1] > 0) && ballot(sums[2] > 0) != 7;
  Vec<float, 4> result{
      {shuffle(sums[0], 5), shuffle_xor(sums[1], 1), shuffle_down(sums[2], 2), vote ? 1.0f : 0.0f}};
  store_streaming(to + lane * 4, result);
  tile.template set_vec<kWidest<T>>(0, tile.template get_vec<kWidest<T>>(8));
  atomic_max(reinterpret_cast<uint32_t*>(to), load_bits_if(from, lane != 5));
}

#if CNNEXT_HOPPER
template <class T, bool kAcross, int kParts>
CNNEXT_DEVICE void use_wgmma(uint64_t a, float* to) {
  float sums[kParts][16][4];
  wgmma_fence();
  wgmma<T, kAcross, kAcross>(sums, a, advanced(a, 32), false);
  wgmma_commit();
  wgmma_wait<0>();
  for (int i = 0; i < kParts * 64; ++i) {
    to[threadIdx.x * 128 + static_cast<unsigned>(i)] = sums[i / 64][i / 4 % 16][i % 4];
  }
}
#endif

template <class T, bool kAcross>
__global__ void __launch_bounds__(384, 1)
    use_hopper([[maybe_unused]] const __grid_constant__ TensorMap map, [[maybe_unused]] float* to) {
#if CNNEXT_HOPPER
  CNNEXT_SHARED(uint64_t, barriers, 1);
  const Shared<T> tile = dynamic_shared<T>(0, 8192);
  if (threadIdx.x == 0) {
    mbarrier_init(barriers, 0, 2);
    mbarrier_init_fence();
    mbarrier_expect(barriers, 0, 3 * 8192);
    mbarrier_arrive(barriers, 0);
    load_box(map, tile, 0, barriers, 0, {0, 1});
    load_box(map, tile, 4096, barriers, 0, {0, 1, 2, 3});
    load_pixels(map, tile, 8192, barriers, 0, {0, 1, 2, 3}, 4, 5);
  }
  mbarrier_wait(barriers, 0, 0);
  if (threadIdx.x < kWarpgroup) {
    fewer_registers<40>();
    return;
  }
  more_registers<232>();
  async_proxy_fence();
  const uint64_t a = wgmma_descriptor(tile.address(0), 8192, 1024);
  use_wgmma<T, kAcross, 1>(a, to);
  if constexpr (sizeof(T) == 2) use_wgmma<T, kAcross, 2>(a, to);
#endif
}

template __global__ void use_hopper<float, false>(const __grid_constant__ TensorMap, float*);
template __global__ void use_hopper<float16, true>(const __grid_constant__ TensorMap, float*);
template __global__ void use_hopper<bfloat16, true>(const __grid_constant__ TensorMap, float*);
template __global__ void use_tensor_cores<float>(const float*, float*);
template __global__ void use_tensor_cores<float16>(const float16*, float*);
template __global__ void use_tensor_cores<bfloat16>(const bfloat16*, float*);

}  // namespace cnnext::cuda
