#include "cuda_stream.h"

#include "params.h"

namespace bindings {
namespace {

thread_local std::optional<uintptr_t> named;

// The current stream of torch or CuPy on that device.
void* library_stream(Library library, int device_id) {
  static PyObject* function = nullptr;
  const py::handle current(kept_attr(&function, "cnnext._device", "current_stream"));
  const char* name = library == Library::kTorch ? "torch" : "cupy";
  return reinterpret_cast<void*>(current(name, device_id).cast<uintptr_t>());
}

py::object get_cuda_stream(Args) { return named ? py::object(py::int_(*named)) : py::none(); }
py::object set_cuda_stream(Args args) {
  if (args[0] == Py_None) {
    named.reset();
    return py::none();
  }
  const int64_t number = parse_int(args[0], "stream");
  named = reinterpret_cast<uintptr_t>(from_interface_stream(static_cast<uintptr_t>(number)));
  return py::none();
}

PyMethodDef methods[] = {
    method<0, get_cuda_stream>(
        "get_cuda_stream",
        "get_cuda_stream()\n--\n\nThe stream that this thread's calls are queued on, or "
        "None: the library's."),
    method<1, set_cuda_stream>("set_cuda_stream",
                               "set_cuda_stream(stream, /)\n--\n\nQueues this thread's calls on a "
                               "cudaStream_t; None ends it."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

const std::optional<uintptr_t>& explicit_stream() { return named; }

void wait_for_library(Library library, int device_id) {
  if (!named) return;
  check(cnnext_cuda_wait(device_id, foreign_stream(), library_stream(library, device_id)));
}

void CallContext::use_stream(const Origin& origin) {
  own_ = given_ ? *given_ : cnnext_context CNNEXT_CONTEXT_INIT;
  if (explicit_stream()) {
    own_.stream = foreign_stream();
  } else if (origin.library == Library::kTorch || origin.library == Library::kCupy) {
    own_.stream = library_stream(origin.library, origin.device_id);
  }
  given_ = &own_;
}

void add_stream(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
