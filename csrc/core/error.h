// Errors inside the library are exceptions; guard() turns them into a status at the C ABI. Nothing below a
// descriptor throws except for memory, and worker tasks never throw.
#pragma once

#include <cstdint>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

#include "cnnext/cnnext.h"

namespace cnnext {

struct Error : std::runtime_error {
  Error(cnnext_status status_, const std::string& message) : std::runtime_error(message), status(status_) {}
  cnnext_status status;
};

// Its message is to begin with the operation.
struct ErrorOfCall : Error {
  using Error::Error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// A message names the argument, its value and the rule: "stride[0] is 0; it must be at least 1".
template <class... Parts>
[[noreturn]] void fail_value(const Parts&... parts) {
  throw Error(CNNEXT_INVALID_VALUE, concat(parts...));
}
template <class... Parts>
[[noreturn]] void fail_type(const Parts&... parts) {
  throw Error(CNNEXT_INVALID_TYPE, concat(parts...));
}
template <class... Parts>
[[noreturn]] void fail_not_implemented(const Parts&... parts) {
  throw Error(CNNEXT_NOT_IMPLEMENTED, concat(parts...));
}

void set_last_error(const char* message) noexcept;
// "conv2d: " and the message, where function is cnnext_conv2d.
void set_last_error_of(const char* function, const char* message) noexcept;

// Runs body; every exception ends here. function: the ABI's, which calls it.
template <class Body>
cnnext_status guard(Body&& body, const char* function = __builtin_FUNCTION()) noexcept {
  try {
    body();
    return CNNEXT_OK;
  } catch (const ErrorOfCall& e) {
    set_last_error_of(function, e.what());
    return e.status;
  } catch (const Error& e) {
    set_last_error(e.what());
    return e.status;
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return CNNEXT_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    set_last_error(e.what());
    return CNNEXT_RUNTIME_ERROR;
  } catch (...) {
    set_last_error("unknown error");
    return CNNEXT_RUNTIME_ERROR;
  }
}

// a * b and a + b, or a ValueError that names what overflowed.
int64_t checked_mul(int64_t a, int64_t b, const char* what);
int64_t checked_add(int64_t a, int64_t b, const char* what);

}  // namespace cnnext
