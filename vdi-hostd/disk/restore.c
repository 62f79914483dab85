/* A new desktop with the disks of a backup: files that stand on nothing, equal to what it holds. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "vdi-hostd/disk/backup_private.h"
#include "vdi-hostd/image/quota.h"
#include "vdi-hostd/image/tool.h"

struct restore {
	struct disks *disks; /* NULL once the daemon stops */
	struct images *images;
	struct job *job; /* NULL once it was settled */
	struct plan *plan;
	struct db_backup row;
	char name[STR_NAME_MAX + 1], network[STR_NAME_MAX + 1], image[STR_UUID_LEN + 1];
	char owner[STR_NAME_MAX + 1];
	char files[DB_DISKS][64]; /* in tmp/ */
	int fds[DB_DISKS];
	struct store_layer layers[QEMU_CHAIN_MAX];
	size_t n_layers;
	unsigned int disk; /* that is being worked on */
	int64_t done, total;
	struct image_tool *tool;
	struct bulk *bulk;
	char desktop_id[STR_UUID_LEN + 1];
	void (*waiting)(struct plan *plan, void *ctx); /* an undo, for the end of the work */
	struct restore *prev, *next;
};

static bool has(const struct restore *restore, unsigned int disk)
{
	return restore->row.disks[disk].file[0];
}

static bool is_busy(struct restore *restore, void (*undo)(struct plan *plan, void *ctx))
{
	if (restore->tool)
		image_tool_cancel(restore->tool);
	if (restore->bulk)
		bulk_cancel(restore->bulk);
	bool busy = restore->tool || restore->bulk;
	restore->waiting = busy ? undo : NULL;
	return busy;
}

static void stop(struct plan *plan, void *ctx)
{
	if (!is_busy(ctx, stop))
		plan_undone(plan);
}

/* ---- convert: each disk's chain into one file ---- */

static void convert_next(struct restore *restore);

static void tool_progress(void *data, int percent_100)
{
	struct restore *restore = data;

	if (restore->job)
		job_progress(restore->job,
			     restore->done +
				     (int64_t)((double)percent_100 / 10000 *
					       (double)restore->row.disks[restore->disk].bytes),
			     restore->total);
}

static void tool_done(void *data, const struct err *err)
{
	struct restore *restore = data;

	restore->tool = NULL;
	store_close_chain(restore->layers, restore->n_layers);
	restore->n_layers = 0;
	if (restore->waiting) {
		restore->waiting(restore->plan, restore);
	} else if (err) {
		plan_fail(restore->plan, err);
	} else {
		restore->done += restore->row.disks[restore->disk++].bytes;
		convert_next(restore);
	}
}

static const struct image_tool_ops tool_ops = {tool_progress, tool_done};

static int convert_one(struct restore *restore, struct err *err)
{
	const struct db_disk *disk = &restore->row.disks[restore->disk];
	struct store *store = images_store(restore->images);
	int sources[QEMU_CHAIN_MAX];

	if (store_open_chain(store, STORE_BACKUPS, disk->file, O_RDONLY, restore->layers,
			     QEMU_CHAIN_MAX, &restore->n_layers, err) < 0)
		return -1;
	for (size_t i = 0; i < restore->n_layers; i++) {
		if (restore->layers[i].folder != STORE_BACKUPS)
			return err_set(err, ERR_CORRUPT,
				       "backup %s leads to %.60s, which is no backup",
				       restore->row.id, restore->layers[i].file);
		sources[i] = restore->layers[i].fd;
	}
	if (store_create_tmp(store, restore->files[restore->disk], 0666,
			     &restore->fds[restore->disk], err) < 0)
		return -1;
	const struct image_tool_work work = {
		.img = {.source_format = PRIV_IMG_QCOW2, .target_format = PRIV_IMG_QCOW2},
		.sources = sources,
		.n_sources = restore->n_layers,
		.target = restore->fds[restore->disk],
	};
	return image_tool_start(restore->images, &work, &tool_ops, restore, &restore->tool, err);
}

static void convert_next(struct restore *restore)
{
	struct err err;

	while (restore->disk < DB_DISKS && !has(restore, restore->disk))
		restore->disk++;
	if (restore->disk == DB_DISKS)
		plan_next(restore->plan);
	else if (convert_one(restore, &err) < 0)
		plan_fail(restore->plan, &err);
}

static void convert(struct plan *plan, void *ctx)
{
	struct restore *restore = ctx;

	restore->disk = 0;
	convert_next(restore);
}

static void drop_files(struct plan *plan, void *ctx)
{
	struct restore *restore = ctx;

	if (is_busy(restore, drop_files))
		return;
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		if (restore->fds[i] < 0)
			continue;
		close(TAKE_FD(restore->fds[i]));
		(void)!store_delete(images_store(restore->images), STORE_TMP, restore->files[i],
				    NULL);
	}
	plan_undone(plan);
}

/* ---- check, sync: what the tool made is looked at like a stranger's ---- */

static void sync_next(struct restore *restore);

static void on_synced(void *data, const char *sha256, const struct err *err)
{
	struct restore *restore = data;

	restore->bulk = NULL;
	if (restore->waiting) {
		restore->waiting(restore->plan, restore);
	} else if (err) {
		plan_fail(restore->plan, err);
	} else {
		restore->disk++;
		sync_next(restore);
	}
}

static const struct bulk_ops sync_ops = {NULL, on_synced};

static int check_result(const struct restore *restore, struct err *err)
{
	int64_t expected = restore->row.disks[restore->disk].bytes;
	struct qcow2_header header;

	if (qcow2_read(restore->fds[restore->disk], 0, &header, err) < 0)
		return err_prefix(err, "qemu-img's result");
	if ((int64_t)header.virtual_size != expected)
		return err_set(err, ERR_CORRUPT,
			       "qemu-img's result has %llu bytes where the backup has %lld",
			       (unsigned long long)header.virtual_size, (long long)expected);
	return 0;
}

static void sync_next(struct restore *restore)
{
	struct err err;

	while (restore->disk < DB_DISKS && !has(restore, restore->disk))
		restore->disk++;
	if (restore->disk == DB_DISKS)
		plan_next(restore->plan);
	else if (check_result(restore, &err) < 0)
		plan_fail(restore->plan, &err);
	else
		restore->bulk = bulk_sync(restore->disks->env.loop, restore->fds[restore->disk],
					  0600, &sync_ops, restore);
}

static void sync_files(struct plan *plan, void *ctx)
{
	struct restore *restore = ctx;

	restore->disk = 0;
	sync_next(restore);
}

/* ---- create ---- */

static void on_created(void *data, struct desktop *desktop, const struct err *err)
{
	struct restore *restore = data;

	/* the end of the daemon is told of elsewhere */
	if (!restore->disks)
		return;
	if (desktop)
		memcpy(restore->desktop_id, desktop_row(desktop)->id, sizeof(restore->desktop_id));
	plan_end_step(restore->plan, err ? -1 : 0, err);
}

static void create(struct plan *plan, void *ctx)
{
	struct restore *restore = ctx;
	const struct db_backup *row = &restore->row;
	struct desktop_create wanted = {
		.name = restore->name,
		.image = restore->image,
		.network = restore->network[0] ? restore->network : NULL,
		.owner = restore->owner,
		.memory_mib = row->memory_mib,
		.vcpus = row->vcpus,
		.disk_bytes = row->disks[DB_DISK_SYSTEM].bytes,
		.data_disk_bytes = row->disks[DB_DISK_DATA].bytes,
	};

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (has(restore, i))
			wanted.adopt[i] = restore->files[i];
	desktops_create(restore->disks->env.desktops, &wanted, on_created, restore);
}

static const struct plan_step restore_plan[] = {
	{"convert", convert, drop_files, BACKUP_LONG_MS},
	{"sync", sync_files, stop, BACKUP_LONG_MS},
	{"create", create, NULL},
};

/* ---- the whole ---- */

static void restore_free(struct restore *restore)
{
	for (unsigned int i = 0; i < DB_DISKS; i++)
		mem_closep(&restore->fds[i]);
	store_close_chain(restore->layers, restore->n_layers);
	images_unhold(restore->images);
	free(restore);
}

static void restore_done(void *ctx, const struct err *err)
{
	struct restore *restore = ctx;
	struct job *job = TAKE_PTR(restore->job);
	json_t *json = json_pack("{s:s, s:s, s:s}", "backup", restore->row.id, "desktop",
				 restore->name, "desktop_id", restore->desktop_id);

	if (restore->disks)
		DL_DELETE(restore->disks->restores, restore);
	restore_free(restore);
	if (job && !err) {
		job_done(job, json);
		return;
	}
	json_decref(json);
	if (job)
		job_fail(job, err);
}

static void cancel(void *data)
{
	struct restore *restore = data;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the restore of desktop '%s' was cancelled", restore->name);
	plan_cancel(restore->plan, &err);
}

void restores_free(struct disks *disks)
{
	struct restore *restore, *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; restore the backup again");
	DL_FOREACH_SAFE(disks->restores, restore, next)
	{
		DL_DELETE(disks->restores, restore);
		restore->disks = NULL;
		job_fail(TAKE_PTR(restore->job), &err);
		plan_cancel(restore->plan, &err);
	}
}

/* what the desktop counts as a clone of, though its disks stand on nothing */
static int choose_image(struct restore *restore, const char *wanted, struct err *err)
{
	const struct db_image *image =
		images_find(restore->images, wanted ? wanted : restore->row.image_id, err);

	if (!image && !wanted)
		return err_set_field(err, "image",
				     "the image that desktop '%s' was made from is gone; say by "
				     "`image` what the restored one shall count as a clone of",
				     restore->row.desktop_name);
	if (!image)
		return -1;
	memcpy(restore->image, image->id, sizeof(restore->image));
	return 0;
}

static int check_room(struct restore *restore, const struct db_backup *chain, size_t n,
		      struct err *err)
{
	int64_t need = 0, has_bytes, all;

	for (size_t i = 0; i < n; i++)
		need += chain[i].stored_bytes;
	if (images_space_check(restore->images, "a backup cannot be restored", err) < 0 ||
	    images_disk_free(restore->images, &has_bytes, &all, err) < 0)
		return -1;
	if (has_bytes >= need + BACKUP_SPARE_BYTES)
		return 0;
	return err_set(err, ERR_LIMIT,
		       "the restored disks may take %lld MiB and the store has %lld MiB free",
		       (long long)(need >> 20), (long long)(has_bytes >> 20));
}

static int prepare(struct restore *restore, const struct disks_restore *wanted, struct err *err)
{
	struct disks *disks = restore->disks;
	struct db_backup chain[QEMU_CHAIN_MAX];
	size_t n;

	if (backup_find(disks, wanted->backup, &restore->row, err) < 0 ||
	    backup_chain(disks, restore->row.id, chain, &n, err) < 0)
		return -1;
	if (str_copy(restore->name, sizeof(restore->name), wanted->name) < 0 ||
	    (wanted->network &&
	     str_copy(restore->network, sizeof(restore->network), wanted->network) < 0) ||
	    str_copy(restore->owner, sizeof(restore->owner),
		     wanted->owner ? wanted->owner : restore->row.owner) < 0)
		return err_set(err, ERR_INVALID, "a name is too long");
	/* what create would say, before hours of work */
	if (desktops_find(disks->env.desktops, wanted->name, NULL))
		return err_set(err, ERR_EXISTS, "there is a desktop '%s' already", wanted->name);
	if (wanted->network && !networks_find(disks->env.networks, wanted->network, err))
		return -1;
	for (unsigned int i = 0; i < DB_DISKS; i++)
		restore->total += has(restore, i) ? restore->row.disks[i].bytes : 0;
	if (choose_image(restore, wanted->image, err) < 0 ||
	    images_quota_charge_check(restore->images, restore->owner, restore->total, err) < 0)
		return -1;
	return check_room(restore, chain, n, err);
}

int disks_restore(struct disks *disks, const struct disks_restore *wanted, const char **ret_job_id,
		  struct err *err)
{
	struct restore *restore = mem_new(struct restore);
	char random[17];

	restore->disks = disks;
	restore->images = disks->env.images;
	images_hold(restore->images);
	str_random_hex(random, 8);
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		restore->fds[i] = -1;
		snprintf(restore->files[i], sizeof(restore->files[i]), "restore-%s-%u", random, i);
	}
	if (prepare(restore, wanted, err) < 0 ||
	    job_start(disks->env.jobs, "backup.restore", restore->row.id, "bytes", cancel, restore,
		      &restore->job, err) < 0) {
		restore_free(restore);
		return -1;
	}
	DL_APPEND(disks->restores, restore);
	restore->plan = plan_start(disks->env.loop, "backup-restore", restore_plan,
				   ARRAY_LEN(restore_plan), restore, restore_done);
	*ret_job_id = job_id(restore->job);
	return 0;
}
