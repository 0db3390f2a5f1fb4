// Convolution and batch norm by what they are made of.
#include "cpu/ref/ref.h"

namespace cnnext {

Ran ref_conv2d_batch_norm_forward(const ConvBatchNormDesc& d, Exec& exec) {
  if (numel(d.conv.y) > 0) ref_conv2d_forward(d.conv, exec);
  ref_batch_norm_forward(d.norm, exec);
  exec.ran("ref/conv2d_batch_norm_forward");
  return Ran::kDone;
}

}  // namespace cnnext
