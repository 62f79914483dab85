/*
 * The system disk of a disposable desktop begins anew: thrown away as its QEMU ends, where that
 * can be done, and before each start in any case.
 *
 * The row says first what is to come: the new file, and as `previous` the old one. Who finds that
 * after a crash goes on from there.
 */
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/db/snapshot.h"
#include "vdi-hostd/desktop/private.h"

static const char plan[] = "desktop-renew";

static int any_row(void *data, const struct db_snapshot *row)
{
	return 1;
}

static int refuse_snapshots(struct desktop *desktop, struct err *err)
{
	int n = db_snapshot_each(desktop->all->env.db, desktop->row.id, any_row, NULL, err);
	if (n <= 0)
		return n;
	return err_set(err, ERR_BUSY,
		       "the disks of desktop '%s' are still read by other work; try again when its "
		       "job is over",
		       desktop->row.name);
}

/* With what it stands on of the desktop's own, the lowest first. */
static int delete_old(struct desktop *desktop, struct err *err)
{
	struct images *images = desktop->all->env.images;
	struct image_layer layers[QEMU_CHAIN_MAX];
	const char *file = desktop->row.previous.file;
	size_t n;
	if (images_layers(images, file, layers, &n, err) < 0)
		return err->code == ERR_NOT_FOUND ? 0 : images_overlay_delete(images, file, err);
	while (n-- > 0)
		if (images_overlay_delete(images, layers[n].file, err) < 0)
			return -1;
	return 0;
}

static int make_new(struct desktop *desktop, struct err *err)
{
	struct images *images = desktop->all->env.images;
	const struct db_disk *disk = &desktop->row.disks[DB_DISK_SYSTEM];
	const struct db_image *image = images_find(images, desktop->row.image_id, err);
	if (!image)
		return -1;
	if (images_overlay_renew(images, image, disk->file, disk->bytes, err) < 0 &&
	    err->code != ERR_EXISTS)
		return -1;
	return 0;
}

int desktop_renew_settle(struct desktop *desktop, struct err *err)
{
	struct db_desktop *row = &desktop->row;
	if (!row->disposable || row->previous.file[0] == '\0')
		return 0;
	/* first the old: on a full store that makes room for the new */
	if (delete_old(desktop, err) < 0)
		return -1;
	plan_crash_point(plan, "old", "after");
	if (make_new(desktop, err) < 0)
		return -1;
	plan_crash_point(plan, "new", "after");
	row->previous = (struct db_disk){0};
	return desktop_save(desktop, err);
}

static int fill(struct desktop *desktop, struct db_desktop *row, struct err *err)
{
	const char *id = row->next_image_id[0] ? row->next_image_id : row->image_id;
	const struct db_image *image = images_find(desktop->all->env.images, id, err);
	struct db_disk *disk = &row->disks[DB_DISK_SYSTEM];
	if (!image)
		return -1;
	row->previous = *disk;
	images_layer_file(row->id, disk->file);
	if (disk->bytes < image->virtual_size)
		disk->bytes = image->virtual_size;
	memcpy(row->image_id, image->id, sizeof(row->image_id));
	row->next_image_id[0] = '\0';
	return 0;
}

int desktop_renew(struct desktop *desktop, struct err *err)
{
	struct db_desktop old;
	if (!desktop->row.disposable)
		return 0;
	if (refuse_snapshots(desktop, err) < 0 || desktop_renew_settle(desktop, err) < 0)
		return -1;
	old = desktop->row;
	if (fill(desktop, &desktop->row, err) < 0 || desktop_save(desktop, err) < 0) {
		desktop->row = old;
		return -1;
	}
	plan_crash_point(plan, "row", "after");
	return desktop_renew_settle(desktop, err);
}

void desktop_renew_ended(struct desktop *desktop)
{
	struct err err;
	if (desktop_renew(desktop, &err) < 0)
		log_warn("desktop %s: what was written stays until its next start: %s",
			 desktop->row.name, err.msg);
}

int desktop_make_disposable(struct desktop *desktop, bool disposable, struct err *err)
{
	struct db_desktop *row = &desktop->row;
	if (row->disposable == disposable)
		return 0;
	if (!disposable) {
		if (!desktop->watch && desktop_renew_settle(desktop, err) < 0)
			return -1;
		row->disposable = false;
		row->next_image_id[0] = '\0';
		return 0;
	}
	if (row->previous.file[0])
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' was moved to another version of its image; confirm "
			       "that or undo it first",
			       row->name);
	int n = db_snapshot_each(desktop->all->env.db, row->id, any_row, NULL, err);
	if (n > 0)
		err_set(err, ERR_CONFLICT,
			"desktop '%s' has snapshots, which a disposable one cannot have; delete "
			"them first",
			row->name);
	if (n != 0)
		return -1;
	row->disposable = true;
	return 0;
}
