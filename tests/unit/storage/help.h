/* What the tests of the store share: folders to work in, images made by QEMU, bytes to break. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** help_dir() - a new folder below /tmp, also the working folder from now on */
void help_dir(char *ret, size_t size);

/** help_remove_dir() - remove it with everything in it */
void help_remove_dir(const char *dir);

/** help_run() - a shell command; its exit status */
int help_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** help_write() - a file with these bytes */
void help_write(const char *path, const void *bytes, size_t len);

/** help_poke() - change bytes in a file */
void help_poke(const char *path, uint64_t offset, const void *bytes, size_t len);
void help_poke32(const char *path, uint64_t offset, uint32_t value);
void help_poke64(const char *path, uint64_t offset, uint64_t value);

/** help_count() - files in a folder */
size_t help_count(const char *dir);

/** help_same() - are two files equal byte by byte? */
bool help_same(const char *a, const char *b);
