// What a call on CUDA gives where the arrays are of no library that could allocate the result: memory from
// our pool that shows itself by DLPack and __cuda_array_interface__. No array library: it computes nothing.
#pragma once

#include "array.h"

namespace bindings {

// A DeviceArray for the described tensor, whose data it sets; in the stream's order.
py::object new_device_array(cnnext_tensor* described, void* stream);

// The result as an array of `library`: JAX takes it by DLPack, for the others it is one already.
py::object from_device_array(Library library, py::object array);

}  // namespace bindings
