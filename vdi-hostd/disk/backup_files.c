/* The row and the files of a backup: there before QEMU writes to them, whole after it. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/disk/backup_private.h"
#include "vdi-hostd/image/quota.h"

/* ---- row ---- */

/* one more has to fit on those before it, and all of them have to be there */
static void check_parents(struct backup *backup)
{
	struct db_backup chain[QEMU_CHAIN_MAX];
	struct err err;
	size_t n;

	if (backup->full)
		return;
	int failed = backup_chain(backup->disks, backup->parent.id, chain, &n, &err);
	if (failed == 0 && n < QEMU_CHAIN_MAX)
		return;
	backup->full = true;
	snprintf(backup->reason, sizeof(backup->reason), "%.159s",
		 failed ? err.msg : "as many backups stand on each other as may");
}

static int estimate(struct backup *backup, struct err *err)
{
	const struct db_desktop *row = desktop_row(backup->desktop);
	struct images *images = backup->disks->env.images;
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t n;

	backup->need = backup->full ? 0 : backup->need;
	for (unsigned int i = 0; i < DB_DISKS && backup->full; i++) {
		if (!backup_has(backup, i))
			continue;
		if (images_chain_read(images, row->disks[i].file,
				      i == DB_DISK_SYSTEM ? row->image_id : "", layers, &n,
				      err) < 0)
			return -1;
		for (size_t k = 0; k < n; k++)
			backup->need += layers[k].allocated;
		images_chain_close(layers, n);
	}
	return 0;
}

static int check_space(struct backup *backup, struct err *err)
{
	int64_t has, total;

	if (estimate(backup, err) < 0 ||
	    images_disk_free(backup->disks->env.images, &has, &total, err) < 0 ||
	    images_space_check(backup->disks->env.images, "a backup cannot be made", err) < 0)
		return -1;
	if (has >= backup->need + BACKUP_SPARE_BYTES)
		return 0;
	return err_set(err, ERR_LIMIT,
		       "the backup may take %lld MiB and the store has %lld MiB free; delete "
		       "backups or images, or make room",
		       (long long)((backup->need + BACKUP_SPARE_BYTES) >> 20),
		       (long long)(has >> 20));
}

void backup_add_row(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct err err;

	check_parents(backup);
	if (!backup->full)
		memcpy(backup->row.parent_id, backup->parent.id, sizeof(backup->row.parent_id));
	/* what it takes is known at its end */
	if (check_space(backup, &err) < 0 ||
	    images_quota_charge_check(backup->disks->env.images, backup->row.owner, 0, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_end_step(plan, db_backup_insert(backup->disks->env.db, &backup->row, &err),
			      &err);
}

void backup_drop_row(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct err err;
	bool there;

	/* a row whose files are still there has to stay, to be tried again at the next start */
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (backup_has(backup, i) &&
		    (store_has(images_store(backup->disks->env.images), STORE_BACKUPS,
			       backup->row.disks[i].file, &there, &err) < 0 ||
		     there)) {
			plan_undone(plan);
			return;
		}
	if (db_backup_delete(backup->disks->env.db, backup->row.id, &err) < 0)
		log_err("a backup of desktop %s: %s", backup->row.desktop_name, err.msg);
	plan_undone(plan);
}

/* ---- files ---- */

static int make_file(struct backup *backup, unsigned int disk, struct err *err)
{
	struct store *store = images_store(backup->disks->env.images);
	const struct db_disk *row = &backup->row.disks[disk];
	char below[160];
	_cleanup_close_ int fd = -1;

	if (!backup->full)
		store_backing_name(STORE_BACKUPS, backup->parent.disks[disk].file, below);
	if (store_create_tmp(store, row->file, 0600, &fd, err) < 0 ||
	    qcow2_write(fd, (uint64_t)row->bytes, backup->full ? NULL : below,
			backup->full ? NULL : "qcow2", err) < 0 ||
	    store_move(store, STORE_TMP, row->file, STORE_BACKUPS, row->file, err) < 0)
		return -1;
	backup->fds[disk] = TAKE_FD(fd);
	return 0;
}

void backup_make_files(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct err err;
	int failed = 0;

	for (unsigned int i = 0; i < DB_DISKS && failed == 0; i++)
		if (backup_has(backup, i))
			failed = make_file(backup, i, &err);
	plan_end_step(plan, failed, &err);
}

void backup_drop_files(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct err err;

	if (backup_delete_files(backup->disks, &backup->row, &err) < 0)
		log_err("a backup of desktop %s: %s", backup->row.desktop_name, err.msg);
	plan_undone(plan);
}

/* ---- sum, sync: one file after the other ---- */

static void next_file(struct backup *backup, struct bulk *(*begin)(struct backup *backup, int fd))
{
	while (backup->disk < DB_DISKS && !backup_has(backup, backup->disk))
		backup->disk++;
	if (backup->disk == DB_DISKS)
		plan_next(backup->plan);
	else
		backup->bulk = begin(backup, backup->fds[backup->disk]);
}

static struct bulk *begin_sum(struct backup *backup, int fd);

static void on_sum(void *data, const char *sha256, const struct err *err)
{
	struct backup *backup = data;

	backup->bulk = NULL;
	if (backup->stopping) {
		backup_free(backup);
		return;
	}
	if (err || backup->waiting) {
		backup_proceed(backup, err);
		return;
	}
	memcpy(backup->row.sha256[backup->disk++], sha256, BULK_SHA256_LEN + 1);
	next_file(backup, begin_sum);
}

static const struct bulk_ops sum_ops = {NULL, on_sum};

static struct bulk *begin_sum(struct backup *backup, int fd)
{
	return bulk_sha256(backup->disks->env.loop, fd, &sum_ops, backup);
}

void backup_sum_files(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	backup->disk = 0;
	next_file(backup, begin_sum);
}

static struct bulk *begin_sync(struct backup *backup, int fd);

static void on_synced(void *data, const char *sha256, const struct err *err)
{
	struct backup *backup = data;

	backup->bulk = NULL;
	if (backup->stopping) {
		backup_free(backup);
		return;
	}
	if (err || backup->waiting) {
		backup_proceed(backup, err);
		return;
	}
	backup->disk++;
	next_file(backup, begin_sync);
}

static const struct bulk_ops sync_ops = {NULL, on_synced};

static struct bulk *begin_sync(struct backup *backup, int fd)
{
	return bulk_sync(backup->disks->env.loop, fd, 0440, &sync_ops, backup);
}

void backup_sync_files(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	backup->disk = 0;
	next_file(backup, begin_sync);
}

void backup_commit_row(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct db_backup *row = &backup->row;
	struct err err;
	int failed = 0;

	for (unsigned int i = 0; i < DB_DISKS && failed == 0; i++) {
		int64_t allocated = 0;
		if (backup_has(backup, i))
			failed = store_allocated(images_store(backup->disks->env.images),
						 STORE_BACKUPS, row->disks[i].file, &allocated,
						 &err);
		row->stored_bytes += allocated;
	}
	row->state = DB_BACKUP_READY;
	if (failed == 0)
		failed = images_quota_charge_check(backup->disks->env.images, row->owner,
						   row->stored_bytes, &err);
	if (failed == 0)
		failed = db_backup_update(backup->disks->env.db, row, &err);
	plan_end_step(plan, failed, &err);
}
