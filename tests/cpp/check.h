// A test program is a list of functions; a failed CHECK says where and makes the program's exit status 1.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

namespace check {

inline int& failures() {
  static int count = 0;
  return count;
}

inline void report(bool ok, const char* file, int line, const char* text, const std::string& values = "") {
  if (ok) return;
  ++failures();
  std::fprintf(stderr, "%s:%d: %s%s\n", file, line, text, values.c_str());
}

template <class A, class B>
void report_equal(const A& a, const B& b, const char* file, int line, const char* text) {
  if (a == b) return;
  std::ostringstream values;
  values << " (" << a << " and " << b << ")";
  report(false, file, line, text, values.str());
}

inline void run(const char* name, void (*test)()) {
  const int before = failures();
  test();
  std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", name);
  std::fflush(stdout);
}

inline int result() { return failures() == 0 ? 0 : 1; }

// Runs body in a forked child that must finish within some seconds; returns its exit status, 128 + signal
// where a signal ended it. The child's failed checks count in its exit status only.
template <class Body>
int in_child(const Body& body, unsigned seconds = 60) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    failures() = 0;
    alarm(seconds);
    body();
    std::fflush(nullptr);
    _exit(result());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace check

#define CHECK(condition) ::check::report(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) ::check::report_equal((a), (b), __FILE__, __LINE__, #a " == " #b)
#define RUN(test) ::check::run(#test, test)

#if defined(__SANITIZE_THREAD__)
#define CHECK_TSAN 1
#else
#define CHECK_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CHECK_ASAN 1
#else
#define CHECK_ASAN 0
#endif
