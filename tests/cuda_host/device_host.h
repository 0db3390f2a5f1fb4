// The primitives of csrc/cuda/device_utils.cuh on the test bed.
#pragma once

#include <cstring>
#include <vector>

#include "bed.h"
#include "shared_memory.h"
#include "streams.h"

#define CNNEXT_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace cnnext::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;

inline int thread_number() { return ::cuda_host::now().thread; }
inline int lane_number() { return thread_number() % 32; }

inline void block_barrier(CNNEXT_WHERE) { ::cuda_host::wait_at_barrier({file, line}); }
inline void warp_barrier(CNNEXT_WHERE) { ::cuda_host::wait_at_warp_barrier({file, line}); }

// ---- exchanges within a warp ----
template <class T>
struct Exchange {
  T value;
  int source;  // the lane whose value is wanted; out of range: the own one
  T result;
};
template <class T>
T exchange(const char* what, T value, int source, const char* file, int line) {
  Exchange<T> mine{value, source >= 0 && source < 32 ? source : lane_number(), value};
  ::cuda_host::meet_in_warp(what, {file, line}, &mine, [](void* const* lanes) {
    for (int i = 0; i < 32; ++i) {
      auto* lane = static_cast<Exchange<T>*>(lanes[i]);
      lane->result = static_cast<Exchange<T>*>(lanes[lane->source])->value;
    }
  });
  return mine.result;
}
template <class T>
T shuffle(T value, int lane, CNNEXT_WHERE) {
  return exchange("shuffle", value, lane & 31, file, line);
}
template <class T>
T shuffle_xor(T value, int mask, CNNEXT_WHERE) {
  return exchange("shuffle_xor", value, lane_number() ^ mask, file, line);
}
template <class T>
T shuffle_down(T value, int distance, CNNEXT_WHERE) {
  return exchange("shuffle_down", value, lane_number() + distance, file, line);
}
struct Votes {
  bool mine;
  uint32_t all;
};
inline uint32_t ballot(bool vote, CNNEXT_WHERE) {
  Votes votes{vote, 0};
  ::cuda_host::meet_in_warp("ballot", {file, line}, &votes, [](void* const* lanes) {
    uint32_t all = 0;
    for (int i = 0; i < 32; ++i) all |= static_cast<uint32_t>(static_cast<Votes*>(lanes[i])->mine) << i;
    for (int i = 0; i < 32; ++i) static_cast<Votes*>(lanes[i])->all = all;
  });
  return votes.all;
}
inline bool any_lane(bool vote, CNNEXT_WHERE) { return ballot(vote, file, line) != 0; }
inline bool all_lanes(bool vote, CNNEXT_WHERE) { return ballot(vote, file, line) == kAllLanes; }

// ---- global memory: plain memory between guard pages ----
template <int N, class T>
Vec<T, N> load(const T* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(Vec<T, N>) != 0) {
    ::cuda_host::report("loads %zu bytes from %p, which is not aligned to them", sizeof(Vec<T, N>),
                        static_cast<const void*>(from));
  }
  Vec<T, N> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <class T>
uint32_t load_bits_if(const T* from, bool valid) {
  uint32_t bits = 0;
  if (valid) std::memcpy(&bits, from, sizeof(T));
  return bits;
}
template <class T, int N>
void store(T* to, const Vec<T, N>& value) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(value) != 0) {
    ::cuda_host::report("stores %zu bytes to %p, which is not aligned to them", sizeof(value),
                        static_cast<void*>(to));
  }
  std::memcpy(to, &value, sizeof(value));
}
template <int N, class T>
Vec<T, N> load_streaming(const T* from) {
  return load<N>(from);
}
template <class T, int N>
void store_streaming(T* to, const Vec<T, N>& value) {
  store(to, value);
}
inline void atomic_or(uint32_t* to, uint32_t value) { *to |= value; }
inline void atomic_max(uint32_t* to, uint32_t value) { *to = *to < value ? value : *to; }

// ---- shared memory ----
template <class T>
class Shared {
 public:
  explicit Shared(const ::cuda_host::Region& region) : region_(region) {}
  T get(int at) const {
    T value;
    ::cuda_host::read_shared(region_, at, sizeof(T), 1, &value);
    return value;
  }
  void set(int at, T value) const { ::cuda_host::write_shared(region_, at, sizeof(T), 1, &value); }
  template <int N>
  Vec<T, N> get_vec(int at) const {
    Vec<T, N> value;
    ::cuda_host::read_shared(region_, at, sizeof(T), N, &value);
    return value;
  }
  template <int N>
  void set_vec(int at, const Vec<T, N>& value) const {
    ::cuda_host::write_shared(region_, at, sizeof(T), N, &value);
  }
  const ::cuda_host::Region& region() const { return region_; }
  uint32_t address(int at) const {
    return static_cast<uint32_t>(region_.begin + static_cast<size_t>(at) * sizeof(T));
  }

 private:
  ::cuda_host::Region region_;
};

#define CNNEXT_SHARED(T, name, count)       \
  static const char name##_declaration = 0; \
  const ::cnnext::cuda::Shared<T> name(     \
      ::cuda_host::static_region(&name##_declaration, #name, static_cast<size_t>(count) * sizeof(T)))

template <class T>
Shared<T> dynamic_shared(int offset, int count) {
  return Shared<T>(
      ::cuda_host::dynamic_region(static_cast<size_t>(offset), static_cast<size_t>(count) * sizeof(T)));
}

// ---- cp.async: nothing is in shared memory before the wait ----
void cp_async_bytes(const ::cuda_host::Region& to, int at, size_t size, const void* from, bool valid);
template <class T>
void cp_async16(const Shared<T>& to, int at, const T* from, bool valid) {
  cp_async_bytes(to.region(), at, sizeof(T), from, valid);
}
void cp_async_commit();
void cp_async_wait_for(int pending);
template <int Pending>
void cp_async_wait() {
  cp_async_wait_for(Pending);
}

// ---- tensor cores ----
void ldmatrix_bytes(uint32_t (&out)[4], const ::cuda_host::Region& from, int64_t at, size_t size,
                    bool transposed, const char* file, int line);
template <class T>
void ldmatrix_x4(uint32_t (&out)[4], const Shared<T>& from, int at, CNNEXT_WHERE) {
  ldmatrix_bytes(out, from.region(), at, sizeof(T), false, file, line);
}
template <class T>
void ldmatrix_x4_transposed(uint32_t (&out)[4], const Shared<T>& from, int at, CNNEXT_WHERE) {
  ldmatrix_bytes(out, from.region(), at, sizeof(T), true, file, line);
}
enum class Element { kFloat16, kBFloat16, kTf32 };
void multiply_fragments(Element element, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        const char* file, int line);
template <class T>
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CNNEXT_WHERE) {
  constexpr Element element = std::is_same_v<T, float16> ? Element::kFloat16 : Element::kBFloat16;
  multiply_fragments(element, d, a, b, file, line);
}
inline void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CNNEXT_WHERE) {
  multiply_fragments(Element::kTf32, d, a, b, file, line);
}
// To the nearest of 10 bits of fraction, ties away from zero.
inline uint32_t to_tf32(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}

// ---- launching ----
template <class T>
struct AsGiven {
  using Type = T;
};
template <class... Params>
cudaError_t raw_launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                       cudaStream_t stream, typename AsGiven<Params>::Type... args) {
  return ::cuda_host::enqueue(stream, [=] {  // with copies of the arguments, as a launch makes them
    auto body = [&] { kernel(args...); };
    using Body = decltype(body);
    return ::cuda_host::run_grid(
        grid, block, shared_bytes, [](void* argument) { (*static_cast<Body*>(argument))(); }, &body);
  });
}

}  // namespace cnnext::cuda
