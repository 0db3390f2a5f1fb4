// The extension module cnnext._C: the library's C ABI for Python arrays. Signatures are positional;
// cnnext.ops gives them names and defaults.
#include "python.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "cnnext's compiled functions, positional arguments only. Use cnnext.ops.";
  if (cnnext_init() != CNNEXT_OK) throw bindings::py::import_error(cnnext_last_error());
  bindings::add_params(m);
  bindings::add_conv(m);
  bindings::add_pool(m);
  bindings::add_conv_pool(m);
  bindings::add_conv_norm(m);
  bindings::add_elementwise(m);
  bindings::add_norm(m);
  bindings::add_optim(m);
  bindings::add_augment(m);
  bindings::add_info(m);
  bindings::add_plan(m);
  bindings::add_stream(m);
  bindings::add_device_array(m);
}
