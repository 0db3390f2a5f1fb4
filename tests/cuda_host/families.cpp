#include "cases.h"

const Family kFamilies[] = {
    {"elementwise", cases_elementwise},
    {"dropout", cases_dropout},
    {"max_pool", cases_max_pool},
    {"avg_pool", cases_avg_pool},
    {"copy", cases_copy},
    {"softmax", cases_softmax},
    {"conv_mma", cases_conv_mma},  // before conv, whose shapes do not need all of its barriers
    {"conv_wgmma", cases_conv_wgmma},
    {"conv", cases_conv},
    {"conv_fused", cases_conv_fused},
    {"optim", cases_optim},
    {"channels", cases_channels},
};
const int kNumFamilies = sizeof(kFamilies) / sizeof(kFamilies[0]);
