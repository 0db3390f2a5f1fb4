#include "cases.h"

const Family kFamilies[] = {
    {"elementwise", cases_elementwise},
    {"max_pool", cases_max_pool},
};
const int kNumFamilies = sizeof(kFamilies) / sizeof(kFamilies[0]);
