// A disk that misbehaves, by LD_PRELOAD: calls on paths below one directory
// fail, hang or are slow while a control file says so, and the process is
// killed at its n-th call that changes a file there.
//
//   LATTICED_FAULT_DIRECTORY  the directory, absolute, without links
//   LATTICED_FAULT_CONTROL    the control file, read at every such call:
//                             "error ERRNO KINDS", "hang KINDS" (until the file
//                             says otherwise) or "slow MILLISECONDS KINDS",
//                             where KINDS is a list of open, read, stat,
//                             readdir, write with commas, or "all". Missing or
//                             empty: nothing happens.
//   LATTICED_FAULT_JOURNAL    gets the name of every changing call, one a line
//   LATTICED_FAULT_KILL       n: SIGKILL in place of the n-th changing call,
//                             from 1; with a + behind it, a write has by then
//                             written half of its bytes
//
// Changing calls are those of kind "write", and open with O_CREAT or O_TRUNC.
// Everything of the shim's own goes by raw system calls. What glibc does inside
// itself (fwrite, say) does not come by here; fopen does.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long g_changes;

// The function that would have been called, looked up at its first use.
#define NEXT(name)                                            \
  static __typeof__(&name) next;                              \
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, #name); \
  if (next == NULL) abort()

// A system call that leaves errno alone: a call of ours that goes well must.
static long Raw(long number, long a, long b, long c, long d) {
  const int kept = errno;
  const long result = syscall(number, a, b, c, d);
  errno = kept;
  return result;
}
static void Sleep(long milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  Raw(SYS_nanosleep, (long)&time, 0, 0, 0);
}

// Into `text`, NUL-terminated; 0 if there is nothing to read.
static long ReadAll(const char* path, char* text, long size) {
  const long fd =
      Raw(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  const long n = Raw(SYS_read, fd, (long)text, size - 1, 0);
  Raw(SYS_close, fd, 0, 0, 0);
  text[n > 0 ? n : 0] = '\0';
  return n > 0 ? n : 0;
}

static int Below(const char* path) {
  const char* directory = getenv("LATTICED_FAULT_DIRECTORY");
  if (directory == NULL) return 0;
  const size_t length = strlen(directory);
  return strncmp(path, directory, length) == 0 &&
         (path[length] == '\0' || path[length] == '/');
}

static int BelowDescriptor(int fd) {
  char link[64];
  char path[PATH_MAX];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const long n =
      Raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, PATH_MAX - 1);
  if (n <= 0) return 0;
  path[n] = '\0';
  return Below(path);
}

static int BelowAt(int fd, const char* path) {
  if (path != NULL && path[0] == '/') return Below(path);
  if (fd != AT_FDCWD) return BelowDescriptor(fd);
  char full[2 * PATH_MAX];
  if (Raw(SYS_getcwd, (long)full, PATH_MAX, 0, 0) < 0 || path == NULL) return 0;
  strncat(full, "/", 2);
  strncat(full, path, PATH_MAX - 2);
  return Below(full);
}

// Whether `kind` is one of the words of `kinds`.
static int Named(const char* kinds, const char* kind) {
  const size_t length = strlen(kind);
  for (const char* word = kinds; *word != '\0'; ++word) {
    const size_t size = strcspn(word, ",");
    if ((size == length && strncmp(word, kind, length) == 0) ||
        (size == 3 && strncmp(word, "all", 3) == 0)) {
      return 1;
    }
    word += size;
    if (*word == '\0') break;
  }
  return 0;
}

// 0, or the errno to fail with.
static int Fault(const char* kind) {
  const char* control = getenv("LATTICED_FAULT_CONTROL");
  if (control == NULL) return 0;
  char text[128];
  char kinds[64] = "";
  int number = 0;
  while (ReadAll(control, text, sizeof(text)) > 0) {
    if (sscanf(text, "error %d %63s", &number, kinds) == 2) {
      return Named(kinds, kind) ? number : 0;
    }
    if (sscanf(text, "slow %d %63s", &number, kinds) == 2) {
      if (Named(kinds, kind)) Sleep(number);
      return 0;
    }
    if (sscanf(text, "hang %63s", kinds) != 1 || !Named(kinds, kind)) return 0;
    Sleep(10);
  }
  return 0;
}

// Whether the call that is about to be made is the one to die at; `half` asks
// it to do half of its work first.
static int Changes(const char* name, int* half) {
  const char* journal = getenv("LATTICED_FAULT_JOURNAL");
  if (journal != NULL) {
    const long fd = Raw(SYS_openat, AT_FDCWD, (long)journal,
                        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    char line[32];
    snprintf(line, sizeof(line), "%s\n", name);
    if (fd < 0 || Raw(SYS_write, fd, (long)line, (long)strlen(line), 0) < 0)
      abort();
    Raw(SYS_close, fd, 0, 0, 0);
  }
  const char* kill_at = getenv("LATTICED_FAULT_KILL");
  if (kill_at == NULL) return 0;
  *half = strchr(kill_at, '+') != NULL;
  return atomic_fetch_add(&g_changes, 1) + 1 == atol(kill_at);
}

static void Die(void) {
  Raw(SYS_kill, getpid(), SIGKILL, 0, 0);
  for (;;) Sleep(1000);
}

#define FAIL_IF(below, kind, result) \
  if (below) {                       \
    const int fault = Fault(kind);   \
    if (fault != 0) {                \
      errno = fault;                 \
      return result;                 \
    }                                \
  }

#define CHANGE(below, name, result)   \
  if (below) {                        \
    const int fault = Fault("write"); \
    if (fault != 0) {                 \
      errno = fault;                  \
      return result;                  \
    }                                 \
    int half = 0;                     \
    if (Changes(name, &half)) Die();  \
  }

#define OPEN(name, fd, ...)            \
  NEXT(name);                          \
  mode_t mode = 0;                     \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list list;                      \
    va_start(list, flags);             \
    mode = va_arg(list, mode_t);       \
    va_end(list);                      \
  }                                    \
  const int below = BelowAt(fd, path); \
  if (flags & (O_CREAT | O_TRUNC)) {   \
    CHANGE(below, "open", -1)          \
  } else {                             \
    FAIL_IF(below, "open", -1)         \
  }                                    \
  return next(__VA_ARGS__, flags, mode)

int open(const char* path, int flags, ...) { OPEN(open, AT_FDCWD, path); }
int open64(const char* path, int flags, ...) { OPEN(open64, AT_FDCWD, path); }
int openat(int fd, const char* path, int flags, ...) {
  OPEN(openat, fd, fd, path);
}
int openat64(int fd, const char* path, int flags, ...) {
  OPEN(openat64, fd, fd, path);
}

#define FOPEN(name)                          \
  NEXT(name);                                \
  const int below = BelowAt(AT_FDCWD, path); \
  if (mode[0] != 'r') {                      \
    CHANGE(below, "open", NULL)              \
  } else {                                   \
    FAIL_IF(below, "open", NULL)             \
  }                                          \
  return next(path, mode)

FILE* fopen(const char* path, const char* mode) { FOPEN(fopen); }
FILE* fopen64(const char* path, const char* mode) { FOPEN(fopen64); }

ssize_t read(int fd, void* bytes, size_t size) {
  NEXT(read);
  FAIL_IF(BelowDescriptor(fd), "read", -1)
  return next(fd, bytes, size);
}
ssize_t pread(int fd, void* bytes, size_t size, off_t offset) {
  NEXT(pread);
  FAIL_IF(BelowDescriptor(fd), "read", -1)
  return next(fd, bytes, size, offset);
}
ssize_t pread64(int fd, void* bytes, size_t size, off64_t offset) {
  NEXT(pread64);
  FAIL_IF(BelowDescriptor(fd), "read", -1)
  return next(fd, bytes, size, offset);
}

#define STAT(name, below, ...) \
  NEXT(name);                  \
  FAIL_IF(below, "stat", -1)   \
  return next(__VA_ARGS__)

int stat(const char* path, struct stat* info) {
  STAT(stat, BelowAt(AT_FDCWD, path), path, info);
}
int stat64(const char* path, struct stat64* info) {
  STAT(stat64, BelowAt(AT_FDCWD, path), path, info);
}
int lstat(const char* path, struct stat* info) {
  STAT(lstat, BelowAt(AT_FDCWD, path), path, info);
}
int lstat64(const char* path, struct stat64* info) {
  STAT(lstat64, BelowAt(AT_FDCWD, path), path, info);
}
int fstat(int fd, struct stat* info) {
  STAT(fstat, BelowDescriptor(fd), fd, info);
}
int fstat64(int fd, struct stat64* info) {
  STAT(fstat64, BelowDescriptor(fd), fd, info);
}
int fstatat(int fd, const char* path, struct stat* info, int flags) {
  STAT(fstatat, BelowAt(fd, path), fd, path, info, flags);
}
int fstatat64(int fd, const char* path, struct stat64* info, int flags) {
  STAT(fstatat64, BelowAt(fd, path), fd, path, info, flags);
}

struct dirent* readdir(DIR* dir) {
  NEXT(readdir);
  FAIL_IF(BelowDescriptor(dirfd(dir)), "readdir", NULL)
  return next(dir);
}
struct dirent64* readdir64(DIR* dir) {
  NEXT(readdir64);
  FAIL_IF(BelowDescriptor(dirfd(dir)), "readdir", NULL)
  return next(dir);
}

#define WRITE(name, ...)                                      \
  NEXT(name);                                                 \
  if (BelowDescriptor(fd)) {                                  \
    const int fault = Fault("write");                         \
    if (fault != 0) {                                         \
      errno = fault;                                          \
      return -1;                                              \
    }                                                         \
    int half = 0;                                             \
    if (Changes("write", &half)) {                            \
      size_t part = size;                                     \
      size /= 2;                                              \
      if (half && part > 1 && next(__VA_ARGS__) < 0) abort(); \
      Die();                                                  \
    }                                                         \
  }                                                           \
  return next(__VA_ARGS__)

ssize_t write(int fd, const void* bytes, size_t size) {
  WRITE(write, fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  WRITE(pwrite, fd, bytes, size, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  WRITE(pwrite64, fd, bytes, size, offset);
}

#define ACT(name, below, ...) \
  NEXT(name);                 \
  CHANGE(below, #name, -1)    \
  return next(__VA_ARGS__)

ssize_t writev(int fd, const struct iovec* parts, int count) {
  ACT(writev, BelowDescriptor(fd), fd, parts, count);
}
int fsync(int fd) { ACT(fsync, BelowDescriptor(fd), fd); }
int fdatasync(int fd) { ACT(fdatasync, BelowDescriptor(fd), fd); }
int ftruncate(int fd, off_t size) {
  ACT(ftruncate, BelowDescriptor(fd), fd, size);
}
int mkdir(const char* path, mode_t mode) {
  ACT(mkdir, BelowAt(AT_FDCWD, path), path, mode);
}
int mkdirat(int fd, const char* path, mode_t mode) {
  ACT(mkdirat, BelowAt(fd, path), fd, path, mode);
}
int rmdir(const char* path) { ACT(rmdir, BelowAt(AT_FDCWD, path), path); }
int unlink(const char* path) { ACT(unlink, BelowAt(AT_FDCWD, path), path); }
int unlinkat(int fd, const char* path, int flags) {
  ACT(unlinkat, BelowAt(fd, path), fd, path, flags);
}
int rename(const char* from, const char* to) {
  ACT(rename, BelowAt(AT_FDCWD, to), from, to);
}
int renameat(int from_fd, const char* from, int to_fd, const char* to) {
  ACT(renameat, BelowAt(to_fd, to), from_fd, from, to_fd, to);
}
int renameat2(int from_fd, const char* from, int to_fd, const char* to,
              unsigned int flags) {
  ACT(renameat2, BelowAt(to_fd, to), from_fd, from, to_fd, to, flags);
}
