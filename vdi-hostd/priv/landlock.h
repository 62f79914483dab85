/* Landlock (kernel docs userspace-api/landlock): a process may open only what a ruleset names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/** landlock_is_there() - does the running kernel enforce it? */
bool landlock_is_there(void);

/**
 * landlock_for_tool() - a ruleset for a program that works on open files
 * @binary: may be executed; system libraries may be read
 * @read:   descriptors of @n_read files that it may open again to read
 * @both:   of the one that it may open again to read and write
 * @ret_fd: close-on-exec, owned by the caller
 * Errors: ERR_UNSUPPORTED where the kernel has no Landlock
 */
int landlock_for_tool(const char *binary, const int *read, size_t n_read, int both, int *ret_fd,
		      struct err *err) warn_unused;
