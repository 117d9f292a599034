// A wall clock that somebody sets, by LD_PRELOAD: CLOCK_REALTIME is what the
// file LATTICED_CLOCK says, other clocks are the kernel's.
//
//   "offset SECONDS"  ahead of the true time, or behind it
//   "at SECONDS"      stands still there, seconds since 1970
//   "falls SECONDS"   is set back by SECONDS before each look at it
//
// As with a kernel's clock, a wait until a time of that clock, which has begun
// before the clock is set, ends when the clock gets there: a day later than
// meant if it was set back by a day. (libfaketime translates such a time once,
// when the wait begins, and lets those of Abseil's futexes through: under it no
// program is ever late.) Known waits are pthread_cond_timedwait, _clockwait and
// futexes by way of syscall().
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long kSecond = 1000000000;
static const long kSlice = 20000000;  // between looks at the clock

#define NEXT(name, version)                                             \
  static __typeof__(&name) next;                                        \
  if (next == NULL) *(void**)&next = dlvsym(RTLD_NEXT, #name, version); \
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, #name);           \
  if (next == NULL) abort()

// A system call that leaves errno alone and returns -errno, as the kernel does.
static long Raw(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
                     "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static long Nanoseconds(const struct timespec* time) {
  return time->tv_sec * kSecond + time->tv_nsec;
}

static struct timespec Timespec(long nanoseconds) {
  const struct timespec time = {nanoseconds / kSecond, nanoseconds % kSecond};
  return time;
}

static long Kernel(clockid_t clock) {
  struct timespec time;
  Raw(SYS_clock_gettime, clock, (long)&time, 0, 0, 0, 0);
  return Nanoseconds(&time);
}

// What the wall clock shows.
static long Wall(void) {
  const long truth = Kernel(CLOCK_REALTIME);
  const char* path = getenv("LATTICED_CLOCK");
  if (path == NULL) return truth;
  const long fd =
      Raw(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return truth;
  char text[64] = "";
  Raw(SYS_read, fd, (long)text, sizeof(text) - 1, 0, 0, 0);
  Raw(SYS_close, fd, 0, 0, 0, 0, 0);
  if (strncmp(text, "at ", 3) == 0) return atol(text + 3) * kSecond;
  if (strncmp(text, "offset ", 7) == 0) {
    return truth + atol(text + 7) * kSecond;
  }
  if (strncmp(text, "falls ", 6) == 0) {
    static atomic_long looks;
    return truth - ++looks * atol(text + 6) * kSecond;
  }
  return truth;
}

// The kernel's monotonic time to wait until before the next look, or 0 when the
// wall clock shows `deadline`.
static long NextLook(const struct timespec* deadline) {
  const long left = Nanoseconds(deadline) - Wall();
  if (left <= 0) return 0;
  return Kernel(CLOCK_MONOTONIC) + (left < kSlice ? left : kSlice);
}

int clock_gettime(clockid_t clock, struct timespec* time) {
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
    *time = Timespec(Wall());
    return 0;
  }
  const long result = Raw(SYS_clock_gettime, clock, (long)time, 0, 0, 0, 0);
  if (result < 0) errno = (int)-result;
  return result < 0 ? -1 : 0;
}

int gettimeofday(struct timeval* time, void* zone) {
  (void)zone;
  const long now = Wall();
  time->tv_sec = now / kSecond;
  time->tv_usec = now % kSecond / 1000;
  return 0;
}

time_t time(time_t* result) {
  const time_t now = Wall() / kSecond;
  if (result != NULL) *result = now;
  return now;
}

static int WaitUntil(pthread_cond_t* condition, pthread_mutex_t* mutex,
                     const struct timespec* deadline) {
  NEXT(pthread_cond_clockwait, "GLIBC_2.34");
  for (;;) {
    const long look = NextLook(deadline);
    if (look == 0) return ETIMEDOUT;
    const struct timespec until = Timespec(look);
    const int result = next(condition, mutex, CLOCK_MONOTONIC, &until);
    if (result != ETIMEDOUT) return result;
  }
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           clockid_t clock, const struct timespec* deadline) {
  NEXT(pthread_cond_clockwait, "GLIBC_2.34");
  if (clock != CLOCK_REALTIME) return next(condition, mutex, clock, deadline);
  return WaitUntil(condition, mutex, deadline);
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const struct timespec* deadline) {
  NEXT(pthread_cond_timedwait, "GLIBC_2.3.2");
  // glibc: bit 1 says that the condition was made for CLOCK_MONOTONIC.
  if (condition->__data.__wrefs & 2) return next(condition, mutex, deadline);
  return WaitUntil(condition, mutex, deadline);
}

long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long arguments[6];
  for (int i = 0; i < 6; ++i) arguments[i] = va_arg(list, long);
  va_end(list);
  const long operation = arguments[1];
  long result;
  if (number == SYS_futex && (operation & FUTEX_CLOCK_REALTIME) &&
      (operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && arguments[3] != 0) {
    do {
      const long look = NextLook((const struct timespec*)arguments[3]);
      const struct timespec until = Timespec(look);
      result = look == 0 ? -ETIMEDOUT
                         : Raw(number, arguments[0],
                               operation & ~FUTEX_CLOCK_REALTIME, arguments[2],
                               (long)&until, arguments[4], arguments[5]);
      if (look == 0) break;
    } while (result == -ETIMEDOUT);
  } else {
    result = Raw(number, arguments[0], arguments[1], arguments[2], arguments[3],
                 arguments[4], arguments[5]);
  }
  if (result < 0 && result > -4096) {
    errno = (int)-result;
    return -1;
  }
  return result;
}
