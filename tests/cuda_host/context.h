// Switching between stacks: a few instructions on x86-64, ucontext elsewhere.
#pragma once

#include <cstddef>

namespace cuda_host {

#if defined(__x86_64__)
struct Context {
  void* stack_pointer = nullptr;
};
#else
}  // namespace cuda_host
#include <ucontext.h>
namespace cuda_host {
struct Context {
  ucontext_t saved;
};
#endif

// Makes `context` begin with entry() on that stack; entry must not return.
void prepare(Context* context, unsigned char* stack, size_t bytes, void (*entry)());
void switch_context(Context* from, const Context* to);

}  // namespace cuda_host
