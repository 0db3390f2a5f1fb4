// What the four kinds of argmax mean, in one place: a stored code, the window (p, q) that it belongs to, and
// the position h * W + w in the plane that it names.
#pragma once

#include <cstdint>

#include "core/desc.h"

namespace cnnext {

constexpr int64_t kNoTap = -1;     // the window had no valid tap
constexpr int64_t kBadIndex = -2;  // names no element of the plane

// A code as stored, and kNoTap for all ones.
inline int64_t load_index(const void* data, int32_t dtype, int64_t at) {
  switch (dtype) {
    case CNNEXT_UINT8: {
      const uint8_t code = static_cast<const uint8_t*>(data)[at];
      return code == UINT8_MAX ? kNoTap : code;
    }
    case CNNEXT_UINT16: {
      const uint16_t code = static_cast<const uint16_t*>(data)[at];
      return code == UINT16_MAX ? kNoTap : code;
    }
    case CNNEXT_INT32:
      return static_cast<const int32_t*>(data)[at];
    default:
      return static_cast<const int64_t*>(data)[at];
  }
}

inline void store_index(void* data, int32_t dtype, int64_t at, int64_t code) {
  switch (dtype) {
    case CNNEXT_UINT8:
      static_cast<uint8_t*>(data)[at] = static_cast<uint8_t>(code);
      return;
    case CNNEXT_UINT16:
      static_cast<uint16_t*>(data)[at] = static_cast<uint16_t>(code);
      return;
    case CNNEXT_INT32:
      static_cast<int32_t*>(data)[at] = static_cast<int32_t>(code);
      return;
    default:
      static_cast<int64_t*>(data)[at] = code;
  }
}

struct PoolPosition {
  int64_t n, c, p, q;
};

// The plane position that a loaded code names, kNoTap or kBadIndex. Any code is safe to pass.
int64_t plane_from_code(const Pool2dDesc& desc, int32_t kind, int64_t code, const PoolPosition& at);
// The code of a plane position (or kNoTap); kBadIndex where kind is the window and the position is no tap of
// it.
int64_t code_from_plane(const Pool2dDesc& desc, int32_t kind, int64_t plane, const PoolPosition& at);

// Finds the first code of desc.indices, in row-major order, that names no element (or, for target_kind
// window, no tap) and throws a ValueError that says so. For ops that found one somewhere, on any thread.
[[noreturn]] void fail_bad_index(const Pool2dDesc& desc, int32_t target_kind, const char* name = "indices");

}  // namespace cnnext
