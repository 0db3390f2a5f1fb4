// The reference backend: plain loops over every float type that accumulate in double. It is the oracle of
// every test and the last table that a CPU call reaches, so it takes everything that a descriptor can say.
#pragma once

#include "core/half.h"
#include "core/op_table.h"

namespace cnnext {

#define CNNEXT_DECLARE_REF(name, Desc) Ran ref_##name(const Desc& desc, Exec& exec);
CNNEXT_OPS(CNNEXT_DECLARE_REF)
#undef CNNEXT_DECLARE_REF

// Calls body with a value of the C++ type of a float dtype: dispatch_float(d, [&](auto t) { using T =
// decltype(t); }).
template <class Body>
void dispatch_float(int32_t dtype, const Body& body) {
  if (dtype == CNNEXT_FLOAT64) {
    body(double{});
  } else {
    body(float{});
  }
}

// The same for operations that take the 16-bit types too.
template <class Body>
void dispatch_any_float(int32_t dtype, const Body& body) {
  if (dtype == CNNEXT_FLOAT16) {
    body(Float16{});
  } else if (dtype == CNNEXT_BFLOAT16) {
    body(BFloat16{});
  } else {
    dispatch_float(dtype, body);
  }
}

}  // namespace cnnext
