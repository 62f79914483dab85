/*
 * Backups of desktops: their disks at one moment, in files of their own. A full one holds all, an
 * incremental one what was written since the one before, on whose files its own stand.
 */
#pragma once

#include "vdi-hostd/db/backup.h"
#include "vdi-hostd/disk/freeze.h"

extern const char *const disks_backup_states[]; /* enum db_backup_state; ends with NULL */

/**
 * disks_backup() - running, paused or stopped; the desktop goes on meanwhile
 * @full: also where an incremental one is possible
 * @ret_job_id: the job that does it; its result says whether the backup is full, and why
 */
int disks_backup(struct disks *disks, struct desktop *desktop, bool full,
		 enum disks_quiesce quiesce, const char **ret_job_id, struct err *err) warn_unused;

/** disks_backup_list() - oldest first; @desktop: name or id, NULL for all; new reference */
int disks_backup_list(struct disks *disks, const char *desktop, json_t **ret,
		      struct err *err) warn_unused;
/** disks_backup_get() - @id: "latest:DESKTOP" is the newest one of a desktop */
int disks_backup_get(struct disks *disks, const char *id, json_t **ret,
		     struct err *err) warn_unused;
/** disks_backup_delete() - ERR_CONFLICT names those that stand on it; ERR_BUSY */
int disks_backup_delete(struct disks *disks, const char *id, struct err *err) warn_unused;
/** disks_backup_verify() - checksums of all files that it needs; what is wrong is marked broken */
int disks_backup_verify(struct disks *disks, const char *id, const char **ret_job_id,
			struct err *err) warn_unused;

/**
 * struct disks_restore - a new desktop with the disks of a backup
 * @image: what it counts as a clone of where the one it had is gone; its disks stand on none
 */
struct disks_restore {
	const char *backup, *name, *network, *image, *owner;
};

int disks_restore(struct disks *disks, const struct disks_restore *restore, const char **ret_job_id,
		  struct err *err) warn_unused;
