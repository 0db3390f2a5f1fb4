// Sleeping on a 32-bit word: Linux's futex, and the same by a condition variable elsewhere.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cnnext {

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free,
              "the kernel reads the word");

#if defined(__linux__)

// Sleeps if *word is still `expected`. May return early: callers look again.
inline void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

// Wakes up to `count` threads that sleep on word.
inline void futex_wake(std::atomic<uint32_t>* word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

inline void futex_after_fork() {}

#else

struct SharedSleep {
  pthread_mutex_t mutex;
  pthread_cond_t woken;
};
inline SharedSleep shared_sleep = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};

inline void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  pthread_mutex_lock(&shared_sleep.mutex);
  if (word->load() == expected) pthread_cond_wait(&shared_sleep.woken, &shared_sleep.mutex);
  pthread_mutex_unlock(&shared_sleep.mutex);
}

inline void futex_wake(std::atomic<uint32_t>*, int) {
  pthread_mutex_lock(&shared_sleep.mutex);
  pthread_cond_broadcast(&shared_sleep.woken);
  pthread_mutex_unlock(&shared_sleep.mutex);
}

// In the child nobody sleeps, whatever the parent's threads held.
inline void futex_after_fork() { shared_sleep = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER}; }

#endif

}  // namespace cnnext
