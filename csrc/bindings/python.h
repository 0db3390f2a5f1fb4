// How a Python call reaches a C++ body: thin METH_FASTCALL functions (positional only; the Python side gives
// them their names and defaults), because pybind11's dispatcher alone costs more than a small convolution.
#pragma once

#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>

#include "cnnext/cnnext.h"

namespace bindings {

namespace py = pybind11;

using Args = PyObject* const*;

// Sets a Python error (PyErr_Format's directives) and throws.
[[noreturn]] void raise(PyObject* type, const char* format, ...);

// Turns a status into the exception that it stands for, with cnnext_last_error() as the message.
void check(cnnext_status status);

// The type's name as Python code would write it: "list", "numpy.ndarray".
py::str type_name(PyObject* object);

// Attribute `name` of a module, which is imported; kept in *kept for good.
PyObject* kept_attr(PyObject** kept, const char* module, const char* name);

// A ValueError whose message is to begin with the function.
struct ErrorOfCall : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// As its row of a method table says.
template <int Count, py::object (*Body)(Args)>
inline const char* function_name = "";

template <int Count, py::object (*Body)(Args)>
PyObject* fastcall(PyObject*, PyObject* const* args, Py_ssize_t given) noexcept {
  if (given != Count) {
    PyErr_Format(PyExc_TypeError, "expected %d positional arguments, got %zd", Count, given);
    return nullptr;
  }
  try {
    return Body(args).release().ptr();
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const ErrorOfCall& e) {
    PyErr_Format(PyExc_ValueError, "%s: %s", function_name<Count, Body>, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
  return nullptr;
}

// A row of a method table. `doc` opens with the signature that inspect.signature() reads:
// "name(a, b, /)\n--\n\nWhat it does."
template <int Count, py::object (*Body)(Args)>
PyMethodDef method(const char* name, const char* doc) {
  function_name<Count, Body> = name;
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&fastcall<Count, Body>)),
          METH_FASTCALL, doc};
}

// The context of this thread's calls: NULL (defaults) unless a backend is forced.
const cnnext_context* context();

// Each family adds its functions to the module.
void add_conv(py::module_& m);
void add_pool(py::module_& m);
void add_conv_pool(py::module_& m);
void add_conv_norm(py::module_& m);
void add_elementwise(py::module_& m);
void add_norm(py::module_& m);
void add_optim(py::module_& m);
void add_augment(py::module_& m);
void add_info(py::module_& m);
void add_plan(py::module_& m);
void add_params(py::module_& m);
void add_stream(py::module_& m);
void add_device_array(py::module_& m);

}  // namespace bindings
