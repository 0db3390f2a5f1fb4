// Shared memory of the running block, with what each byte has seen.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mbarrier.h"

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

// The asynchronous proxy, by addresses in shared memory. TMA has been told to write there:
void expect_async(size_t begin, size_t bytes, const Phase& phase);
// its bytes are there;
void write_async(size_t begin, const void* from, size_t bytes);
// a warp group, whose first thread is this, reads 16 bytes by wgmma.
void read_async(size_t begin, int first_thread, void* to);

// What wgmma may still be reading, until each of the group's warps has waited for it: nobody may write there.
struct AsyncRead {
  size_t begin, end;
  uint32_t warps;  // of the block, that have not waited yet
};
AsyncRead* begin_async_read(size_t begin, size_t end, uint32_t warps);

}  // namespace cuda_host
