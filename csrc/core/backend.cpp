// The CUDA library is a second shared object, opened at run time through one exported symbol, so that a
// machine without a driver can import everything and a CPU build carries none of it.
#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/host_services.h"
#include "core/memory.h"
#include "core/state.h"

namespace cnnext {
namespace {

const HostServices kServices = {
    sizeof(HostServices),
    CNNEXT_VERSION_STRING,
    [](cnnext_status status, const char* message) { throw Error(status, message); },
    [](Exec& exec, size_t bytes) { return exec.scratch(bytes); },
    [](const Exec& exec) { return exec.stream(); },
    [](Exec& exec, const char* kernel) { exec.ran(kernel); },
    sizeof(OpTable),
    float32_matmul_precision,
    [](const Exec& exec) { return exec.planning(); },
    [](Exec& exec, int64_t blocks) { exec.shares(blocks); },
    [](Exec& exec, const char* by) { exec.chose(by); },
    autotune_mode,
    find_tuned,
    keep_tuned,
};

// What CNNEXT_CUDA_LIBRARY names, else the file beside libcnnext.so; "" and a reason where there is none.
std::string library_path(std::string* reason) {
  const char* named = std::getenv("CNNEXT_CUDA_LIBRARY");
  if (named && *named) return named;
#if CNNEXT_WITH_CUDA
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&cnnext_version), &self)) {
    std::string path(self.dli_fname);
    path.erase(path.rfind('/') + 1);
    return path + "libcnnext_cuda.so";
  }
  *reason = "the folder of libcnnext.so is not known";
#else
  *reason = "built without CUDA (CNNEXT_CUDA=OFF or nvcc was not found)";
#endif
  return "";
}

struct CudaBackend {
  const OpTable* table = nullptr;
  std::string reason;

  CudaBackend() {
    const std::string path = library_path(&reason);
    if (path.empty()) return;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      reason = concat(path, " did not load: ", dlerror());
      return;
    }
    auto entry = reinterpret_cast<BackendEntry>(dlsym(library, "cnnext_cuda_backend"));
    const char* why = "it has no cnnext_cuda_backend";
    const OpTable* offered = entry ? entry(&kServices, &why) : nullptr;
    if (offered && (!offered->device || offered->device->size != sizeof(DeviceTable))) {
      offered = nullptr;
      why = "it is of another build than libcnnext.so";
    }
    table = offered;
    if (table) also_empty(table->device->trim);
    if (!table) reason = concat(path, ": ", why);
  }
};

const CudaBackend& cuda_backend() {
  static const CudaBackend* backend =
      new CudaBackend();  // never destroyed: kernels may outlive exit handlers
  return *backend;
}

}  // namespace

const OpTable* cuda_table() { return cuda_backend().table; }

}  // namespace cnnext

extern "C" int32_t cnnext_cuda_available(void) { return cnnext::cuda_table() != nullptr; }
extern "C" const char* cnnext_cuda_reason(void) { return cnnext::cuda_backend().reason.c_str(); }
