#include "cases.h"

const Family kFamilies[] = {
    {"elementwise", cases_elementwise},
    {"dropout", cases_dropout},
    {"max_pool", cases_max_pool},
    {"avg_pool", cases_avg_pool},
    {"channels", cases_channels},
    {"softmax", cases_softmax},
    {"optim", cases_optim},
    {"copy", cases_copy},
};
const int kNumFamilies = sizeof(kFamilies) / sizeof(kFamilies[0]);
