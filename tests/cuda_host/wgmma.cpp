// wgmma as the PTX manual defines it: descriptors with the 128-byte swizzle, and the fragments of its sums,
// which arrive when the products are waited for, not before.
#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "hopper_host.h"
#include "tma.h"

namespace cnnext::cuda {
namespace {

constexpr int kRows = 64, kMostColumns = 256, kMostDepth = 16, kWarps = 32;

struct Values {
  float a[kRows][kMostDepth], b[kMostColumns][kMostDepth];
  int columns, depth;
};
struct Product {
  std::shared_ptr<const Values> values;
  ::cuda_host::AsyncRead *reads_a, *reads_b;
  bool add;
  std::array<float*, 32> sums;  // of the warp's lanes
};
// Of a warp: what it has committed, and the open group behind it.
struct Queue {
  std::deque<std::vector<Product>> groups;
  std::vector<Product> open;
  bool fenced = false;
};
std::array<Queue, kWarps>& queues() {
  static auto* const all = new std::array<Queue, kWarps>;
  return *all;
}
int warp_number() { return thread_number() / 32; }

struct Request {
  Element element;
  int columns;
  float* sums;
  WgmmaOperand a, b;
  bool add;
};

float value_of(Element element, const unsigned char* bytes) {
  if (element == Element::kTf32) {
    uint32_t bits;
    std::memcpy(&bits, bytes, 4);
    return bits_as<float>(bits & ~0x1fffu);
  }
  uint16_t bits;
  std::memcpy(&bits, bytes, 2);
  return element == Element::kFloat16 ? to_float(float16{bits}) : to_float(bfloat16{bits});
}

// values[line][term] <- what the descriptor says, of so many lines; the bytes that it reaches over.
std::pair<size_t, size_t> read_operand(Element element, const WgmmaOperand& operand, int count, int depth,
                                       float (*values)[kMostDepth]) {
  const uint64_t d = operand.descriptor;
  if (d >> 62 != 1 || (d >> 49 & 7) != 0) {
    ::cuda_host::report("wgmma with a swizzle other than that of 128 bytes, or with a base offset");
  }
  const size_t begin = (d & 0x3fff) << 4, leading = (d >> 16 & 0x3fff) << 4, stride = (d >> 32 & 0x3fff) << 4;
  const int size = element == Element::kTf32 ? 4 : 2, chunk = 16 / size;
  const int lines = operand.across ? chunk : 1, terms = operand.across ? 1 : chunk;  // of a chunk
  size_t first = SIZE_MAX, last = 0;
  for (int line = 0; line < count; line += lines) {
    for (int term = 0; term < depth; term += terms) {
      const auto l = static_cast<size_t>(line), t = static_cast<size_t>(term);
      size_t at = begin;
      if (operand.across) {
        at += l / 64 * leading + t / 8 * stride + t % 8 * 128 + l % 64 * 2;
      } else {
        at += l / 8 * stride + l % 8 * 128 + t * static_cast<size_t>(size);
      }
      at ^= at / 128 % 8 * 16;
      unsigned char bytes[16];
      ::cuda_host::read_async(at, thread_number() / ::cuda_host::kGroup * ::cuda_host::kGroup, bytes);
      for (int i = 0; i < chunk; ++i) {
        values[line + (operand.across ? i : 0)][term + (operand.across ? 0 : i)] =
            value_of(element, bytes + i * size);
      }
      first = std::min(first, at);
      last = std::max(last, at + 16);
    }
  }
  return {first, last};
}

void start(void* const* threads) {
  const Request& first = *static_cast<Request*>(threads[0]);
  for (int i = 1; i < ::cuda_host::kGroup; ++i) {
    const Request& other = *static_cast<Request*>(threads[i]);
    if (other.a.descriptor != first.a.descriptor || other.b.descriptor != first.b.descriptor ||
        other.add != first.add) {
      ::cuda_host::report("the threads of a warp group give wgmma different operands");
    }
  }
  const auto values = std::make_shared<Values>();
  values->columns = first.columns;
  values->depth = first.element == Element::kTf32 ? 8 : 16;
  const auto a = read_operand(first.element, first.a, kRows, values->depth, values->a);
  const auto b = read_operand(first.element, first.b, values->columns, values->depth, values->b);
  const int warp0 = warp_number() / 4 * 4;
  const uint32_t warps = 15u << warp0;
  auto* const reads_a = ::cuda_host::begin_async_read(a.first, a.second, warps);
  auto* const reads_b = ::cuda_host::begin_async_read(b.first, b.second, warps);
  for (int warp = 0; warp < 4; ++warp) {
    Queue& queue = queues()[static_cast<size_t>(warp0 + warp)];
    if (!queue.fenced) ::cuda_host::report("wgmma without wgmma_fence() behind what touched its sums");
    Product product{values, reads_a, reads_b, first.add, {}};
    for (int lane = 0; lane < 32; ++lane) {
      product.sums[static_cast<size_t>(lane)] = static_cast<Request*>(threads[warp * 32 + lane])->sums;
    }
    queue.open.push_back(product);
  }
}

// A warp's 16 rows of it.
void finish(const Product& product, int warp) {
  const Values& v = *product.values;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < v.columns / 2; ++i) {
      const int row = warp % 4 * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float& to = product.sums[static_cast<size_t>(lane)][i];
      double sum = product.add ? static_cast<double>(to) : 0;
      for (int k = 0; k < v.depth; ++k) {
        sum += static_cast<double>(v.a[row][k]) * static_cast<double>(v.b[column][k]);
      }
      to = static_cast<float>(sum);
    }
  }
  product.reads_a->warps &= ~(1u << warp);
  product.reads_b->warps &= ~(1u << warp);
}

}  // namespace

void wgmma_fence(const char* file, int line) {
  if (::cuda_host::is_skipped({file, line})) return;
  ::cuda_host::meet_in_warp("wgmma.fence", {file, line}, nullptr,
                            [](void* const*) { queues()[static_cast<size_t>(warp_number())].fenced = true; });
}

void wgmma_commit(const char* file, int line) {
  ::cuda_host::meet_in_warp("wgmma.commit_group", {file, line}, nullptr, [](void* const*) {
    Queue& queue = queues()[static_cast<size_t>(warp_number())];
    queue.groups.push_back(std::move(queue.open));
    queue.open.clear();
  });
}

void wgmma_wait_for(int pending, const char* file, int line) {
  if (::cuda_host::is_skipped({file, line})) return;
  ::cuda_host::meet_in_warp("wgmma.wait_group", {file, line}, &pending, [](void* const* lanes) {
    Queue& queue = queues()[static_cast<size_t>(warp_number())];
    while (queue.groups.size() > static_cast<size_t>(*static_cast<int*>(lanes[0]))) {
      for (const Product& product : queue.groups.front()) finish(product, warp_number());
      queue.groups.pop_front();
    }
    queue.fenced = false;  // the sums may be touched from here on
  });
}

void wgmma_of(Element element, int columns, float* d, const WgmmaOperand& a, const WgmmaOperand& b, bool add,
              const char* file, int line) {
  Request mine{element, columns, d, a, b, add};
  ::cuda_host::meet_in_group("wgmma", {file, line}, &mine, start);
}

void change_registers(const char* file, int line) {
  ::cuda_host::meet_in_group("setmaxnreg", {file, line}, nullptr, [](void* const*) {});
}

}  // namespace cnnext::cuda

void cuda_host::start_wgmma() {
  for (auto& queue : cnnext::cuda::queues()) queue = {};
}
