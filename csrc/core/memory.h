// The pooled allocator: 64-byte-aligned blocks in bounded free lists, so that a fresh output does not
// page-fault anew.
#pragma once

#include <cstddef>

namespace cnnext {

void* pool_alloc(size_t bytes) noexcept;  // nullptr when memory is out; bytes 0 gives a valid block
void pool_free(void* block) noexcept;     // any thread; nullptr is ignored

// cnnext_empty_cache() calls it too; set once, by who has another pool.
void also_empty(void (*pool)());

// Throws Error where an environment variable that the allocator reads (CNNEXT_CACHE_MB) holds no valid value;
// the allocator itself then works with its default.
void check_memory_settings();

}  // namespace cnnext
