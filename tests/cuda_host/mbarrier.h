// mbarriers: phases that end when so many threads have arrived and so many bytes have come; and which of them
// each thread has waited for, since that is what lets it see what TMA wrote.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bed.h"

namespace cuda_host {

void start_mbarriers();  // a new block: there are none

// By their address in shared memory; each reports what is wrong.
void init_mbarrier(size_t address, int arrivals);
void publish_mbarriers();                       // the fence behind init
void arrive_at(size_t address, int64_t bytes);  // bytes: announced
void wait_for_phase(size_t address, uint32_t parity, Where where);

// Where TMA's bytes are counted: the phase that is under way.
struct Phase {
  int barrier = -1;  // its number in the block
  uint32_t number = 0;
};
Phase phase_of(size_t address);
void bytes_came(const Phase& phase, int64_t bytes);
bool has_waited_for(int thread, const Phase& phase);

}  // namespace cuda_host
