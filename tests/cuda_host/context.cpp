#include "context.h"

#include <cstdint>

#if defined(__x86_64__)

// The registers that a function must keep; the others are dead at a call.
asm(R"(
.text
.hidden cuda_host_switch
.globl cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_host_switch, .-cuda_host_switch
)");
extern "C" void cuda_host_switch(void** save, void* stack_pointer);

namespace cuda_host {

void prepare(Context* context, unsigned char* stack, size_t bytes, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15});
  *--top = nullptr;  // where entry would return to; it keeps the alignment that a call leaves
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context->stack_pointer = top;
}

void switch_context(Context* from, const Context* to) {
  cuda_host_switch(&from->stack_pointer, to->stack_pointer);
}

}  // namespace cuda_host

#else

namespace cuda_host {

void prepare(Context* context, unsigned char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context->saved);
  context->saved.uc_stack.ss_sp = stack;
  context->saved.uc_stack.ss_size = bytes;
  context->saved.uc_link = nullptr;
  makecontext(&context->saved, entry, 0);
}

void switch_context(Context* from, const Context* to) { swapcontext(&from->saved, &to->saved); }

}  // namespace cuda_host

#endif
