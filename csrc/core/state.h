// Process-wide and per-thread state behind the ABI's query functions.
#pragma once

#include "core/exec.h"

namespace cnnext {

// cnnext_float32_precision: what a float32 product may be rounded to where there are kernels for it.
int32_t float32_matmul_precision();

void record_last_call(const char* backend, const char* op_name, const Exec& exec);

}  // namespace cnnext
