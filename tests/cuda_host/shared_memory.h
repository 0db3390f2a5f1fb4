// Shared memory of the running block, with what each byte has seen.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_host {

struct Region {
  const char* name;
  size_t begin, bytes;  // in the block's shared memory
};

void start_shared_memory(size_t dynamic_bytes);  // a new block: nothing is written yet
// The array of a declaration, the same for all threads of the block.
Region static_region(const void* declaration, const char* name, size_t bytes);
Region dynamic_region(size_t offset, size_t bytes);

// `count` elements of `size` bytes from element `at`; each reports what is wrong.
void read_shared(const Region& region, int64_t at, size_t size, size_t count, void* to);
void write_shared(const Region& region, int64_t at, size_t size, size_t count, const void* from);
// cp.async has been told to write there, and until its wait nobody may look.
void expect_shared(const Region& region, int64_t at, size_t size, size_t count);

}  // namespace cuda_host
