/*
 * Disks that grow: by QEMU's block_resize, of the guest's QEMU where the desktop runs and of a
 * parked one where it is stopped. The row promises the new size before the file has it: a quota
 * counts it from then on, and doing it again after a crash is fine.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"
#include "vdi-hostd/image/quota.h"

#define RESIZE_DEADLINE_MS 30000

struct grow {
	struct desktop *desktop;
	desktop_cb cb;
	void *data;
	int at; /* the disk under way */
	struct db_disk old[DB_DISKS];
	int64_t wanted[DB_DISKS];
};

static void resize_next(struct grow *grow);

static const char *const disk_names[] = {[DB_DISK_SYSTEM] = "system", [DB_DISK_DATA] = "data"};

static int check(const struct desktop *desktop, const int64_t *bytes, struct err *err)
{
	const struct db_disk *disks = desktop->row.disks;
	int64_t more = 0;

	for (int i = 0; i < DB_DISKS; i++) {
		if (bytes[i] == 0)
			continue;
		const char *field = i == DB_DISK_SYSTEM ? "disk_gib" : "data_disk_gib";
		if (disks[i].file[0] == '\0')
			return err_set_field(err, field, "desktop '%s' has no %s disk",
					     desktop->row.name, disk_names[i]);
		if (bytes[i] < disks[i].bytes)
			return err_set_field(err, field,
					     "the %s disk of '%s' has %lld bytes, and a disk "
					     "cannot become smaller",
					     disk_names[i], desktop->row.name,
					     (long long)disks[i].bytes);
		more += bytes[i] - disks[i].bytes;
	}
	return images_quota_charge_check(desktop->all->env.images, desktop->row.owner, more, err);
}

static int promise(struct grow *grow, const int64_t *bytes, struct err *err)
{
	struct db_disk *disks = grow->desktop->row.disks;

	memcpy(grow->old, disks, sizeof(grow->old));
	memcpy(grow->wanted, bytes, sizeof(grow->wanted));
	for (int i = 0; i < DB_DISKS; i++)
		if (bytes[i])
			disks[i].bytes = bytes[i];
	if (desktop_save(grow->desktop, err) == 0)
		return 0;
	memcpy(disks, grow->old, sizeof(grow->old));
	return -1;
}

/* what did not grow is what it was; a file that took its place meanwhile is left alone */
static void take_back(struct grow *grow)
{
	struct desktop *desktop = grow->desktop;
	struct db_disk *disks = desktop->row.disks;
	struct err err;

	for (int i = grow->at; i < DB_DISKS; i++)
		if (strcmp(disks[i].file, grow->old[i].file) == 0)
			disks[i].bytes = grow->old[i].bytes;
	if (desktop_save(desktop, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
}

static void grow_end(struct grow *grow, const struct err *err)
{
	struct desktop *desktop = grow->desktop;

	if (!desktop->all->closing) {
		if (err)
			take_back(grow);
		desktop_work_end(desktop);
	}
	grow->cb(grow->data, err ? NULL : desktop, err);
	free(grow);
}

static void on_resized(void *data, json_t *result, const struct err *err)
{
	struct grow *grow = data;
	struct desktop *desktop = grow->desktop;
	struct err failed;

	if (!err) {
		log_info("desktop %s: its %s disk has %lld bytes now", desktop->row.name,
			 disk_names[grow->at], (long long)desktop->row.disks[grow->at].bytes);
		grow->at++;
		resize_next(grow);
		return;
	}
	failed = *err;
	err_prefix(&failed, "the %s disk of '%s' does not grow", disk_names[grow->at],
		   desktop->row.name);
	grow_end(grow, &failed);
}

/* QEMU resizes no disk with marks of a backup that a kill made worthless */
static void drop_broken_bitmaps(struct qmp *qmp, json_t *nodes, const char *wanted)
{
	json_t *node, *bitmap;
	size_t i, k;

	json_array_foreach(nodes, i, node)
	{
		json_t *name = json_object_get(node, "node-name");
		if (!json_is_string(name) || strcmp(json_string_value(name), wanted) != 0)
			continue;
		json_array_foreach(json_object_get(node, "dirty-bitmaps"), k, bitmap)
		{
			if (json_is_true(json_object_get(bitmap, "inconsistent")))
				qmp_execute(qmp, "block-dirty-bitmap-remove",
					    json_pack("{s:O, s:O}", "node", name, "name",
						      json_object_get(bitmap, "name")),
					    0, NULL, NULL);
		}
	}
}

static void on_nodes(void *data, json_t *result, const struct err *err)
{
	struct grow *grow = data;
	struct desktop *desktop = grow->desktop;
	const struct db_disk *disk = &desktop->row.disks[grow->at];
	char node[QEMU_NODE_MAX + 1];

	if (err && err->code != ERR_UNSUPPORTED) {
		on_resized(data, NULL, err);
		return;
	}
	images_node(disk->file, node);
	drop_broken_bitmaps(desktop->qmp, result, node);
	qmp_execute(desktop->qmp, "block_resize",
		    json_pack("{s:s, s:I}", "node-name", node, "size", (json_int_t)disk->bytes),
		    RESIZE_DEADLINE_MS, on_resized, grow);
}

static void resize_next(struct grow *grow)
{
	struct desktop *desktop = grow->desktop;

	/* also one that has its size by the row: a crash may have come before the file had it */
	while (grow->at < DB_DISKS && grow->wanted[grow->at] == 0)
		grow->at++;
	if (grow->at == DB_DISKS) {
		grow_end(grow, NULL);
		return;
	}
	qmp_execute(desktop->qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1),
		    RESIZE_DEADLINE_MS, on_nodes, grow);
}

static void on_ready(void *data, const struct err *err)
{
	struct grow *grow = data;

	if (err)
		grow_end(grow, err);
	else
		resize_next(grow);
}

static void on_event(void *data, const char *name, json_t *event)
{
}

/* the command that is under way is answered in any case, and that is the end */
static void on_gone(void *data, const struct err *err)
{
}

void desktop_grow(struct desktop *desktop, const int64_t *bytes, desktop_cb cb, void *data)
{
	struct grow *grow = mem_new(struct grow);
	const struct desktop_work work = {"its disks grow", on_event, on_gone, grow};
	struct err err;

	*grow = (struct grow){.desktop = desktop, .cb = cb, .data = data};
	if (check(desktop, bytes, &err) < 0 || desktop_work_begin(desktop, &work, &err) < 0) {
		cb(data, NULL, &err);
		free(grow);
		return;
	}
	if (promise(grow, bytes, &err) < 0) {
		desktop_work_end(desktop);
		cb(data, NULL, &err);
		free(grow);
		return;
	}
	desktop_work_open(desktop, on_ready);
}
