/*
 * Files that others name or hand over. Only regular files are taken, and nothing is opened before
 * it is known to be one: opening a FIFO may wait for ever, opening a device may do things.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define STORAGE_FILE_NAME_MAX 127

/** storage_name_ok() - a plain file name: [A-Za-z0-9_-][A-Za-z0-9._-]*, at most 127 bytes */
bool storage_name_ok(const char *name);

/**
 * storage_open() - open a regular file for reading
 * @dir_fd: where a relative @path begins, or AT_FDCWD
 * @flags:  O_RDONLY or O_RDWR
 *
 * The last component may not be a symbolic link. Errors: ERR_UNSUPPORTED naming what it is instead
 * (FIFO, device, directory, ...), else what the kernel said.
 */
int storage_open(int dir_fd, const char *path, int flags, int *ret_fd, struct err *err) warn_unused;

/** storage_check_fd() - is a descriptor that was handed over a regular file, open for reading? */
int storage_check_fd(int fd, struct err *err) warn_unused;

/** storage_check_input() - the same, but a pipe will do as well */
int storage_check_input(int fd, bool *ret_is_pipe, struct err *err) warn_unused;

/** storage_pread() - all of @size bytes at @offset; ERR_CORRUPT "truncated" when the file ends */
int storage_pread(int fd, void *buf, size_t size, uint64_t offset, struct err *err) warn_unused;

/** storage_pwrite() - all of @size bytes at @offset */
int storage_pwrite(int fd, const void *buf, size_t size, uint64_t offset,
		   struct err *err) warn_unused;

/** storage_file_size() - length in bytes */
int storage_file_size(int fd, uint64_t *ret, struct err *err) warn_unused;

/**
 * storage_usual_reserve() - what should stay free where a file lies: a 64th of the file system, at
 * most 1 GiB
 */
int storage_usual_reserve(int fd, uint64_t *ret, struct err *err) warn_unused;

/** storage_check_room() - ERR_LIMIT where less than @reserve bytes are free for us */
int storage_check_room(int fd, uint64_t reserve, struct err *err) warn_unused;
