// Whether the bed finds what it is there to find: small kernels, each with one fault that a GPU may forgive,
// and beside most of them the same kernel without it.
#include <functional>
#include <string>

#include "bed.h"
#include "check.h"
#include "cuda/device_utils.cuh"

using namespace cnnext::cuda;

namespace {

// What the bed says of one block of `threads` running body; "" where nothing is wrong.
template <class Body>
std::string run(const Body& body, int threads = 64, size_t shared_bytes = 0, unsigned blocks = 1) {
  static const Body* the_body;
  the_body = &body;
  const cudaError_t error = raw_launch(
      +[]() { (*the_body)(); }, dim3(blocks), dim3(static_cast<unsigned>(threads)), shared_bytes, nullptr);
  const std::string said = cudaGetErrorString(error);
  cudaGetLastError();
  return error == cudaSuccess ? "" : said;
}

bool says(const std::string& text, const char* part) {
  if (text.find(part) != std::string::npos) return true;
  std::fprintf(stderr, "the bed said: %s\n", text.c_str());
  return false;
}

int me() { return static_cast<int>(threadIdx.x); }

void races() {
  const auto exchange = [](bool with_barrier) {
    return run([=] {
      CNNEXT_SHARED(int, words, 64);
      words.set(me(), me());
      if (with_barrier) block_barrier();
      if (words.get(63 - me()) != 63 - me()) cuda_host::report("wrong value");
    });
  };
  CHECK_EQ(exchange(true), "");
  CHECK(!exchange(false).empty());
  CHECK(says(run([] {
               CNNEXT_SHARED(int, words, 64);
               words.set(me(), 0);
               block_barrier();
               words.get((me() + 1) % 64);
               words.set(me(), 1);
             }),
             "race"));
  CHECK(says(run([] {
               CNNEXT_SHARED(int, word, 1);
               word.set(0, 7);
             }),
             "race: writes element 0 of shared word"));
  // Bytes of one word are words of their own.
  CHECK_EQ(run([] {
             CNNEXT_SHARED(uint8_t, bytes, 64);
             bytes.set(me(), 1);
           }),
           "");
}

void races_within_a_warp() {
  const auto exchange = [](bool with_barrier, int distance) {
    return run([=] {
      CNNEXT_SHARED(int, words, 64);
      words.set(me(), me());
      if (with_barrier) warp_barrier();
      words.get(me() ^ distance);
    });
  };
  CHECK_EQ(exchange(true, 1), "");
  CHECK(!exchange(false, 1).empty());
  CHECK(!exchange(true, 32).empty());  // another warp: its barrier orders nothing
}

void barriers_that_not_all_reach() {
  CHECK(says(run([] {
               if (me() < 10) block_barrier();
             }),
             "deadlock"));
  CHECK(says(run([] {
               if (me() == 3) return;
               block_barrier();
             }),
             "a thread that has ended"));
  const auto two_barriers = [] {
    if (me() < 32) {
      block_barrier();
    } else {
      block_barrier();  // two lines, so no macro may hold them
    }
  };
  CHECK(says(run(two_barriers), "while thread"));
}

void lanes_that_are_missing() {
  CHECK(says(run([] {
               if (me() % 32 < 31) shuffle_xor(1, 1);
             }),
             "deadlock"));
  CHECK(says(run([] {
               if (me() % 2) {
                 shuffle_xor(1, 1);
               } else {
                 any_lane(true);
               }
             }),
             "while thread"));
}

void shared_memory_bounds() {
  CHECK(says(run([] {
               CNNEXT_SHARED(float, tile, 64);
               CNNEXT_SHARED(float, behind, 64);
               behind.set(me(), 0);
               tile.set(me() + 1, 0);
             }),
             "writes elements 64 to 64 of shared tile"));
  CHECK(says(run([] {
               CNNEXT_SHARED(float, tile, 64);
               tile.get(me() - 1);
             }),
             "reads elements -1"));
  CHECK(says(run([] {
               CNNEXT_SHARED(float, tile, 64);
               tile.get(me());
             }),
             "which nobody has written"));
  CHECK(says(run([] {
               CNNEXT_SHARED(float, tile, 256);
               tile.set_vec(me() * 4 - me(), Vec<float, 4>{});
             }),
             "not aligned"));
  CHECK(says(run([] { dynamic_shared<float>(0, 65); }, 64, 256), "dynamic shared memory"));
  CHECK_EQ(run([] { dynamic_shared<float>(0, 64).set(me(), 1); }, 64, 256), "");
  // The next block finds nothing of this one.
  CHECK(says(run(
                 [] {
                   CNNEXT_SHARED(float, tile, 64);
                   if (blockIdx.x == 0) tile.set(me(), 0);
                   tile.get(me());
                 },
                 64, 0, 2),
             "which nobody has written"));
}

void device_memory_bounds() {
  void* memory = nullptr;
  CHECK_EQ(cudaMalloc(&memory, 60 * sizeof(float)), cudaSuccess);
  auto* const data = static_cast<float*>(memory);
  CHECK_EQ(run([=] {
             if (me() < 60) data[me()] = 1;
           }),
           "");
  CHECK(says(run([=] { data[me() + 70] = 1; }), "behind the end of an array of 240 bytes"));
  CHECK(says(run([=] { *static_cast<volatile float*>(data - 5000 + me()); }), "touches"));
  CHECK(says(run([=] { data[-1 - me()] = 1; }), "wrote before an array of 240 bytes"));
  cudaFree(memory);
  CHECK_EQ(cudaMalloc(&memory, 63 * sizeof(float)), cudaSuccess);
  auto* const odd = static_cast<float*>(memory);
  CHECK(says(run([=] { odd[me()] = 1; }), "wrote behind the end of an array of 252 bytes"));
  cudaFree(memory);
  CHECK_EQ(cudaMalloc(&memory, 1024), cudaSuccess);
  auto* const words = static_cast<float*>(memory);
  CHECK(says(run([=] { load<4>(words + me()); }), "not aligned"));
  CHECK(says(run([=] { store(words + me(), Vec<float, 2>{}); }), "not aligned"));
  cudaFree(memory);
}

void copies_behind_the_thread() {
  void* memory = nullptr;
  CHECK_EQ(cudaMalloc(&memory, 64 * 16), cudaSuccess);
  auto* const from = static_cast<float*>(memory);
  for (int i = 0; i < 256; ++i) from[i] = static_cast<float>(i);
  enum Fault { kNone, kNoWait, kWaitsForTooFew, kNoBarrier };
  const auto copy = [=](Fault fault) {
    return run([=] {
      CNNEXT_SHARED(float, tile, 512);
      cp_async16(tile, me() * 4, from + me() * 4, true);
      cp_async_commit();
      cp_async16(tile, 256 + me() * 4, from + me() * 4, me() != 5);
      cp_async_commit();
      if (fault == kWaitsForTooFew) {
        cp_async_wait<1>();
      } else if (fault != kNoWait) {
        cp_async_wait<0>();
      }
      if (fault != kNoBarrier) block_barrier();
      const int other = 255 - me() * 4;
      const bool zero = other / 4 == 5;
      if (tile.get(256 + other) != (zero ? 0 : from[other])) cuda_host::report("wrong value");
    });
  };
  CHECK_EQ(copy(kNone), "");
  CHECK(says(copy(kNoWait), "cp.async"));
  CHECK(says(copy(kWaitsForTooFew), "cp.async"));
  CHECK(!copy(kNoBarrier).empty());
  cudaFree(memory);
}

void exchanges() {
  CHECK_EQ(run([] {
             const int lane = me() % 32;
             bool good = shuffle(lane, 5) == 5 && shuffle_xor(lane, 3) == (lane ^ 3);
             good = good && shuffle_down(lane, 4) == (lane < 28 ? lane + 4 : lane);
             good = good && shuffle_xor(int64_t{1} << lane, 16) == int64_t{1} << (lane ^ 16);
             good = good && ballot(lane % 3 == 0) == 0x49249249u;
             good = good && any_lane(lane == 7) && !all_lanes(lane == 7) && all_lanes(true);
             if (!good) cuda_host::report("wrong value");
           }),
           "");
}

void launches_that_no_device_takes() {
  CHECK(!run([] {}, 48).empty());
  CHECK(!run([] {}, 2048).empty());
  CHECK(!run([] {}, 64, 300 * 1024).empty());
  CHECK(!run([] {}, 64, 0, 0).empty());
}

void every_thread_of_every_block_runs_in_any_order() {
  for (const uint64_t order : {0, 1, 12345}) {
    cuda_host::control().order = order;
    int count = 0;
    int* const total = &count;
    CHECK_EQ(run(
                 [=] {
                   block_barrier();
                   *total += static_cast<int>(blockIdx.x * 64 + threadIdx.x);
                   block_barrier();
                 },
                 64, 0, 7),
             "");
    CHECK_EQ(count, 7 * 64 * (7 * 64 - 1) / 2);
  }
  cuda_host::control().order = 0;
}

}  // namespace

int main() {
  RUN(races);
  RUN(races_within_a_warp);
  RUN(barriers_that_not_all_reach);
  RUN(lanes_that_are_missing);
  RUN(shared_memory_bounds);
  RUN(device_memory_bounds);
  RUN(copies_behind_the_thread);
  RUN(exchanges);
  RUN(launches_that_no_device_takes);
  RUN(every_thread_of_every_block_runs_in_any_order);
  return check::result();
}
