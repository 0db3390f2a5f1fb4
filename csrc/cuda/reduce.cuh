// Sums within a warp and a block. The order is fixed by the shape of the block, so the bits are the same from
// run to run. What is summed is a State: kFields floats, the empty one, and how two of them become one.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

template <int N>
struct Sums {
  static constexpr int kFields = N;
  float fields[N];

  static CNNEXT_DEVICE Sums empty() { return Sums{}; }
  CNNEXT_DEVICE void merge(const Sums& other) {
#pragma unroll
    for (int i = 0; i < N; ++i) fields[i] += other.fields[i];
  }
};

// Count, mean and sum of squared distances from it (Chan's way of joining two of them).
struct Moments {
  static constexpr int kFields = 3;
  float fields[3];

  static CNNEXT_DEVICE Moments empty() { return Moments{}; }
  CNNEXT_DEVICE float mean() const { return fields[1]; }
  CNNEXT_DEVICE float squares() const { return fields[2]; }
  CNNEXT_DEVICE void merge(const Moments& other) {
    if (other.fields[0] == 0) return;
    const float count = fields[0] + other.fields[0], share = other.fields[0] / count;
    const float distance = other.fields[1] - fields[1];
    fields[2] += other.fields[2] + distance * distance * fields[0] * share;
    fields[1] += distance * share;
    fields[0] = count;
  }
};

// Into the warp's first lane; the others' results are of no use.
template <class State>
CNNEXT_DEVICE void merge_warp(State* mine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    State other;
#pragma unroll
    for (int i = 0; i < State::kFields; ++i) other.fields[i] = shuffle_down(mine->fields[i], distance);
    mine->merge(other);
  }
}

// Into the block's first thread. Once in a kernel, or with a barrier between two calls.
template <class State>
CNNEXT_DEVICE void merge_block(State* mine) {
  CNNEXT_SHARED(float, parts, 32 * State::kFields);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  merge_warp(mine);
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < State::kFields; ++i) parts.set(i * 32 + warp, mine->fields[i]);
  }
  block_barrier();
  if (warp != 0) return;
  *mine = State::empty();
  if (lane < static_cast<int>(blockDim.x / 32)) {
#pragma unroll
    for (int i = 0; i < State::kFields; ++i) mine->fields[i] = parts.get(i * 32 + lane);
  }
  merge_warp(mine);
}

// The largest and the sum over groups of kLanes lanes (1 or a whole warp), in every lane. NaN is the largest.
CNNEXT_DEVICE float larger(float a, float b) { return a != a || !(b <= a) ? (a != a ? a : b) : a; }
template <int kLanes>
CNNEXT_DEVICE float group_max(float value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value = larger(value, shuffle_xor(value, mask));
  return value;
}
template <int kLanes>
CNNEXT_DEVICE float group_sum(float value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

}  // namespace cnnext::cuda
