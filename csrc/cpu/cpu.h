// The op functions of the vectorised CPU backend, named cpu_<op-table field>.
#pragma once

#include "core/op_table.h"

namespace cnnext {

Ran cpu_conv2d_forward(const Conv2dDesc& desc, Exec& exec);
Ran cpu_conv2d_backward_data(const Conv2dDesc& desc, Exec& exec);
Ran cpu_conv2d_backward_weights(const Conv2dDesc& desc, Exec& exec);
void cpu_pack_weight(const Conv2dDesc& desc, Exec& exec, PackedBlob* blob);

// As conv2d_forward where nothing is tuned: for parts of a fused operation.
Ran cpu_conv2d_forward_untuned(const Conv2dDesc& desc, Exec& exec);

Ran cpu_conv2d_relu_max_pool2d_forward(const ConvPoolDesc& desc, Exec& exec);
Ran cpu_conv2d_relu_max_pool2d_backward(const ConvPoolDesc& desc, Exec& exec);
Ran cpu_conv2d_batch_norm_forward(const ConvBatchNormDesc& desc, Exec& exec);
Ran cpu_max_pool2d_forward(const Pool2dDesc& desc, Exec& exec);
Ran cpu_max_pool2d_backward(const Pool2dDesc& desc, Exec& exec);
Ran cpu_max_pool2d_gather(const Pool2dDesc& desc, Exec& exec);
Ran cpu_max_unpool2d(const Pool2dDesc& desc, Exec& exec);
Ran cpu_convert_indices(const ConvertIndicesDesc& desc, Exec& exec);
Ran cpu_activation_forward(const ElementwiseDesc& desc, Exec& exec);
Ran cpu_activation_backward(const ElementwiseDesc& desc, Exec& exec);
Ran cpu_add(const ElementwiseDesc& desc, Exec& exec);
Ran cpu_dropout(const ElementwiseDesc& desc, Exec& exec);
Ran cpu_sgd_step(const SgdDesc& desc, Exec& exec);
Ran cpu_adam_step(const AdamDesc& desc, Exec& exec);
Ran cpu_bias_add(const ChannelDesc& desc, Exec& exec);
Ran cpu_bias_grad(const ChannelDesc& desc, Exec& exec);
Ran cpu_batch_norm_forward(const BatchNormDesc& desc, Exec& exec);
Ran cpu_batch_norm_backward(const BatchNormDesc& desc, Exec& exec);
Ran cpu_softmax_forward(const SoftmaxDesc& desc, Exec& exec);
Ran cpu_softmax_backward(const SoftmaxDesc& desc, Exec& exec);
Ran cpu_cross_entropy_forward(const CrossEntropyDesc& desc, Exec& exec);
Ran cpu_cross_entropy_backward(const CrossEntropyDesc& desc, Exec& exec);
Ran cpu_copy(const CopyDesc& desc, Exec& exec);
Ran cpu_avg_pool2d_forward(const Pool2dDesc& desc, Exec& exec);
Ran cpu_avg_pool2d_backward(const Pool2dDesc& desc, Exec& exec);
Ran cpu_adaptive_avg_pool2d_forward(const Pool2dDesc& desc, Exec& exec);
Ran cpu_adaptive_avg_pool2d_backward(const Pool2dDesc& desc, Exec& exec);

}  // namespace cnnext
