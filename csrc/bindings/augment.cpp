// Preparing images: NumPy arrays (or others on the host) -> views -> one call.
#include "output.h"
#include "params.h"

namespace bindings {
namespace {

// x, affine, color, erase, erase_value, height, width, bilinear, clamp, scale
py::object augment(Args args) {
  cnnext_augment_params params = CNNEXT_AUGMENT_PARAMS_INIT;
  params.height = parse_int(args[5], "height");
  params.width = parse_int(args[6], "width");
  params.bilinear = parse_bool(args[7], "bilinear");
  params.clamp = parse_bool(args[8], "clamp");
  params.scale = parse_double(args[9], "scale");
  Array x(args[0], "x");
  Array affine = Array::optional(args[1], "affine"), color = Array::optional(args[2], "color");
  Array erase = Array::optional(args[3], "erase"), value = Array::optional(args[4], "erase_value");
  const Origin origin = result_origin({&x, &affine, &color, &erase, &value});
  Output y;
  // Without the context: a backend that is forced is for operations, and these are none.
  run(origin, {&y}, [&](const cnnext_context*) {
    return cnnext_augment(nullptr, &params, x.get(), affine.get(), color.get(), erase.get(), value.get(),
                          y.get());
  });
  return y.take(origin);
}

// x, partner, weight
py::object mix_images(Args args) {
  Array x(args[0], "x"), partner(args[1], "partner"), weight(args[2], "weight");
  const Origin origin = result_origin({&x, &partner, &weight});
  Output y;
  run(origin, {&y}, [&](const cnnext_context*) {
    return cnnext_mix_images(nullptr, x.get(), partner.get(), weight.get(), y.get());
  });
  return y.take(origin);
}

PyMethodDef methods[] = {
    method<10, augment>("augment",
                        "augment(x, affine, color, erase, erase_value, height, width, bilinear, clamp, "
                        "scale, /)\n--\n\nImages read through maps, coloured and erased, as float32."),
    method<3, mix_images>("mix_images",
                          "mix_images(x, partner, weight, /)\n--\n\nEach image blended with its partner."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_augment(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
