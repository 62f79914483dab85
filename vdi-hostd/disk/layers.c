#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/private.h"

struct layer *layers_find(struct layers *layers, const char *file)
{
	for (size_t i = 0; i < layers->n; i++)
		if (strcmp(layers->list[i].file, file) == 0)
			return &layers->list[i];
	return NULL;
}

static int add(struct layers *layers, const struct image_layer *from, unsigned int disk,
	       const char *image_id, struct layer **ret, struct err *err)
{
	*ret = layers_find(layers, from->file);
	if (*ret)
		return 0;
	if (layers->n == LAYERS_MAX)
		return err_set(err, ERR_LIMIT, "a desktop's disks have more than %d files",
			       LAYERS_MAX);
	struct layer *layer = &layers->list[layers->n++];
	*layer = (struct layer){.below = -1,
				.only = -1,
				.disk = disk,
				.allocated = from->allocated,
				.virtual_size = from->virtual_size};
	if (str_copy(layer->file, sizeof(layer->file), from->file) < 0)
		return err_set(err, ERR_CORRUPT, "the name of a desktop's file is too long");
	if (disk == DB_DISK_SYSTEM)
		snprintf(layer->image_id, sizeof(layer->image_id), "%s", image_id);
	*ret = layer;
	return 0;
}

/* One file that a row names, and what it stands on. */
static int add_chain(struct disks *disks, struct layers *layers, const char *file,
		     unsigned int disk, const char *image_id, struct layer **ret, struct err *err)
{
	struct image_layer chain[QEMU_CHAIN_MAX];
	struct layer *above = NULL;
	size_t n;

	if (images_layers(disks->env.images, file, chain, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		struct layer *layer;
		if (add(layers, &chain[i], disk, image_id, &layer, err) < 0)
			return -1;
		if (above && above->below < 0) {
			above->below = (int)(layer - layers->list);
			layer->only = (int)(above - layers->list);
			layer->above++;
		}
		if (!above)
			*ret = layer;
		above = layer;
	}
	return 0;
}

struct loading {
	struct disks *disks;
	struct layers *layers;
	struct err *err;
};

static int add_snapshot(void *data, const struct db_snapshot *row)
{
	struct loading *loading = data;

	/* one that is being deleted keeps nothing */
	for (unsigned int i = 0; i < DB_DISKS && row->state != DB_SNAPSHOT_DELETING; i++) {
		struct layer *layer;
		if (!row->disks[i].file[0])
			continue;
		if (add_chain(loading->disks, loading->layers, row->disks[i].file, i, row->image_id,
			      &layer, loading->err) < 0)
			return -1;
		layer->is_named = true;
	}
	return 0;
}

int layers_load(struct disks *disks, struct desktop *desktop, struct layers *ret, struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);
	struct loading loading = {disks, ret, err};
	struct layer *layer;

	ret->n = 0;
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		if (!row->disks[i].file[0])
			continue;
		if (add_chain(disks, ret, row->disks[i].file, i, row->image_id, &layer, err) < 0)
			return -1;
		layer->is_top = true;
	}
	if (row->previous.file[0]) {
		if (add_chain(disks, ret, row->previous.file, DB_DISK_SYSTEM,
			      row->previous_image_id, &layer, err) < 0)
			return -1;
		layer->is_top = true;
	}
	return db_snapshot_each(disks->env.db, row->id, add_snapshot, &loading, err);
}

/*
 * From the lowest to @file itself: who is interrupted finds the rest below the file that a row
 * still names as one to be deleted.
 */
static int drop(struct disks *disks, const char *file, struct layers *needed, struct err *err)
{
	struct image_layer chain[QEMU_CHAIN_MAX];
	struct err failed;
	size_t n, end = 0;

	if (images_layers(disks->env.images, file, chain, &n, &failed) < 0) {
		if (failed.code == ERR_NOT_FOUND)
			return 0;
		/* what cannot be read leads nowhere */
		return images_overlay_delete(disks->env.images, file, err);
	}
	while (end < n && !(needed && layers_find(needed, chain[end].file)))
		end++;
	for (size_t i = end; i-- > 0;)
		if (images_overlay_delete(disks->env.images, chain[i].file, err) < 0)
			return -1;
	return 0;
}

int layers_drop(struct disks *disks, struct desktop *desktop, const char *file, struct err *err)
{
	_cleanup_free_ struct layers *layers = mem_new(struct layers);

	return layers_load(disks, desktop, layers, err) < 0 ? -1 : drop(disks, file, layers, err);
}

int layers_drop_all(struct disks *disks, const char *file, struct err *err)
{
	return drop(disks, file, NULL, err);
}
