/* Snapshots of desktops: disks at one moment, with the guest's memory or without, as a tree. */
#pragma once

#include "vdi-hostd/db/snapshot.h"
#include "vdi-hostd/disk/freeze.h"

extern const char *const disks_snapshot_states[]; /* enum db_snapshot_state; ends with NULL */
extern const char *const disks_snapshot_kinds[];  /* enum db_snapshot_kind; ends with NULL */
extern const char *const disks_quiesce_names[];   /* enum disks_quiesce; ends with NULL */

/** struct disks_snapshot - @name: NULL for one made of the time */
struct disks_snapshot {
	const char *name, *description;
	bool memory;
	enum disks_quiesce quiesce;
};

/** disks_done_cb - @result: as the API answers, the receiver's reference; NULL on failure */
typedef void (*disks_done_cb)(void *data, json_t *result, const struct err *err);

/**
 * disks_snapshot_create() - running, paused or stopped
 * @cb: fires exactly once, maybe inside this call, when the snapshot is there; a running guest has
 *      gone on by then
 *
 * Errors: ERR_EXISTS, ERR_BUSY, ERR_LIMIT (files in a chain, disk full), ERR_CONFLICT (memory of a
 * desktop that has none), ERR_UNAVAILABLE (quiesce required and no agent).
 */
void disks_snapshot_create(struct disks *disks, struct desktop *desktop,
			   const struct disks_snapshot *snapshot, disks_done_cb cb, void *data);

/**
 * disks_snapshot_list() - an array, parents before their children, each with its depth; new
 * reference
 */
int disks_snapshot_list(struct disks *disks, struct desktop *desktop, json_t **ret,
			struct err *err) warn_unused;

/**
 * disks_snapshot_revert() - what was written since is thrown away
 * @cb: fires exactly once, maybe inside this call
 *
 * A desktop that runs is switched off first and started again after it; one with memory goes on
 * where it was. Errors: ERR_NOT_FOUND, ERR_BUSY, ERR_CONFLICT (being deleted).
 */
void disks_snapshot_revert(struct disks *disks, struct desktop *desktop, const char *ref,
			   disks_done_cb cb, void *data);

/**
 * disks_snapshot_delete() - what it alone keeps goes; what others stand on is merged with them
 * @speed:   bytes a second, or 0
 * @ret_job: borrowed
 *
 * A desktop that runs goes on meanwhile. Once it is merged by a commit the snapshot cannot be gone
 * back to, also when the job is cancelled or fails; deleting it again goes on with it.
 */
int disks_snapshot_delete(struct disks *disks, struct desktop *desktop, const char *ref,
			  int64_t speed, const char **ret_job, struct err *err) warn_unused;

/** disks_flatten() - merge all files that no snapshot needs; @all: and the images below */
int disks_flatten(struct disks *disks, struct desktop *desktop, bool all, int64_t speed,
		  const char **ret_job, struct err *err) warn_unused;
