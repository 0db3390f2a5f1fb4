// Process-wide and per-thread state behind the ABI's query functions.
#pragma once

#include "core/exec.h"

namespace cnnext {

void record_last_call(const char* backend, const char* op_name, const Exec& exec);

}  // namespace cnnext
