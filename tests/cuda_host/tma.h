// TMA and wgmma in the block that runs. TMA's bytes come at once where threads run in another order than
// theirs (Control::order), else as late as can be: when nobody can go on without them.
#pragma once

namespace cuda_host {

void start_tma();      // a new block: nothing is under way
bool finish_a_copy();  // that is under way; false: there is none
void start_wgmma();

}  // namespace cuda_host
