// The ABI's questions about the instruction set, and whether the environment's settings are sound.
#include "core/autotune.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/threads.h"
#include "cpu/cpuid.h"

using namespace cnnext;

extern "C" {

cnnext_status cnnext_init(void) {
  return guard([] {
    if (*isa_error()) fail_value(isa_error());
    check_thread_settings();
    check_memory_settings();
    check_autotune_setting();
  });
}
const char* cnnext_isa(void) { return isa_name(active_isa()); }
const char* cnnext_isa_available(void) { return isa_available(); }

}  // extern "C"
