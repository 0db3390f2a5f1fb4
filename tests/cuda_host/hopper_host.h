// The primitives of csrc/cuda/hopper_utils.cuh on the test bed.
#pragma once

#include "cuda/hopper_utils.cuh"

namespace cnnext::cuda {

// ---- mbarriers: mbarrier.cpp ----
void mbarrier_init(const Shared<uint64_t>& barriers, int which, int arrivals);
void mbarrier_init_fence(CNNEXT_WHERE);
void mbarrier_arrive(const Shared<uint64_t>& barriers, int which);
void mbarrier_expect(const Shared<uint64_t>& barriers, int which, int bytes);
void mbarrier_wait(const Shared<uint64_t>& barriers, int which, uint32_t parity, CNNEXT_WHERE);

// ---- TMA: tma.cpp ----
void async_proxy_fence(CNNEXT_WHERE);
void load_box_at(const TensorMap& map, uint32_t to, uint32_t barrier, int rank, const int* first);
void load_pixels_at(const TensorMap& map, uint32_t to, uint32_t barrier, const int* first, int column_offset,
                    int row_offset);
template <class T, int kRank>
void load_box(const TensorMap& map, const Shared<T>& to, int at, const Shared<uint64_t>& barriers, int which,
              const int (&first)[kRank]) {
  load_box_at(map, to.address(at), barriers.address(which), kRank, first);
}
template <class T>
void load_pixels(const TensorMap& map, const Shared<T>& to, int at, const Shared<uint64_t>& barriers,
                 int which, const int (&first)[4], int column_offset, int row_offset) {
  load_pixels_at(map, to.address(at), barriers.address(which), first, column_offset, row_offset);
}

// ---- wgmma: wgmma.cpp ----
void wgmma_fence(CNNEXT_WHERE);
void wgmma_commit(CNNEXT_WHERE);
void wgmma_wait_for(int pending, const char* file, int line);
template <int Pending>
void wgmma_wait(CNNEXT_WHERE) {
  wgmma_wait_for(Pending, file, line);
}
struct WgmmaOperand {
  uint64_t descriptor;
  bool across;  // lines lie side by side
};
// d: columns / 2 sums of the thread, in the order of the registers.
void wgmma_of(Element element, int columns, float* d, const WgmmaOperand& a, const WgmmaOperand& b, bool add,
              const char* file, int line);
template <class T, bool kAcrossA, bool kAcrossB, int kParts, int kEach>
void wgmma(float (&d)[kParts][kEach][4], uint64_t a, uint64_t b, bool add, CNNEXT_WHERE) {
  constexpr int kColumns = kParts * kEach * 8;
  static_assert(kColumns == 128 || (kColumns == 256 && sizeof(T) == 2));
  constexpr Element element = std::is_same_v<T, float16>    ? Element::kFloat16
                              : std::is_same_v<T, bfloat16> ? Element::kBFloat16
                                                            : Element::kTf32;
  wgmma_of(element, kColumns, &d[0][0][0], {a, kAcrossA}, {b, kAcrossB}, add, file, line);
}
// All warps of the group come to it; how many registers there are the bed does not know.
void change_registers(CNNEXT_WHERE);
template <int kRegisters>
void fewer_registers(CNNEXT_WHERE) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  change_registers(file, line);
}
template <int kRegisters>
void more_registers(CNNEXT_WHERE) {
  fewer_registers<kRegisters>(file, line);
}

}  // namespace cnnext::cuda
