// What runs, with how many threads and how much memory; and the forced backend that tests use.
#include <climits>

#include "params.h"

namespace bindings {
namespace {

thread_local cnnext_context forced = CNNEXT_CONTEXT_INIT;

constexpr const char* kBackendNames[] = {"auto", "ref", "cpu", "cuda"};

py::object text(const char* value) { return py::str(value ? value : ""); }

py::object version(Args) { return text(cnnext_version()); }
py::object build_info(Args) { return text(cnnext_build_info()); }
py::object isa(Args) { return text(cnnext_isa()); }
py::object isa_available(Args) { return py::str(cnnext_isa_available()).attr("split")(","); }
py::object cuda_available(Args) { return py::bool_(cnnext_cuda_available() != 0); }
py::object cuda_reason(Args) { return text(cnnext_cuda_reason()); }

py::object cuda_devices(Args) {
  py::list names;
  for (int32_t i = 0; i < cnnext_cuda_device_count(); ++i) {
    char name[300];
    check(cnnext_cuda_device_name(i, name, sizeof(name)));
    names.append(name);
  }
  return std::move(names);
}

py::object get_num_threads(Args) { return py::int_(cnnext_get_num_threads()); }
py::object set_num_threads(Args args) {
  int64_t count = parse_int(args[0], "n");
  if (count < INT_MIN || count > INT_MAX) raise(PyExc_ValueError, "n is %R; it is out of range", args[0]);
  check(cnnext_set_num_threads(static_cast<int32_t>(count)));
  return py::none();
}

py::object get_flush_denormal(Args) { return py::bool_(cnnext_get_flush_denormal() != 0); }
py::object set_flush_denormal(Args args) {
  cnnext_set_flush_denormal(parse_bool(args[0], "mode"));
  return py::none();
}

py::object get_float32_matmul_precision(Args) {
  return py::str(precision_name(cnnext_get_float32_matmul_precision()));
}
py::object set_float32_matmul_precision(Args args) {
  check(cnnext_set_float32_matmul_precision(parse_precision(args[0])));
  return py::none();
}

py::object empty_cache(Args) {
  cnnext_empty_cache();
  return py::none();
}

py::object memory_stats(Args) {
  cnnext_memory_stats stats{};
  stats.size = sizeof(stats);
  check(cnnext_get_memory_stats(&stats));
  py::dict result;
  result["in_use_bytes"] = stats.in_use_bytes;
  result["peak_in_use_bytes"] = stats.peak_in_use_bytes;
  result["cached_bytes"] = stats.cached_bytes;
  result["cache_limit_bytes"] = stats.cache_limit_bytes;
  result["allocations"] = stats.allocations;
  result["cache_hits"] = stats.cache_hits;
  return std::move(result);
}

py::object last_kernel(Args) { return text(cnnext_last_kernel()); }
py::object last_scratch_bytes(Args) { return py::int_(cnnext_last_scratch_bytes()); }

py::object op_names(Args) {
  py::list names;
  for (int32_t i = 0; const char* name = cnnext_op_name(i); ++i) names.append(name);
  return std::move(names);
}

// backend, op, dtype
py::object op_supported(Args args) {
  int32_t backend = parse_backend(args[0]);
  const char* op = PyUnicode_Check(args[1]) ? PyUnicode_AsUTF8(args[1]) : nullptr;
  if (!op) raise(PyExc_TypeError, "op must be a string, got %S", type_name(args[1]).ptr());
  int32_t answer = cnnext_op_supported(backend, op, parse_dtype(args[2]));
  if (answer < 0) raise(PyExc_ValueError, "op is %R; op_names() lists what there is", args[1]);
  return py::bool_(answer != 0);
}

py::object get_backend(Args) { return text(kBackendNames[forced.backend]); }
py::object set_backend(Args args) {
  forced.backend = parse_backend(args[0]);
  return py::none();
}

PyMethodDef methods[] = {
    method<0, version>("version", "version()\n--\n\nThe library's version."),
    method<0, build_info>("build_info", "build_info()\n--\n\nCompiler, flags and options, in one line."),
    method<0, isa>("isa", "isa()\n--\n\nThe CPU instruction set in use."),
    method<0, isa_available>("isa_available",
                             "isa_available()\n--\n\nInstruction sets that run here, best last."),
    method<0, cuda_available>("cuda_available", "cuda_available()\n--\n\nWhether CUDA arrays are taken."),
    method<0, cuda_reason>("cuda_reason", "cuda_reason()\n--\n\nWhy CUDA is off; empty when it is on."),
    method<0, cuda_devices>("cuda_devices", "cuda_devices()\n--\n\nThe CUDA devices' names, by number."),
    method<0, get_num_threads>("get_num_threads", "get_num_threads()\n--\n\nThe size of the thread pool."),
    method<1, set_num_threads>("set_num_threads",
                               "set_num_threads(n, /)\n--\n\nSets the size of the thread pool."),
    method<0, get_flush_denormal>("get_flush_denormal",
                                  "get_flush_denormal()\n--\n\nWhether denormals are flushed."),
    method<1, set_flush_denormal>(
        "set_flush_denormal", "set_flush_denormal(mode, /)\n--\n\nWhether denormals are flushed to zero."),
    method<0, get_float32_matmul_precision>("get_float32_matmul_precision",
                                            "get_float32_matmul_precision()\n--\n\nWhat "
                                            "set_float32_matmul_precision() said: 'highest' at first."),
    method<1, set_float32_matmul_precision>(
        "set_float32_matmul_precision",
        "set_float32_matmul_precision(precision, /)\n--\n\n"
        "What float32 convolutions and dense layers on CUDA may round their factors to, for the whole "
        "process\n(torch.set_float32_matmul_precision). Sums are float32 in every case.\n\n"
        "'highest', the default: nothing, float32 times float32. 'high': TensorFloat-32, 10 bits of "
        "mantissa.\n"
        "'medium': bfloat16, 7 bits. It permits and does not order: as long as there are no tensor-core "
        "kernels,\nfloat32 is multiplied under all three. The CPU computes in float32 whatever it says.\n\n"
        "ValueError for another name."),
    method<0, empty_cache>("empty_cache", "empty_cache()\n--\n\nGives cached memory back to the system."),
    method<0, memory_stats>("memory_stats", "memory_stats()\n--\n\nThe allocator's counters."),
    method<0, last_kernel>("last_kernel",
                           "last_kernel()\n--\n\nThe implementation of this thread's last call."),
    method<0, last_scratch_bytes>("last_scratch_bytes",
                                  "last_scratch_bytes()\n--\n\nThe scratch of this thread's last call."),
    method<0, op_names>("op_names", "op_names()\n--\n\nThe names of the op table."),
    method<3, op_supported>(
        "op_supported",
        "op_supported(backend, op, dtype, /)\n--\n\nWhether the backend has the op of its own."),
    method<0, get_backend>("get_backend",
                           "get_backend()\n--\n\nThe backend that this thread's calls are forced to."),
    method<1, set_backend>(
        "set_backend",
        "set_backend(backend, /)\n--\n\nForces this thread's calls to a backend; 'auto' ends it."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

const cnnext_context* context() { return forced.backend == CNNEXT_BACKEND_AUTO ? nullptr : &forced; }

void add_info(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
