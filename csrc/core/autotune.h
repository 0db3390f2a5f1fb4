// What autotune found: which variant of an operation ran fastest for a key. In memory, and in one file for
// each processor model and instruction set; both bounded. A file that is not ours, or damaged, counts as
// empty.
#pragma once

#include <array>
#include <cstdint>

#include "cnnext/cnnext.h"

namespace cnnext {

using TuneKey = std::array<int64_t, 27>;

cnnext_autotune autotune_mode();
// Throws Error where CNNEXT_AUTOTUNE holds no mode; it then counts as off.
void check_autotune_setting();

// The variant kept for a key, or -1.
int32_t find_tuned(const TuneKey& key);
void keep_tuned(const TuneKey& key, int32_t variant);

}  // namespace cnnext
