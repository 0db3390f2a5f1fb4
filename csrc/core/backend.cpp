// The CUDA library is a second shared object, opened at run time through one exported symbol, so that a
// machine without a driver can import everything and a CPU build carries none of it.
#include <dlfcn.h>

#include <string>

#include "core/error.h"
#include "core/host_services.h"

namespace cnnext {
namespace {

[[maybe_unused]] const HostServices kServices = {
    sizeof(HostServices),
    CNNEXT_VERSION_STRING,
    [](cnnext_status status, const char* message) { throw Error(status, message); },
    [](Exec& exec, size_t bytes) { return exec.scratch(bytes); },
    [](const Exec& exec) { return exec.stream(); },
    [](Exec& exec, const char* kernel) { exec.ran(kernel); },
};

struct CudaBackend {
  const OpTable* table = nullptr;
  std::string reason;

  CudaBackend() {
#if CNNEXT_WITH_CUDA
    Dl_info self;
    if (!dladdr(reinterpret_cast<void*>(&cnnext_version), &self)) {
      reason = "the folder of libcnnext.so is not known";
      return;
    }
    std::string path(self.dli_fname);
    path.erase(path.rfind('/') + 1);
    path += "libcnnext_cuda.so";
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      reason = std::string("libcnnext_cuda.so did not load: ") + dlerror();
      return;
    }
    auto entry = reinterpret_cast<BackendEntry>(dlsym(library, "cnnext_cuda_backend"));
    const char* why = "libcnnext_cuda.so has no cnnext_cuda_backend";
    if (entry) table = entry(&kServices, &why);
    if (!table) reason = why;
#else
    reason = "built without CUDA (CNNEXT_CUDA=OFF or nvcc was not found)";
#endif
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
