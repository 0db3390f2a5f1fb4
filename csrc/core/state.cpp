#include "core/state.h"

#include <atomic>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/op_table.h"
#include "core/threads.h"

namespace cnnext {
namespace {

struct LastCall {
  const char* backend;
  const char* op_name;
  const char* kernel;
  uint64_t scratch_bytes;
};
std::atomic<int32_t> float32_precision{CNNEXT_FLOAT32_HIGHEST};

thread_local LastCall last_call = {"", "", "", 0};
thread_local char last_kernel_text[128];

constexpr const char* kOpNames[] = {
#define CNNEXT_OP_NAME(name, Desc) #name,
    CNNEXT_OPS(CNNEXT_OP_NAME)
#undef CNNEXT_OP_NAME
};
constexpr int32_t kNumOps = sizeof(kOpNames) / sizeof(kOpNames[0]);

bool has_op(const OpTable& table, const char* op) {
#define CNNEXT_OP_HAS(name, Desc) \
  if (!std::strcmp(op, #name)) return table.name != nullptr;
  CNNEXT_OPS(CNNEXT_OP_HAS)
#undef CNNEXT_OP_HAS
  return false;
}

const OpTable* table_of(int32_t backend) {
  switch (backend) {
    case CNNEXT_BACKEND_REF:
      return ref_table();
    case CNNEXT_BACKEND_CUDA:
      return cuda_table();
    default:
      return cpu_table();
  }
}

}  // namespace

int32_t float32_matmul_precision() { return float32_precision.load(std::memory_order_relaxed); }

// Pointers only: a call must stay cheap; the text is made when somebody asks.
void record_last_call(const char* backend, const char* op_name, const Exec& exec) {
  last_call = {backend, op_name, exec.kernel(), exec.scratch_bytes()};
}

}  // namespace cnnext

using namespace cnnext;

extern "C" {

const char* cnnext_version(void) { return CNNEXT_VERSION_STRING; }

// Structs may grow with a patch version and carry their size; what an enumerator or an argument means may
// change with a minor one as long as the major one is 0.
cnnext_status cnnext_check_version(int32_t major, int32_t minor, int32_t patch) {
  return guard([&] {
    const bool same = major == CNNEXT_VERSION_MAJOR && minor == CNNEXT_VERSION_MINOR;
    if (same && patch <= CNNEXT_VERSION_PATCH) return;
    throw Error(CNNEXT_RUNTIME_ERROR,
                concat("the program was compiled with cnnext ", major, ".", minor, ".", patch,
                       ", but the library that was loaded is " CNNEXT_VERSION_STRING, "; it must be ", major,
                       ".", minor, ".", patch, " or a later ", major, ".", minor, ".x"));
  });
}
const char* cnnext_build_info(void) { return CNNEXT_BUILD_INFO; }

cnnext_status cnnext_set_num_threads(int32_t n) {
  return guard([&] {
    if (n < 1 || n > 1024) fail_value("num_threads is ", n, "; it must be from 1 to 1024");
    pool_set_num_threads(n);
  });
}
int32_t cnnext_get_num_threads(void) { return pool_num_threads(); }
void cnnext_set_flush_denormal(int32_t on) { set_flush_denormal(on != 0); }
int32_t cnnext_get_flush_denormal(void) { return get_flush_denormal(); }

cnnext_status cnnext_set_float32_matmul_precision(int32_t precision) {
  return guard([&] {
    if (precision < CNNEXT_FLOAT32_HIGHEST || precision > CNNEXT_FLOAT32_MEDIUM) {
      fail_value("precision is ", precision, "; it must be 0 (highest), 1 (high) or 2 (medium)");
    }
    float32_precision.store(precision, std::memory_order_relaxed);
  });
}
int32_t cnnext_get_float32_matmul_precision(void) { return float32_matmul_precision(); }

const char* cnnext_last_kernel(void) {
  if (last_call.kernel[0]) return last_call.kernel;
  if (!last_call.backend[0]) return "";
  std::snprintf(last_kernel_text, sizeof(last_kernel_text), "%s/%s", last_call.backend, last_call.op_name);
  return last_kernel_text;
}
uint64_t cnnext_last_scratch_bytes(void) { return last_call.scratch_bytes; }

int32_t cnnext_op_supported(int32_t backend, const char* op, int32_t dtype) {
  bool known = false;
  for (const char* name : kOpNames) known = known || (op && !std::strcmp(op, name));
  if (!known) return -1;
  const OpTable* table = table_of(backend);
  return table && has_op(*table, op) && table->takes_dtype(op, dtype);
}

const char* cnnext_op_name(int32_t index) {
  return index >= 0 && index < kNumOps ? kOpNames[index] : nullptr;
}

}  // extern "C"
