/*
 * Processes that this half started, until somebody asked how they ended. Nobody may ever ask, so
 * ended ones are collected on the way and only the newest of those are remembered.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CHILDREN_ENDED_MAX 256

struct child {
	pid_t pid;
	uint64_t start_time;
	bool ended;
	int wait_status;
};

struct children {
	struct child *row; /* in the order of their start */
	size_t n, room, n_ended;
};

void children_add(struct children *children, pid_t pid, uint64_t start_time);

/** children_collect() - take the exit status of those that ended: no zombies stay */
void children_collect(struct children *children);

/**
 * children_reap() - how a process ended; it is forgotten then
 * @ret_wait_status: as waitpid(2) gives it; -1 if it was not started here or is forgotten
 * Errors: ERR_BUSY if it still runs
 */
int children_reap(struct children *children, pid_t pid, uint64_t start_time, int *ret_wait_status,
		  struct err *err) warn_unused;

void children_done(struct children *children);
