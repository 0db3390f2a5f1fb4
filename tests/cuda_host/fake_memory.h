// The fake device's memory and last error.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace cuda_host {

// Each block ends (but for the padding to 16 bytes) at a page that nobody may touch, and one lies before it.
// Fresh memory is full of NaN, and so are the guards between its ends and the pages.
std::string describe_address(const void* address);  // of an access that met such a page
std::string describe_damage();                      // guards that were overwritten; "" if none
size_t blocks_in_use();
bool owns(const void* address);  // within a block

cudaError_t note_error(cudaError_t error);  // remembers it for cudaGetLastError, and gives it back

}  // namespace cuda_host
