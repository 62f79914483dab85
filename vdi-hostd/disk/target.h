/*
 * Where an export goes: a file that the daemon makes at a path, which shows there only once it is
 * whole; or a file or pipe that somebody passed opened.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>

#include "base/err.h"

/**
 * struct export_target - where it goes
 */
struct export_target {
	int fd;
	/* of a path only */
	int dir_fd;
	bool force;
	char name[NAME_MAX + 1];
	char part[64]; /* its name until it is whole, or "": it has none */
};

#define EXPORT_TARGET_NONE ((struct export_target){.fd = -1, .dir_fd = -1})

/** export_target_path() - @force: what stands there is replaced, else that is ERR_EXISTS */
int export_target_path(struct export_target *ret, const char *path, bool force,
		       struct err *err) warn_unused;
/** export_target_fd() - @fd: taken, also on failure; a file open for writing, or a pipe */
int export_target_fd(struct export_target *ret, int fd, struct err *err) warn_unused;
/** export_target_is_direct() - may qemu-img write to it, who opens it again? */
bool export_target_is_direct(const struct export_target *target, bool rootless);
/** export_target_settle() - it is whole: it shows at its path */
int export_target_settle(struct export_target *target, struct err *err) warn_unused;
/** export_target_close() - what was not settled goes; idempotent */
void export_target_close(struct export_target *target);
