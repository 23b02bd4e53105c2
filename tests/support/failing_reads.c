// LD_PRELOAD: calls on files whose path contains FAILING_READS_PATH fail with FAILING_READS_ERRNO (a
// number; EIO) as long as the folder FAILING_READS_COUNT holds files: each failure takes one away, so
// that all processes of a run share the count. A folder in it that has the file's name counts for
// that file alone. FAILING_READS_CALLS names the calls, some of "read
// pread open stat" ("read"); read and pread fail behind FAILING_READS_AFTER bytes.
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static __thread int inside;  // what this file calls itself never fails

static int taken(const char *path) {
  const char *folder = getenv("FAILING_READS_COUNT"), *last = strrchr(path, '/');
  char own[4096], name[8192];
  int found = 0;
  if (!folder) return 0;
  snprintf(own, sizeof own, "%s/%s", folder, last ? last + 1 : path);
  DIR *all = opendir(own);
  if (all) folder = own;
  else all = opendir(folder);
  if (!all) return 0;
  for (struct dirent *one; !found && (one = readdir(all));) {
    if (one->d_name[0] == '.') continue;
    snprintf(name, sizeof name, "%s/%s", folder, one->d_name);
    found = unlink(name) == 0;
  }
  closedir(all);
  return found;
}

static int chosen(const char *call) {
  const char *calls = getenv("FAILING_READS_CALLS"), *at = calls ? calls : "read";
  size_t length = strlen(call);
  for (; (at = strstr(at, call)); at += length)
    if ((at == calls || !calls || at[-1] == ' ') && (at[length] == 0 || at[length] == ' ')) return 1;
  return 0;
}

// Whether a call on this path is to fail now; errno is set then.
static int fails(const char *call, const char *path) {
  const char *part = getenv("FAILING_READS_PATH"), *number = getenv("FAILING_READS_ERRNO");
  if (inside || !part || !path || !strstr(path, part) || !chosen(call)) return 0;
  inside = 1;
  int now = taken(path);
  inside = 0;
  if (now) errno = number ? atoi(number) : EIO;
  return now;
}

static int fails_at(const char *call, int fd, off_t position) {
  const char *after = getenv("FAILING_READS_AFTER");
  char link[64], name[4096];
  if (inside || !getenv("FAILING_READS_PATH") || position < atol(after ? after : "0")) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name - 1);
  name[length > 0 ? length : 0] = 0;
  return fails(call, name);
}

#define REAL(name, ...)                                 \
  static __typeof__(&name) real;                        \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
  return real(__VA_ARGS__)

#define OPEN(name, parameters, path, ...)      \
  int name parameters {                        \
    va_list more;                              \
    va_start(more, flags);                     \
    int mode = va_arg(more, int);              \
    va_end(more);                              \
    if (fails("open", path)) return -1;        \
    REAL(name, __VA_ARGS__, flags, mode);      \
  }

#define STAT(name, parameters, path, ...)      \
  int name parameters {                        \
    if (fails("stat", path)) return -1;        \
    REAL(name, __VA_ARGS__);                   \
  }

ssize_t read(int fd, void *buffer, size_t count) {
  if (fails_at("read", fd, lseek(fd, 0, SEEK_CUR))) return -1;
  REAL(read, fd, buffer, count);
}

ssize_t pread(int fd, void *buffer, size_t count, off_t at) {
  if (fails_at("pread", fd, at)) return -1;
  REAL(pread, fd, buffer, count, at);
}

ssize_t pread64(int fd, void *buffer, size_t count, off64_t at) {
  if (fails_at("pread", fd, at)) return -1;
  REAL(pread64, fd, buffer, count, at);
}

OPEN(open, (const char *path, int flags, ...), path, path)
OPEN(open64, (const char *path, int flags, ...), path, path)
OPEN(openat, (int folder, const char *path, int flags, ...), path, folder, path)
OPEN(openat64, (int folder, const char *path, int flags, ...), path, folder, path)
STAT(stat, (const char *path, struct stat *status), path, path, status)
STAT(stat64, (const char *path, struct stat64 *status), path, path, status)
STAT(fstatat, (int folder, const char *path, struct stat *status, int flags), path, folder, path,
     status, flags)
STAT(fstatat64, (int folder, const char *path, struct stat64 *status, int flags), path, folder, path,
     status, flags)

int fstat(int fd, struct stat *status) {
  if (fails_at("stat", fd, 1L << 62)) return -1;
  REAL(fstat, fd, status);
}

int fstat64(int fd, struct stat64 *status) {
  if (fails_at("stat", fd, 1L << 62)) return -1;
  REAL(fstat64, fd, status);
}

// What libraries of a glibc before 2.33 call.
int __xstat64(int version, const char *path, struct stat64 *status) { return stat64(path, status); }
int __fxstat64(int version, int fd, struct stat64 *status) { return fstat64(fd, status); }
