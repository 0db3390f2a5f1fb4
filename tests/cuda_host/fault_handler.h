// Turns a fault of a kernel into a report.
#pragma once

#include <signal.h>

#include "bed.h"
#include "fake_memory.h"

namespace cuda_host {

// A kernel that reads or writes beyond an array meets a page that nobody may touch.
struct FaultHandler {
  struct sigaction before_segv, before_bus;
  FaultHandler() {
    static unsigned char* const stack = new unsigned char[64 * 1024];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = 64 * 1024;
    sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    action.sa_sigaction = [](int number, siginfo_t* info, void*) {
      if (!in_kernel()) {
        signal(number, SIG_DFL);
        raise(number);
      }
      report("%s", describe_address(info->si_addr).c_str());
    };
    sigaction(SIGSEGV, &action, &before_segv);
    sigaction(SIGBUS, &action, &before_bus);
  }
  ~FaultHandler() {
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
  }
};

}  // namespace cuda_host
