// LeNet-5 on images, with weights that Python wrote:
//   cx.save(cx.models.create("lenet5").state_dict(), "weights.safetensors")
//   cx.save({"images": images}, "images.safetensors")          # float32, (N, 1, 28, 28)
//   lenet weights.safetensors images.safetensors               # a line of ten logits for each image
#include <cstdio>
#include <exception>

#include "safetensors.hpp"

using cnnext::Tensor;

static Tensor lenet(const SafeTensors& weights, Tensor x) {
  cnnext::Conv2d padded, plain;
  padded.padding = {2, 2, 2, 2};
  x = cnnext::conv2d_relu_max_pool2d(x, weights["features.0.weight"], weights["features.0.bias"], padded);
  x = cnnext::conv2d_relu_max_pool2d(x, weights["features.3.weight"], weights["features.3.bias"], plain);
  x = x.reshape({x.size(0), x.size(1) * x.size(2) * x.size(3)});
  x = cnnext::linear(x, weights["classifier.1.weight"], weights["classifier.1.bias"], CNNEXT_ACT_RELU);
  x = cnnext::linear(x, weights["classifier.3.weight"], weights["classifier.3.bias"], CNNEXT_ACT_RELU);
  return cnnext::linear(x, weights["classifier.6.weight"], weights["classifier.6.bias"]);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: lenet weights.safetensors images.safetensors\n");
    return 2;
  }
  try {
    const SafeTensors weights(argv[1]), images(argv[2]);
    const Tensor logits = lenet(weights, images["images"]);
    const float* value = logits.data<const float>();
    for (int64_t n = 0; n < logits.size(0); ++n) {
      for (int64_t i = 0; i < logits.size(1); ++i) {
        std::printf("%s%.9g", i ? " " : "", static_cast<double>(*value++));
      }
      std::printf("\n");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lenet: %s\n", error.what());
    return 1;
  }
  return 0;
}
