// What sm_90a has beside device_utils.cuh: barriers in shared memory that also count bytes (mbarrier), copies
// of boxes of a tensor that one thread asks for (TMA), and products by four warps together, whose operands
// tensor cores read from shared memory by themselves (wgmma). A kernel's body that uses them is compiled only
// where CNNEXT_HOPPER is 1.
//
// TMA and wgmma reach shared memory by another way than threads do (the asynchronous proxy): what threads
// wrote it sees after async_proxy_fence() and a barrier; what it wrote they see behind the mbarrier.
#pragma once

#include "cuda/tensor_map.cuh"

#if CNNEXT_CUDA_HOST || defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define CNNEXT_HOPPER 1
#else
#define CNNEXT_HOPPER 0
#endif

namespace cnnext::cuda {

constexpr int kWarpgroup = 128;  // threads

// Says where an operand of wgmma begins in shared memory, with the 128-byte swizzle: in bytes, a multiple of
// 1,024 but for an advance along the sum.
//   Terms side by side (K-major): rows of 128 bytes of terms, eight of which are a group; `stride` leads to
//   the
//     next eight lines, `leading` means nothing.
//   Lines side by side (MN-major): rows of 64 lines, one for each term; `stride` leads to the next eight
//   terms,
//     `leading` to the next 64 lines.
CNNEXT_INDEX uint64_t wgmma_descriptor(uint32_t address, uint32_t leading, uint32_t stride) {
  return uint64_t{1} << 62 | uint64_t{stride >> 4} << 32 | uint64_t{leading >> 4} << 16 |
         (address & 0x3ffff) >> 4;
}
// The same so many bytes further on.
CNNEXT_INDEX uint64_t advanced(uint64_t descriptor, int bytes) {
  return descriptor + static_cast<uint64_t>(bytes >> 4);
}

}  // namespace cnnext::cuda

#if CNNEXT_CUDA_HOST
#include "hopper_host.h"
#else

namespace cnnext::cuda {

// ---- mbarriers ----
// A phase ends when `arrivals` threads have arrived and as many bytes have come as were announced.
CNNEXT_DEVICE void mbarrier_init(const Shared<uint64_t>& barriers, int which, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barriers.address(which)), "r"(arrivals)
               : "memory");
}
// By the thread that made them, before the block's barrier behind which they are used.
CNNEXT_DEVICE void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
CNNEXT_DEVICE void mbarrier_arrive(const Shared<uint64_t>& barriers, int which) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barriers.address(which)) : "memory");
}
// Arrives, and announces bytes.
CNNEXT_DEVICE void mbarrier_expect(const Shared<uint64_t>& barriers, int which, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barriers.address(which)),
               "r"(bytes)
               : "memory");
}
// Until a phase of that parity has ended: phase 0 is even, and the one before it, odd, has ended already.
CNNEXT_DEVICE void mbarrier_wait(const Shared<uint64_t>& barriers, int which, uint32_t parity) {
  uint32_t done = 0;
  do {
    asm volatile(
        "{\n.reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;\n}"
        : "=r"(done)
        : "r"(barriers.address(which)), "r"(parity)
        : "memory");
  } while (!done);
}

// ---- TMA ----
CNNEXT_DEVICE void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The box that begins at these coordinates, innermost first, to value `at`; its bytes go to the mbarrier.
template <class T>
CNNEXT_DEVICE void load_box(const TensorMap& map, const Shared<T>& to, int at,
                            const Shared<uint64_t>& barriers, int which, const int (&first)[2]) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], "
      "[%4];" ::"r"(to.address(at)),
      "l"(&map), "r"(first[0]), "r"(first[1]), "r"(barriers.address(which))
      : "memory");
}
template <class T>
CNNEXT_DEVICE void load_box(const TensorMap& map, const Shared<T>& to, int at,
                            const Shared<uint64_t>& barriers, int which, const int (&first)[4]) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, "
      "%4, "
      "%5}], [%6];" ::"r"(to.address(at)),
      "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(barriers.address(which))
      : "memory");
}
// Pixels from (channel, column, row, image) on, each moved by the tap's offset.
template <class T>
CNNEXT_DEVICE void load_pixels(const TensorMap& map, const Shared<T>& to, int at,
                               const Shared<uint64_t>& barriers, int which, const int (&first)[4],
                               int column_offset, int row_offset) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3, %4, "
      "%5}], [%6], {%7, %8};" ::"r"(to.address(at)),
      "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(barriers.address(which)),
      "h"(static_cast<uint16_t>(column_offset)), "h"(static_cast<uint16_t>(row_offset))
      : "memory");
}

// ---- wgmma: all 128 threads of a warp group take part in each of these ----
// Before the first product, and after its sums were touched.
CNNEXT_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
CNNEXT_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until all but the last `Pending` groups of products are done. 0: the sums may be read.
template <int Pending>
CNNEXT_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

#define CNNEXT_SUMS(i)                                                        \
  "+f"(d[(i) / kEach][(i) % kEach][0]), "+f"(d[(i) / kEach][(i) % kEach][1]), \
      "+f"(d[(i) / kEach][(i) % kEach][2]), "+f"(d[(i) / kEach][(i) % kEach][3])
#define CNNEXT_SUMS_32(i) CNNEXT_SUMS(i), CNNEXT_SUMS(i + 1), CNNEXT_SUMS(i + 2), CNNEXT_SUMS(i + 3)
#define CNNEXT_SUMS_128 CNNEXT_SUMS_32(0), CNNEXT_SUMS_32(4), CNNEXT_SUMS_32(8), CNNEXT_SUMS_32(12)
#define CNNEXT_SUMS_256 \
  CNNEXT_SUMS_128, CNNEXT_SUMS_32(16), CNNEXT_SUMS_32(20), CNNEXT_SUMS_32(24), CNNEXT_SUMS_32(28)
#define CNNEXT_PLACES_128                                                                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, " \
  "%59, %60, %61, %62, %63"
#define CNNEXT_PLACES_256                                                                        \
  CNNEXT_PLACES_128                                                                              \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
  "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, "   \
  "%100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, "   \
  "%115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define CNNEXT_WGMMA_CODE(kind, places, a, b, add, immediates)                                          \
  "{\n.reg .pred add;\nsetp.ne.b32 add, " add ", 0;\nwgmma.mma_async.sync.aligned.m64" kind " {" places \
  "}, " a ", " b ", add, 1, 1" immediates ";\n}"
#define CNNEXT_CODE_128(type, immediates) \
  CNNEXT_WGMMA_CODE("n128" type, CNNEXT_PLACES_128, "%64", "%65", "%66", immediates)
#define CNNEXT_CODE_256(type, immediates) \
  CNNEXT_WGMMA_CODE("n256" type, CNNEXT_PLACES_256, "%128", "%129", "%130", immediates)
#define CNNEXT_WGMMA(columns, type, immediates)                            \
  asm volatile(CNNEXT_CODE_##columns("k16.f32." type "." type, immediates) \
               : CNNEXT_SUMS_##columns                                     \
               : "l"(a), "l"(b), "r"(adds), "n"(kAcrossA ? 1 : 0), "n"(kAcrossB ? 1 : 0))

// d (64 x 128 or 256) = a (64 x 32 bytes of terms) * b (as many terms x columns), plus d where `add`. A
// thread's sums: d, in one row, are fragments of mma.sync, rows 16 * its warp and on, columns 8 * j and on.
// kAcross: lines lie side by side, not terms; 16-bit types only.
template <class T, bool kAcrossA, bool kAcrossB, int kParts, int kEach>
CNNEXT_DEVICE void wgmma(float (&d)[kParts][kEach][4], uint64_t a, uint64_t b, bool add) {
  constexpr int kColumns = kParts * kEach * 8;
  const int adds = add ? 1 : 0;
  if constexpr (sizeof(T) == 4) {
    static_assert(kColumns == 128 && !kAcrossA && !kAcrossB, "TF32 has its terms side by side");
    asm volatile(CNNEXT_CODE_128("k8.f32.tf32.tf32", "") : CNNEXT_SUMS_128 : "l"(a), "l"(b), "r"(adds));
  } else if constexpr (kColumns == 128) {
    if constexpr (std::is_same_v<T, float16>) {
      CNNEXT_WGMMA(128, "f16", ", %67, %68");
    } else {
      CNNEXT_WGMMA(128, "bf16", ", %67, %68");
    }
  } else {
    static_assert(kColumns == 256);
    if constexpr (std::is_same_v<T, float16>) {
      CNNEXT_WGMMA(256, "f16", ", %131, %132");
    } else {
      CNNEXT_WGMMA(256, "bf16", ", %131, %132");
    }
  }
}
#undef CNNEXT_WGMMA
#undef CNNEXT_CODE_256
#undef CNNEXT_CODE_128
#undef CNNEXT_WGMMA_CODE
#undef CNNEXT_PLACES_256
#undef CNNEXT_PLACES_128
#undef CNNEXT_SUMS_256
#undef CNNEXT_SUMS_128
#undef CNNEXT_SUMS_32
#undef CNNEXT_SUMS

// Takes registers from this warp group, or gives it some that others gave away.
template <int kRegisters>
CNNEXT_DEVICE void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
CNNEXT_DEVICE void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace cnnext::cuda

#endif
