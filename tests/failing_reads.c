// LD_PRELOAD: reads of files whose name contains FAILING_READS_PATH fail with EIO, behind
// FAILING_READS_AFTER bytes, as long as the folder FAILING_READS_COUNT holds files: each failure
// takes one away, so that all processes of a run share the count.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int taken(void) {
  const char *folder = getenv("FAILING_READS_COUNT");
  char name[4096];
  DIR *all = folder ? opendir(folder) : NULL;
  int found = 0;
  if (!all) return 0;
  for (struct dirent *one; !found && (one = readdir(all));) {
    if (one->d_name[0] == '.') continue;
    snprintf(name, sizeof name, "%s/%s", folder, one->d_name);
    found = unlink(name) == 0;
  }
  closedir(all);
  return found;
}

static int fails(int fd) {
  const char *part = getenv("FAILING_READS_PATH"), *after = getenv("FAILING_READS_AFTER");
  char link[64], name[4096];
  if (!part) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name - 1);
  if (length <= 0) return 0;
  name[length] = 0;
  return strstr(name, part) && lseek(fd, 0, SEEK_CUR) >= atol(after ? after : "0") && taken();
}

ssize_t read(int fd, void *buffer, size_t count) {
  static ssize_t (*real)(int, void *, size_t);
  if (!real) real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
  if (fails(fd)) {
    errno = EIO;
    return -1;
  }
  return real(fd, buffer, count);
}
