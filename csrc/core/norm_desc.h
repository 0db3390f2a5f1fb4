// Batch norm's arguments, as batch_norm and what is fused with it judge and read them.
#pragma once

#include "core/views.h"

namespace cnnext {

// Vectors of one value a channel; each may be nullptr.
struct BatchNormVectors {
  const Tensor *weight, *bias;
  Tensor *running_mean, *running_var;  // updated in training
  Tensor *save_mean, *save_invstd;     // written
};

void check_batch_norm_params(const cnnext_batch_norm_params* params);
// Everything but the tensors; x has that shape.
BatchNormDesc make_batch_norm_desc(const cnnext_batch_norm_params& params, const Tensor& x,
                                   const ChannelShape& shape);
// The vectors of a forward on x, of C channels.
void check_batch_norm_vectors(const cnnext_batch_norm_params& params, const Tensor& x, int64_t C,
                              const BatchNormVectors& vectors);
// describe_output for those that are written; dtype: x's.
bool describe_saved_statistics(const BatchNormVectors& vectors, int32_t dtype, int64_t C);
// Puts them into the descriptor.
void read_batch_norm_vectors(Call& call, const BatchNormVectors& vectors, BatchNormDesc* desc);
// After the op: the running statistics where the caller has them.
void write_back_running_statistics(Call& call, const BatchNormDesc& desc, const BatchNormVectors& vectors);

}  // namespace cnnext
