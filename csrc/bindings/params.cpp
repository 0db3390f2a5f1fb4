#include "params.h"

#include <cstring>
#include <string>

namespace bindings {
namespace {

struct Name {
  const char* text;
  int32_t value;
};

// bool counts as an int in Python; as a size it is a mistake.
bool is_bool(PyObject* object) {
  if (PyBool_Check(object)) return true;
  const char* type = Py_TYPE(object)->tp_name;
  return std::strcmp(type, "numpy.bool") == 0 || std::strcmp(type, "numpy.bool_") == 0;
}

// Reads an int without judging; false (and no Python error) where it is none.
bool read_int(PyObject* object, const char* name, int64_t* value) {
  if (PyLong_CheckExact(object)) {
    int overflow = 0;
    *value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow) raise(PyExc_ValueError, "%s is %R; it must fit into 64 bits", name, object);
    return true;
  }
  if (is_bool(object) || !PyIndex_Check(object)) return false;
  py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(object));
  if (!index) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();  // an array of more than one element has __index__, too
    return false;
  }
  return read_int(index.ptr(), name, value);
}

bool is_sequence(PyObject* object) {
  return PySequence_Check(object) && !PyUnicode_Check(object) && !PyBytes_Check(object) &&
         !PyDict_Check(object);
}

// The sequence's items as a tuple or list; `what` says what was expected.
py::object items_of(PyObject* object, const char* name, const char* what) {
  py::object items;
  if (is_sequence(object)) items = py::reinterpret_steal<py::object>(PySequence_Fast(object, ""));
  if (!items) {
    PyErr_Clear();
    raise(PyExc_TypeError, "%s must be %s, got %S", name, what, type_name(object).ptr());
  }
  return items;
}

int64_t int_item(PyObject* items, Py_ssize_t i, PyObject* whole, const char* name, const char* what) {
  int64_t value = 0;
  PyObject* item = PySequence_Fast_GET_ITEM(items, i);
  if (!read_int(item, name, &value)) raise(PyExc_TypeError, "%s must be %s, got %R", name, what, whole);
  return value;
}

constexpr const char* kPair = "an int or a pair of ints";
constexpr const char* kPadding = "an int, (h, w), ((top, bottom), (left, right)), 'same' or 'valid'";

void read_pair_items(PyObject* items, PyObject* whole, const char* name, const char* what, int64_t* pair) {
  if (PySequence_Fast_GET_SIZE(items) == 1) {  // torch takes (3,) for 3
    pair[0] = pair[1] = int_item(items, 0, whole, name, what);
    return;
  }
  if (PySequence_Fast_GET_SIZE(items) != 2) {
    raise(PyExc_ValueError, "%s has %zd values; it must be %s", name, PySequence_Fast_GET_SIZE(items), what);
  }
  for (int i = 0; i < 2; ++i) pair[i] = int_item(items, i, whole, name, what);
}

template <size_t Count>
int32_t find_name(PyObject* object, const char* name, const Name (&names)[Count]) {
  if (!PyUnicode_Check(object))
    raise(PyExc_TypeError, "%s must be a string, got %S", name, type_name(object).ptr());
  for (const Name& candidate : names) {
    if (PyUnicode_CompareWithASCIIString(object, candidate.text) == 0) return candidate.value;
  }
  std::string known;
  for (const Name& candidate : names)
    known += std::string(known.empty() ? "'" : ", '") + candidate.text + "'";
  raise(PyExc_ValueError, "%s is %R; it must be one of %s", name, object, known.c_str());
}

constexpr Name kActivations[] = {{"relu", CNNEXT_ACT_RELU},
                                 {"relu6", CNNEXT_ACT_RELU6},
                                 {"leaky_relu", CNNEXT_ACT_LEAKY_RELU},
                                 {"gelu", CNNEXT_ACT_GELU},
                                 {"gelu_tanh", CNNEXT_ACT_GELU_TANH},
                                 {"silu", CNNEXT_ACT_SILU},
                                 {"sigmoid", CNNEXT_ACT_SIGMOID},
                                 {"tanh", CNNEXT_ACT_TANH}};
constexpr Name kNormActivations[] = {{"relu", CNNEXT_ACT_RELU}, {"relu6", CNNEXT_ACT_RELU6}};
constexpr Name kAlgorithms[] = {{"auto", CNNEXT_ALGO_AUTO}, {"direct", CNNEXT_ALGO_DIRECT}};
constexpr Name kAutotunes[] = {
    {"off", CNNEXT_AUTOTUNE_OFF}, {"same_bits", CNNEXT_AUTOTUNE_SAME_BITS}, {"any", CNNEXT_AUTOTUNE_ANY}};
constexpr Name kIndexKinds[] = {{"plane", CNNEXT_INDEX_PLANE},
                                {"window", CNNEXT_INDEX_WINDOW},
                                {"onnx", CNNEXT_INDEX_ONNX},
                                {"onnx_column_major", CNNEXT_INDEX_ONNX_COLUMN_MAJOR}};
constexpr Name kReductions[] = {
    {"none", CNNEXT_REDUCTION_NONE}, {"mean", CNNEXT_REDUCTION_MEAN}, {"sum", CNNEXT_REDUCTION_SUM}};
constexpr Name kBackends[] = {{"auto", CNNEXT_BACKEND_AUTO},
                              {"ref", CNNEXT_BACKEND_REF},
                              {"cpu", CNNEXT_BACKEND_CPU},
                              {"cuda", CNNEXT_BACKEND_CUDA}};
constexpr Name kDtypeNames[] = {{"float32", CNNEXT_FLOAT32}, {"float64", CNNEXT_FLOAT64},
                                {"float16", CNNEXT_FLOAT16}, {"bfloat16", CNNEXT_BFLOAT16},
                                {"uint8", CNNEXT_UINT8},     {"int8", CNNEXT_INT8},
                                {"uint16", CNNEXT_UINT16},   {"int16", CNNEXT_INT16},
                                {"int32", CNNEXT_INT32},     {"int64", CNNEXT_INT64}};

}  // namespace

const char* dtype_name(int32_t dtype) {
  for (const Name& name : kDtypeNames) {
    if (name.value == dtype) return name.text;
  }
  return "unknown";
}

int64_t parse_int(PyObject* object, const char* name) {
  int64_t value = 0;
  if (!read_int(object, name, &value)) {
    raise(PyExc_TypeError, "%s must be an int, got %S", name, type_name(object).ptr());
  }
  return value;
}

double parse_double(PyObject* object, const char* name) {
  if (PyFloat_CheckExact(object)) return PyFloat_AS_DOUBLE(object);
  double value = is_bool(object) || PyUnicode_Check(object) ? -1.0 : PyFloat_AsDouble(object);
  if (is_bool(object) || PyUnicode_Check(object) || (value == -1.0 && PyErr_Occurred())) {
    PyErr_Clear();
    raise(PyExc_TypeError, "%s must be a number, got %S", name, type_name(object).ptr());
  }
  return value;
}

bool parse_bool(PyObject* object, const char* name) {
  if (object == Py_True) return true;
  if (object == Py_False) return false;
  if (!is_bool(object)) raise(PyExc_TypeError, "%s must be a bool, got %S", name, type_name(object).ptr());
  return PyObject_IsTrue(object) == 1;
}

void parse_pair(PyObject* object, const char* name, int64_t* pair) {
  if (read_int(object, name, pair)) {
    pair[1] = pair[0];
    return;
  }
  py::object items = items_of(object, name, kPair);
  read_pair_items(items.ptr(), object, name, kPair, pair);
}

void parse_padding(PyObject* object, int64_t* padding, int32_t* mode, int32_t* four_sided) {
  *mode = CNNEXT_PAD_EXPLICIT;
  if (four_sided) *four_sided = 0;
  int64_t all = 0;
  if (read_int(object, "padding", &all)) {
    for (int i = 0; i < 4; ++i) padding[i] = all;
    return;
  }
  if (PyUnicode_Check(object)) {
    static constexpr Name kModes[] = {{"same", CNNEXT_PAD_SAME}, {"valid", CNNEXT_PAD_VALID}};
    *mode = find_name(object, "padding", kModes);
    return;
  }
  py::object items = items_of(object, "padding", kPadding);
  bool nested = PySequence_Fast_GET_SIZE(items.ptr()) == 2 &&
                is_sequence(PySequence_Fast_GET_ITEM(items.ptr(), 0)) &&
                is_sequence(PySequence_Fast_GET_ITEM(items.ptr(), 1));
  if (!nested) {
    int64_t pair[2];
    read_pair_items(items.ptr(), object, "padding", kPadding, pair);
    for (int i = 0; i < 4; ++i) padding[i] = pair[i / 2];
    return;
  }
  for (int i = 0; i < 2; ++i) {
    py::object side = items_of(PySequence_Fast_GET_ITEM(items.ptr(), i), "padding", kPadding);
    read_pair_items(side.ptr(), object, "padding", kPadding, padding + 2 * i);
  }
  if (four_sided) *four_sided = 1;
}

int parse_shape(PyObject* object, const char* name, int64_t* shape) {
  constexpr const char* kShape = "a sequence of ints";
  py::object items = items_of(object, name, kShape);
  Py_ssize_t count = PySequence_Fast_GET_SIZE(items.ptr());
  if (count > CNNEXT_MAX_NDIM) {
    raise(PyExc_ValueError, "%s has %zd values; at most %d are supported", name, count, CNNEXT_MAX_NDIM);
  }
  for (Py_ssize_t i = 0; i < count; ++i) shape[i] = int_item(items.ptr(), i, object, name, kShape);
  return static_cast<int>(count);
}

int32_t parse_activation(PyObject* object, const char* name) {
  return object == Py_None ? int32_t{CNNEXT_ACT_NONE} : find_name(object, name, kActivations);
}
int32_t parse_norm_activation(PyObject* object) {
  return object == Py_None ? int32_t{CNNEXT_ACT_NONE} : find_name(object, "activation", kNormActivations);
}
int32_t parse_algorithm(PyObject* object) { return find_name(object, "algorithm", kAlgorithms); }
int32_t parse_autotune(PyObject* object) { return find_name(object, "mode", kAutotunes); }
int32_t parse_index_kind(PyObject* object, const char* name) { return find_name(object, name, kIndexKinds); }
int32_t parse_reduction(PyObject* object) { return find_name(object, "reduction", kReductions); }
int32_t parse_backend(PyObject* object) { return find_name(object, "backend", kBackends); }
int32_t parse_dtype(PyObject* object) { return find_name(object, "dtype", kDtypeNames); }

namespace {

// Python code that needs sizes (max_unpool2d's output_size) reads them by the same rules.
py::object pair_tuple(Args args) {
  int64_t pair[2];
  py::str name = py::str(py::handle(args[1]));
  parse_pair(args[0], PyUnicode_AsUTF8(name.ptr()), pair);
  return py::make_tuple(pair[0], pair[1]);
}

py::object padding_tuple(Args args) {
  int64_t padding[4] = {0, 0, 0, 0};
  int32_t mode;
  parse_padding(args[0], padding, &mode, nullptr);
  if (mode == CNNEXT_PAD_SAME) raise(PyExc_ValueError, "padding is 'same'; here it must be given in numbers");
  return py::make_tuple(py::make_tuple(padding[0], padding[1]), py::make_tuple(padding[2], padding[3]));
}

PyMethodDef methods[] = {
    method<2, pair_tuple>("parse_pair",
                          "parse_pair(value, name, /)\n--\n\nAn int or a pair of ints as (h, w)."),
    method<1, padding_tuple>(
        "parse_padding",
        "parse_padding(padding, /)\n--\n\nA padding in numbers as ((top, bottom), (left, right))."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_params(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
