// Arrays that end (or begin) exactly at a page that nobody may touch, and tensors in them. What is left of
// the outermost pages is filled with bytes that are NaN as floats: writing there is found by intact(),
// reading and using it shows in the results.
#pragma once

#include <signal.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cnnext/cnnext.h"

// What a fault prints before it ends the program.
inline void say_when_faulting(const std::string& what) {
  static char text[512];
  std::snprintf(text, sizeof(text), "FAULT in %s\n", what.c_str());
  static const bool installed = [] {
    for (int fault : {SIGSEGV, SIGBUS}) {
      signal(fault, [](int number) {
        if (write(2, text, std::strlen(text)) < 0) _exit(3);
        signal(number, SIG_DFL);
        raise(number);
      });
    }
    return true;
  }();
  (void)installed;
}

// CNNEXT_TEST_EVERY=n runs every n-th case only, where a sanitizer makes each many times slower. An odd n
// does not keep to one of the two memory orders.
inline bool takes_next_case() {
  static const int every = [] {
    const char* text = std::getenv("CNNEXT_TEST_EVERY");
    const int value = text ? std::atoi(text) : 1;
    return value > 0 ? value : 1;
  }();
  static int number = 0;
  return number++ % every == 0;
}

enum class Side { kEnd, kBegin };
enum class Order { kNCHW, kNHWC };

class Guarded {
 public:
  Guarded(size_t bytes, Side side) : bytes_(bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    inner_ = (bytes + page - 1) / page * page;
    map_bytes_ = inner_ + 2 * page;
    map_ =
        static_cast<unsigned char*>(mmap(nullptr, map_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_ + page, inner_, PROT_READ | PROT_WRITE) != 0) {
      std::perror("mmap");
      std::exit(2);
    }
    begin_ = map_ + page;
    std::memset(begin_, 0xff, inner_);
    data_ = side == Side::kEnd ? begin_ + inner_ - bytes : begin_;
  }
  ~Guarded() { munmap(map_, map_bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  void* data() const { return data_; }
  bool intact() const {
    for (const unsigned char* p = begin_; p < begin_ + inner_; ++p) {
      if ((p < data_ || p >= data_ + bytes_) && *p != 0xff) return false;
    }
    return true;
  }
  // From now on a write is a fault.
  void freeze() const { mprotect(begin_, inner_, PROT_READ); }

 private:
  size_t bytes_, inner_, map_bytes_;
  unsigned char *map_, *begin_, *data_;
};

// A dense tensor in guarded memory.
struct GuardedTensor {
  cnnext_tensor t{};
  std::unique_ptr<Guarded> memory;
  int64_t count = 1;

  GuardedTensor(std::initializer_list<int64_t> shape, Side side, Order order = Order::kNCHW,
                int32_t dtype = CNNEXT_FLOAT32, size_t element = 4) {
    t.dtype = dtype;
    t.device_type = CNNEXT_CPU;
    for (int64_t dim : shape) {
      t.shape[t.ndim++] = dim;
      count *= dim;
    }
    std::vector<int> axes;  // from the outermost in memory
    for (int i = 0; i < t.ndim; ++i) axes.push_back(i);
    if (order == Order::kNHWC && t.ndim == 4) axes = {0, 2, 3, 1};
    int64_t stride = 1;
    for (int i = t.ndim - 1; i >= 0; --i) {
      t.strides[axes[static_cast<size_t>(i)]] = stride;
      stride *= t.shape[axes[static_cast<size_t>(i)]];
    }
    memory = std::make_unique<Guarded>(static_cast<size_t>(count) * element, side);
    t.data = memory->data();
  }
  float* floats() const { return static_cast<float*>(t.data); }

  void randomize(std::mt19937& random) const {
    std::uniform_real_distribution<float> values(-1, 1);
    for (int64_t i = 0; i < count; ++i) floats()[i] = values(random);
  }
};
