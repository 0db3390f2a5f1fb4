// cp.async, ldmatrix and mma.sync as the PTX manual defines them.
#include <array>
#include <deque>

#include "cuda/device_utils.cuh"

namespace cnnext::cuda {
namespace {

using ::cuda_host::Region;

struct PendingCopy {
  Region to;
  int64_t at;
  size_t size;
  const void* from;  // nullptr: zeros
};
// What a thread has asked for: the groups that it has committed, and the open one behind them.
struct Pending {
  uint64_t block = 0;
  std::deque<std::vector<PendingCopy>> groups;
  std::vector<PendingCopy> open;
};
Pending& pending() {
  static std::array<Pending, 1024> all;
  const auto moment = ::cuda_host::now();
  Pending& mine = all[static_cast<size_t>(moment.thread)];
  if (mine.block != moment.block) mine = {moment.block, {}, {}};
  return mine;
}

void arrive(const PendingCopy& copy) {
  alignas(16) unsigned char bytes[16] = {};
  if (copy.from) std::memcpy(bytes, copy.from, 16);
  ::cuda_host::write_shared(copy.to, copy.at, copy.size, 16 / copy.size, bytes);
}

// The lane's row of an 8x8 matrix, and what it gets of all four.
struct MatrixLoad {
  uint16_t row[8];
  uint32_t* out;
};

float element_at(Element element, const uint32_t* registers, int at) {
  if (element == Element::kTf32) return bits_as<float>(registers[at] & ~0x1fffu);
  const uint16_t bits = static_cast<uint16_t>(registers[at / 2] >> (at % 2 * 16));
  return element == Element::kFloat16 ? to_float(float16{bits}) : to_float(bfloat16{bits});
}

struct Fragments {
  Element element;
  const uint32_t *a, *b;
  float* d;
};

// Where element i of a lane's fragment lies.
struct Place {
  int row, column;
};
Place place_of_a(Element element, int lane, int i) {
  const int group = lane / 4, in_group = lane % 4;
  if (element == Element::kTf32) return {group + i % 2 * 8, in_group + i / 2 * 4};
  return {group + i / 2 % 2 * 8, in_group * 2 + i % 2 + i / 4 * 8};
}
Place place_of_b(Element element, int lane, int i) {  // row: along k
  const int group = lane / 4, in_group = lane % 4;
  if (element == Element::kTf32) return {in_group + i * 4, group};
  return {in_group * 2 + i % 2 + i / 2 * 8, group};
}

void multiply(void* const* lanes) {
  const Element element = static_cast<Fragments*>(lanes[0])->element;
  const int depth = element == Element::kTf32 ? 8 : 16, per_lane_a = depth / 2, per_lane_b = depth / 4;
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& mine = *static_cast<Fragments*>(lanes[lane]);
    for (int i = 0; i < per_lane_a; ++i) {
      const Place p = place_of_a(element, lane, i);
      a[p.row][p.column] = element_at(element, mine.a, i);
    }
    for (int i = 0; i < per_lane_b; ++i) {
      const Place p = place_of_b(element, lane, i);
      b[p.row][p.column] = element_at(element, mine.b, i);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = static_cast<Fragments*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = d[i];
      for (int k = 0; k < depth; ++k)
        sum += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
      d[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void cp_async_bytes(const Region& to, int at, size_t size, const void* from, bool valid) {
  if (valid && reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    ::cuda_host::report("cp.async reads 16 bytes from %p, which is not aligned to them", from);
  }
  ::cuda_host::expect_shared(to, at, size, 16 / size);
  pending().open.push_back({to, at, size, valid ? from : nullptr});
}

void cp_async_commit() {
  Pending& mine = pending();
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

void cp_async_wait_for(int left) {
  Pending& mine = pending();
  while (mine.groups.size() > static_cast<size_t>(left)) {
    for (const PendingCopy& copy : mine.groups.front()) arrive(copy);
    mine.groups.pop_front();
  }
}

void ldmatrix_bytes(uint32_t (&out)[4], const Region& from, int64_t at, size_t size, bool transposed,
                    const char* file, int line) {
  MatrixLoad mine;
  mine.out = out;
  ::cuda_host::read_shared(from, at, size, 16 / size, mine.row);
  if (transposed) {
    ::cuda_host::meet_in_warp("ldmatrix.trans", {file, line}, &mine, [](void* const* lanes) {
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < 4; ++m) {
          const int row = lane % 4 * 2, column = lane / 4;
          const uint32_t low = static_cast<MatrixLoad*>(lanes[m * 8 + row])->row[column];
          const uint32_t high = static_cast<MatrixLoad*>(lanes[m * 8 + row + 1])->row[column];
          static_cast<MatrixLoad*>(lanes[lane])->out[m] = low | high << 16;
        }
      }
    });
  } else {
    ::cuda_host::meet_in_warp("ldmatrix", {file, line}, &mine, [](void* const* lanes) {
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < 4; ++m) {
          const uint16_t* row = static_cast<MatrixLoad*>(lanes[m * 8 + lane / 4])->row;
          const int column = lane % 4 * 2;
          static_cast<MatrixLoad*>(lanes[lane])->out[m] = row[column] | uint32_t{row[column + 1]} << 16;
        }
      }
    });
  }
}

void multiply_fragments(Element element, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        const char* file, int line) {
  Fragments mine{element, a, b, d};
  ::cuda_host::meet_in_warp("mma", {file, line}, &mine, multiply);
}

}  // namespace cnnext::cuda
