// OpsUkernelTable::drop_codes. Plain loops: the compiler brings them into the file's vectors.
#pragma once

#include <stdint.h>

#include "cnnext/cnnext.h"

namespace cnnext {
namespace {

template <class Code>
inline void drop_codes_as(const float* __restrict__ y, int64_t count, void* codes) {
  Code* __restrict__ code = static_cast<Code*>(codes);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t dropped = -static_cast<int32_t>(y[i] <= 0.f);
    code[i] = static_cast<Code>(code[i] | dropped);
  }
}

void drop_codes(const float* y, int64_t count, int32_t code_dtype, void* codes) {
  if (code_dtype == CNNEXT_UINT8) return drop_codes_as<uint8_t>(y, count, codes);
  if (code_dtype == CNNEXT_UINT16) return drop_codes_as<uint16_t>(y, count, codes);
  drop_codes_as<int32_t>(y, count, codes);
}

}  // namespace
}  // namespace cnnext
