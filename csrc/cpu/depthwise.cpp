#include "cpu/depthwise.h"

#include "cpu/depthwise_engines.h"

namespace cnnext {

bool depthwise_by_channels(const Conv2dDesc& desc) {
  return desc.format == Format::kNCHW || desc.C == 1 ? desc.C >= 8 : true;
}

bool depthwise_supports(const Conv2dDesc& desc) {
  return desc.dtype == CNNEXT_FLOAT32 && desc.groups == desc.C && desc.groups == desc.K;
}

void depthwise_forward(const Conv2dDesc& desc, Exec& exec) {
  const ConvProblem problem = forward_problem(desc, exec);
  depthwise_by_channels(desc) ? depthwise_channels_run(problem, CNNEXT_FLOAT32, exec)
                              : depthwise_columns_run(problem, exec);
}

void depthwise_backward_data(const Conv2dDesc& desc, Exec& exec) {
  const ConvProblem problem = backward_data_problem(desc, exec);
  depthwise_by_channels(desc) ? depthwise_channels_run(problem, CNNEXT_FLOAT32, exec)
                              : depthwise_columns_run(problem, exec);
}

void depthwise_backward_weights(const Conv2dDesc& desc, Exec& exec) {
  depthwise_by_channels(desc) ? depthwise_channels_weights(desc, CNNEXT_FLOAT32, exec)
                              : depthwise_columns_weights(desc, exec);
}

}  // namespace cnnext
