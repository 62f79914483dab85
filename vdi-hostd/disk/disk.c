#include "vdi-hostd/disk/disk.h"

#include <string.h>

#include "base/log.h"
#include "vdi-hostd/disk/export.h"
#include "vdi-hostd/disk/private.h"

static int settle(void *data, struct desktop *desktop, struct err *err)
{
	/* before a start: none of its QEMUs has the disks */
	return settle_stopped(data, desktop, err);
}

static int delete_row_files(void *data, const struct db_snapshot *row)
{
	struct disks *disks = data;
	struct err err;

	for (unsigned int i = 0; i < DB_DISKS; i++) {
		if ((row->next[i][0] &&
		     images_overlay_delete(disks->env.images, row->next[i], &err) < 0) ||
		    (row->disks[i].file[0] &&
		     layers_drop_all(disks, row->disks[i].file, &err) < 0)) {
			log_err("snapshot %s: %s", row->name, err.msg);
			return -1;
		}
	}
	if (row->memory_file[0] &&
	    images_state_delete(disks->env.images, row->memory_file, &err) < 0) {
		log_err("snapshot %s: %s", row->name, err.msg);
		return -1;
	}
	return 0;
}

/* A desktop goes with all that it ever wrote to. */
static int forget(void *data, struct desktop *desktop, struct err *err)
{
	struct disks *disks = data;
	const struct db_desktop *row = desktop_row(desktop);

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->disks[i].file[0] && layers_drop_all(disks, row->disks[i].file, err) < 0)
			return -1;
	if (row->previous.file[0] && layers_drop_all(disks, row->previous.file, err) < 0)
		return -1;
	int result = db_snapshot_each(disks->env.db, row->id, delete_row_files, disks, err);
	if (result < 0)
		return err_set(
			err, ERR_IO,
			"a file of one of its snapshots cannot be deleted; the log says why");
	return db_snapshot_delete_all(disks->env.db, row->id, err);
}

int disks_new(const struct disks_env *env, struct disks **ret, struct err *err)
{
	struct disks *disks = mem_new(struct disks);
	const struct desktop_keeper keeper = {settle, forget, disks};

	disks->env = *env;
	desktops_keep(env->desktops, &keeper);
	*ret = disks;
	return 0;
}

/* Also what nobody can be asked about yet: the next attempt is a second away. */
static void reconcile_one(void *data, struct desktop *desktop)
{
	struct err err;

	if (recompose_settle(data, desktop, &err) < 0)
		log_err("desktop %s: %s", desktop_row(desktop)->name, err.msg);
	settle_after_crash(data, desktop);
}

void disks_reconcile(struct disks *disks, void (*done)(void *data), void *data)
{
	desktops_each(disks->env.desktops, reconcile_one, disks);
	settle_now(disks);
	backups_reconcile(disks);
	done(data);
}

void disks_free(struct disks *disks)
{
	if (!disks)
		return;
	disks->closing = true;
	runs_free(disks);
	moves_free(disks);
	settle_free(disks);
	takes_free(disks);
	reverts_free(disks);
	exports_cancel(disks);
	merges_free(disks);
	held_free(disks);
	backups_free(disks);
	verifies_free(disks);
	restores_free(disks);
	captures_free(disks);
	free(disks);
}
