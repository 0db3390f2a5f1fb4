// Kernels over flat runs of floats. Outputs may be an input itself.
#pragma once

#include <stdint.h>

namespace cnnext {

constexpr int kActivationKinds = 9;  // cnnext_activation's; the first, none, has no kernel

struct FlatArgs {
  const float *a, *b;  // b: the gradient or the second operand
  float* y;
  int64_t count;
  float alpha;
  bool stream;  // y goes past the caches: for what will not stay in them anyway
};

struct SgdArgs {
  float *param, *buffer;  // buffer: nullptr without momentum
  const float* grad;
  int64_t count;
  float lr, momentum, damped, weight_decay;  // damped: 1 - dampening
  float sign;                                // -1 to maximise
  bool nesterov, first_step;
};

struct AdamArgs {
  float *param, *avg, *avg_sq, *max_sq;  // max_sq: nullptr without amsgrad
  const float* grad;
  int64_t count;
  float step_size, beta1_rest, beta2, beta2_rest;  // rest: 1 - beta
  float root_correction, eps;                      // root_correction: sqrt(1 - beta2^step)
  float weight_decay, decay;  // added to the gradient; what the parameter is multiplied by
  float sign;
};

struct DropoutArgs {
  const float* x;
  float* y;
  int64_t count;
  const uint32_t* words;  // a random word an element
  uint64_t threshold;     // kept from here on; up to 2^32
  float scale;
};

struct ElementwiseUkernels {
  void (*forward[kActivationKinds])(const FlatArgs&);
  void (*backward[kActivationKinds])(const FlatArgs&);
  void (*add)(const FlatArgs&);
  void (*sgd)(const SgdArgs&);
  void (*adam)(const AdamArgs&);
  // The words of `groups` groups of 32 elements from number 4 * block on (philox.h).
  void (*philox)(uint64_t block, uint64_t seed, int64_t groups, uint32_t* words);
  void (*dropout)(const DropoutArgs&);
};

}  // namespace cnnext
