#include "python.h"

#include <cstdarg>

namespace bindings {

void raise(PyObject* type, const char* format, ...) {
  va_list args;
  va_start(args, format);
  PyErr_FormatV(type, format, args);
  va_end(args);
  throw py::error_already_set();
}

void check(cnnext_status status) {
  if (status == CNNEXT_OK) return;
  PyObject* type = status == CNNEXT_INVALID_VALUE     ? PyExc_ValueError
                   : status == CNNEXT_INVALID_TYPE    ? PyExc_TypeError
                   : status == CNNEXT_NOT_IMPLEMENTED ? PyExc_NotImplementedError
                   : status == CNNEXT_OUT_OF_MEMORY   ? PyExc_MemoryError
                                                      : PyExc_RuntimeError;
  PyErr_SetString(type, cnnext_last_error());
  throw py::error_already_set();
}

py::str type_name(PyObject* object) {
  py::handle type(reinterpret_cast<PyObject*>(Py_TYPE(object)));
  py::str name(type.attr("__qualname__"));
  py::object module = py::getattr(type, "__module__", py::none());
  if (!py::isinstance<py::str>(module) || py::str(module).equal(py::str("builtins"))) return name;
  return py::str("{}.{}").format(module, name);
}

PyObject* kept_attr(PyObject** kept, const char* module, const char* name) {
  if (!*kept) *kept = py::object(py::module_::import(module).attr(name)).release().ptr();
  return *kept;
}

}  // namespace bindings
