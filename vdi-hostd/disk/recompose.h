/*
 * Desktops move to another version of their image. A disposable one stands on it from its next
 * start. Of any other the system disk is made anew and the old one kept as the way back, until
 * somebody confirms the move; the data disk is not touched.
 */
#pragma once

#include "vdi-hostd/disk/disk.h"
#include "vdi-hostd/disk/snapshot.h"

extern const char *const disks_recompose_actions[]; /* ends with NULL */

/**
 * struct disks_recompose - how
 * @stop:  a desktop that runs is stopped for it, and started again
 * @force: also one without a data disk, whose user may keep things on the system disk
 * @dry_run: only say what would be done
 */
struct disks_recompose {
	bool stop, force, dry_run;
};

/**
 * disks_recompose() - move one desktop
 * @image: name, name:version or id
 * @cb:    fires exactly once, maybe inside this call; @result: {desktop, from, to, action, warning,
 *         error}; what is refused is an error, unless it is a dry run
 *
 * Errors: ERR_CONFLICT (it has snapshots, an unconfirmed move, runs; the version is retired),
 * ERR_BUSY, ERR_NOT_FOUND, ERR_LIMIT (disk full).
 */
void disks_recompose(struct disks *disks, struct desktop *desktop, const char *image,
		     const struct disks_recompose *how, disks_done_cb cb, void *data);

/**
 * struct disks_recompose_all - many desktops
 * @image:    the version that they move to
 * @from:     only those that stand on this version; NULL: on any other version of that name
 * @desktops: only these: an array of names or ids, or NULL
 */
struct disks_recompose_all {
	const char *image, *from;
	json_t *desktops;
	struct disks_recompose how;
};

/** disks_recompose_all() - one after the other, by a job that counts them; what is refused of one
 * desktop stands in the job's result, and the others go on */
int disks_recompose_all(struct disks *disks, const struct disks_recompose_all *what,
			const char **ret_job_id, struct err *err) warn_unused;

/** disks_recompose_undo() - back to the system disk as it was; what was written since is lost */
void disks_recompose_undo(struct disks *disks, struct desktop *desktop, desktop_cb cb, void *data);

/** disks_recompose_confirm() - the way back is given up, and its space with it; also while the
 * desktop runs */
void disks_recompose_confirm(struct disks *disks, struct desktop *desktop, desktop_cb cb,
			     void *data);
