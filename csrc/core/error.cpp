#include "core/error.h"

#include <cstdio>
#include <cstring>

namespace cnnext {
namespace {

// A plain array: nothing to construct or destroy, so it is safe on any thread at any time.
thread_local char last_error[1024] = "";

}  // namespace

void set_last_error(const char* message) noexcept {
  std::strncpy(last_error, message, sizeof(last_error) - 1);
  last_error[sizeof(last_error) - 1] = '\0';
}

void set_last_error_of(const char* function, const char* message) noexcept {
  constexpr char kPrefix[] = "cnnext_";
  constexpr size_t kLength = sizeof(kPrefix) - 1;
  const char* const op = std::strncmp(function, kPrefix, kLength) ? function : function + kLength;
  std::snprintf(last_error, sizeof(last_error), "%s: %s", op, message);
}

int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) fail_value(what, " overflows 64 bits: ", a, " * ", b);
  return result;
}

int64_t checked_add(int64_t a, int64_t b, const char* what) {
  int64_t result;
  if (__builtin_add_overflow(a, b, &result)) fail_value(what, " overflows 64 bits: ", a, " + ", b);
  return result;
}

}  // namespace cnnext

extern "C" const char* cnnext_last_error(void) { return cnnext::last_error; }
