// The only way in which kernels reach the hardware. tests/cuda_host supplies the same names for a CPU, where
// every access to shared memory is checked; so kernels use Shared<T> instead of __shared__ arrays, and
// nothing of CUDA's own besides threadIdx, blockIdx, blockDim, gridDim and float functions such as expf.
#pragma once

#include "cuda/types.cuh"

#if CNNEXT_CUDA_HOST
#include "device_host.h"
#else

namespace cnnext::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;

CNNEXT_DEVICE void block_barrier() { __syncthreads(); }
CNNEXT_DEVICE void warp_barrier() { __syncwarp(); }

// All 32 lanes of a warp take part in each of these.
template <class T>
CNNEXT_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <class T>
CNNEXT_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <class T>
CNNEXT_DEVICE T shuffle_down(T value, int distance) {
  return __shfl_down_sync(kAllLanes, value, distance);
}
CNNEXT_DEVICE uint32_t ballot(bool vote) { return __ballot_sync(kAllLanes, vote); }
CNNEXT_DEVICE bool any_lane(bool vote) { return __any_sync(kAllLanes, vote); }
CNNEXT_DEVICE bool all_lanes(bool vote) { return __all_sync(kAllLanes, vote); }

// ---- global memory: N values at an address that is aligned to all of them ----
// They travel as 32-bit words: LLVM cuts a memcpy (bits_as) that it can see through into bytes, on both sides
// of it, and nothing joins them again. tools/check_cuda_access.py looks at what became of these. (__ldca and
// __stwb are the plain accesses as assembly, for what LLVM takes apart even so.)
template <class T, int N>
constexpr bool kInWords = N > 1 && sizeof(T) * N % 4 == 0;

template <int N, class T>
CNNEXT_DEVICE Vec<T, N> load(const T* from) {
  if constexpr (!kInWords<T, N>) {
    return *reinterpret_cast<const Vec<T, N>*>(from);
  } else if constexpr (sizeof(T) * N == 16) {
    const uint4 u = *reinterpret_cast<const uint4*>(from);
    const uint32_t words[4] = {u.x, u.y, u.z, u.w};
    return bits_as<Vec<T, N> >(words);
  } else if constexpr (sizeof(T) * N == 8) {
    const uint2 u = *reinterpret_cast<const uint2*>(from);
    const uint32_t words[2] = {u.x, u.y};
    return bits_as<Vec<T, N> >(words);
  } else {
    static_assert(sizeof(T) * N == 4, "vectors have at most 16 bytes");
    return bits_as<Vec<T, N> >(__ldca(reinterpret_cast<const uint32_t*>(from)));
  }
}
template <class T, int N>
CNNEXT_DEVICE void store(T* to, const Vec<T, N>& value) {
  if constexpr (!kInWords<T, N>) {
    *reinterpret_cast<Vec<T, N>*>(to) = value;
  } else {
    uint32_t words[sizeof(value) / 4];
    memcpy(words, &value, sizeof(value));
    if constexpr (sizeof(value) == 16) {
      __stwb(reinterpret_cast<uint4*>(to), make_uint4(words[0], words[1], words[2], words[3]));
    } else if constexpr (sizeof(value) == 8) {
      __stwb(reinterpret_cast<uint2*>(to), make_uint2(words[0], words[1]));
    } else {
      static_assert(sizeof(value) == 4, "vectors have at most 16 bytes");
      __stwb(reinterpret_cast<uint32_t*>(to), words[0]);
    }
  }
}
// The bits of one value, or 0 where !valid, which costs no branch: nothing waits for it before it is used.
template <class T>
CNNEXT_DEVICE uint32_t load_bits_if(const T* from, bool valid) {
  uint32_t bits;
  if constexpr (sizeof(T) == 2) {
    asm volatile(
        "{\n.reg .pred valid;\nsetp.ne.s32 valid, %2, 0;\nmov.b32 %0, 0;\n@valid ld.global.u16 %0, [%1];\n}"
        : "=r"(bits)
        : "l"(__cvta_generic_to_global(from)), "r"(static_cast<int>(valid)));
  } else {
    static_assert(sizeof(T) == 4, "a value is half a word or one");
    asm volatile(
        "{\n.reg .pred valid;\nsetp.ne.s32 valid, %2, 0;\nmov.b32 %0, 0;\n@valid ld.global.u32 %0, [%1];\n}"
        : "=r"(bits)
        : "l"(__cvta_generic_to_global(from)), "r"(static_cast<int>(valid)));
  }
  return bits;
}
// For what this kernel reads once: it takes no room in L1. Not .nc, since elementwise kernels may write the
// same address.
template <int N, class T>
CNNEXT_DEVICE Vec<T, N> load_streaming(const T* from) {
  if constexpr (sizeof(T) * N == 16) {
    uint4 u;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(u.x), "=r"(u.y), "=r"(u.z), "=r"(u.w)
                 : "l"(__cvta_generic_to_global(from))
                 : "memory");
    const uint32_t words[4] = {u.x, u.y, u.z, u.w};
    return bits_as<Vec<T, N> >(words);
  } else {
    return load<N>(from);
  }
}
// For what nobody reads soon: first to leave L2.
template <class T, int N>
CNNEXT_DEVICE void store_streaming(T* to, const Vec<T, N>& value) {
  if constexpr (sizeof(T) * N == 16) {
    uint32_t words[4];
    memcpy(words, &value, 16);
    __stcs(reinterpret_cast<uint4*>(to), make_uint4(words[0], words[1], words[2], words[3]));
  } else {
    store(to, value);
  }
}

// Integers only, and only where the result does not depend on the order: flags, and the largest number.
CNNEXT_DEVICE void atomic_or(uint32_t* to, uint32_t value) { atomicOr(to, value); }
CNNEXT_DEVICE void atomic_max(uint32_t* to, uint32_t value) { atomicMax(to, value); }

// ---- shared memory ----
template <class T>
class Shared {
 public:
  CNNEXT_DEVICE explicit Shared(T* data) : data_(data) {}
  CNNEXT_DEVICE T get(int at) const {
    if constexpr (sizeof(T) == 16) {  // which nvcc would cut, as below
      uint32_t words[4];
      asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                   : "r"(address(at))
                   : "memory");
      return bits_as<T>(words);
    } else {
      return data_[at];
    }
  }
  CNNEXT_DEVICE void set(int at, T value) const { data_[at] = value; }
  template <int N>
  CNNEXT_DEVICE Vec<T, N> get_vec(int at) const {
    return *reinterpret_cast<const Vec<T, N>*>(data_ + at);
  }
  template <int N>
  CNNEXT_DEVICE void set_vec(int at, const Vec<T, N>& value) const {
    if constexpr (sizeof(T) * N == 16) {
      uint32_t words[4];
      memcpy(words, &value, 16);
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address(at)), "r"(words[0]),
                   "r"(words[1]), "r"(words[2]), "r"(words[3])
                   : "memory");
    } else {
      *reinterpret_cast<Vec<T, N>*>(data_ + at) = value;
    }
  }
  CNNEXT_DEVICE uint32_t address(int at) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(data_ + at));
  }

 private:
  T* data_;
};

#define CNNEXT_SHARED(T, name, count)             \
  __shared__ alignas(16) T name##_storage[count]; \
  const ::cnnext::cuda::Shared<T> name(name##_storage)

// `count` values from byte `offset` (a multiple of 16) of what the launch asked for.
template <class T>
CNNEXT_DEVICE Shared<T> dynamic_shared(int offset, [[maybe_unused]] int count) {
  extern __shared__ uint4 cnnext_dynamic_shared[];
  return Shared<T>(reinterpret_cast<T*>(reinterpret_cast<char*>(cnnext_dynamic_shared) + offset));
}

// ---- 16 bytes from global to shared memory, behind the thread's back; zeros where !valid ----
template <class T>
CNNEXT_DEVICE void cp_async16(const Shared<T>& to, int at, const T* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.address(at)),
               "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
               : "memory");
}
CNNEXT_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the last `Pending` groups of this thread have arrived. Others see them after a barrier.
template <int Pending>
CNNEXT_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// ---- tensor cores; the fragments are the PTX manual's ----
// Four 8x8 matrices of 16-bit values; lane i gives the address of row i % 8 of matrix i / 8.
template <class T>
CNNEXT_DEVICE void ldmatrix_x4(uint32_t (&out)[4], const Shared<T>& from, int at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from.address(at))
               : "memory");
}
template <class T>
CNNEXT_DEVICE void ldmatrix_x4_transposed(uint32_t (&out)[4], const Shared<T>& from, int at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from.address(at))
               : "memory");
}
// d (16 x 8) += a (16 x 16, row) * b (16 x 8, column).
template <class T>
CNNEXT_DEVICE void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, float16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}
// The same with k = 8 in TF32: floats of which the last 13 bits are ignored (to_tf32 rounds them first).
CNNEXT_DEVICE void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
CNNEXT_DEVICE uint32_t to_tf32(float value) {
  uint32_t result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(value));
  return result;
}

// ---- launching ----
template <class T>
struct AsGiven {
  using Type = T;
};
template <class... Params>
cudaError_t raw_launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                       cudaStream_t stream, typename AsGiven<Params>::Type... args) {
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&args))...};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes, stream);
}

}  // namespace cnnext::cuda

#endif
