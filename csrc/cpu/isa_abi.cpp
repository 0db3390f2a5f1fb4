// The ABI's questions about the instruction set.
#include "core/error.h"
#include "cpu/cpuid.h"

using namespace cnnext;

extern "C" {

cnnext_status cnnext_init(void) {
  return guard([] {
    if (*isa_error()) fail_value(isa_error());
  });
}
const char* cnnext_isa(void) { return isa_name(active_isa()); }
const char* cnnext_isa_available(void) { return isa_available(); }

}  // extern "C"
