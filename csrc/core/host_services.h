// What libcnnext.so hands to a backend in another shared library, so that the backend links to nothing of
// ours.
#pragma once

#include "core/autotune.h"
#include "core/op_table.h"

namespace cnnext {

struct HostServices {
  size_t size;
  const char* version;  // cnnext_version(): the two libraries must come from one build
  void (*fail)(cnnext_status status,
               const char* message);  // throws in libcnnext.so; call it from the calling thread only
  void* (*scratch)(Exec& exec, size_t bytes);
  void* (*stream)(const Exec& exec);
  void (*ran)(Exec& exec, const char* kernel);
  size_t table_bytes;                          // sizeof(OpTable) here
  int32_t (*float32_matmul_precision)();       // cnnext_float32_precision
  bool (*planning)(const Exec& exec);          // then nothing is launched, and scratch is only counted
  void (*shares)(Exec& exec, int64_t blocks);  // for the plan
  void (*chose)(Exec& exec, const char* by);   // the same
  cnnext_autotune (*autotune_mode)();
  int32_t (*find_tuned)(const TuneKey& key);  // -1: nothing is kept
  void (*keep_tuned)(const TuneKey& key, int32_t variant);
};

// The one symbol such a library exports, "cnnext_cuda_backend": its table, or nullptr and a reason that stays
// valid.
using BackendEntry = const OpTable* (*)(const HostServices* services, const char** reason);

}  // namespace cnnext
