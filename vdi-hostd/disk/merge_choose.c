/* What is to be merged next: which file goes, and into which. */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/merge_private.h"

static struct merge_part *add_part(struct merge *merge, const struct layer *into, const char *layer)
{
	struct merge_part *part = &merge->parts[merge->n_parts++];

	*part = (struct merge_part){.disk = into->disk};
	memcpy(part->into, into->file, sizeof(part->into));
	memcpy(part->image_id, into->image_id, sizeof(part->image_id));
	snprintf(part->layer, sizeof(part->layer), "%s", layer);
	return part;
}

static bool is_written(struct merge *merge, const struct layer *layer)
{
	const struct db_disk *disk = &desktop_row(merge_desktop(merge))->disks[layer->disk];

	return strcmp(disk->file, layer->file) == 0;
}

/* Those of the snapshot that is deleted and that exactly one other stands on. */
static void choose_row(struct merge *merge, struct layers *layers)
{
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		struct layer *layer = layers_find(layers, merge->row.disks[i].file);
		if (!layer || layer->above != 1 || layer->is_top)
			continue;
		const struct layer *into = &layers->list[layer->only];
		struct merge_part *part = add_part(merge, into, layer->file);
		part->commit = is_written(merge, into) && into->allocated < layer->allocated;
	}
}

/* One a disk that nothing names, the lowest first: nothing is copied twice. */
static void choose_nameless(struct merge *merge, struct layers *layers)
{
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		for (size_t k = layers->n; k-- > 0;) {
			const struct layer *layer = &layers->list[k];
			if (layer->disk != i || layer->above != 1 || layer->is_top ||
			    layer->is_named)
				continue;
			add_part(merge, &layers->list[layer->only], layer->file);
			break;
		}
	}
}

/* One lowest file that stands on an image. */
static int choose_whole(struct merge *merge, struct layers *layers, struct err *err)
{
	for (size_t i = 0; i < layers->n; i++) {
		const struct layer *layer = &layers->list[i];
		struct image_layer chain[QEMU_CHAIN_MAX];
		size_t n;
		if (layer->below >= 0 || layer->disk != DB_DISK_SYSTEM)
			continue;
		if (images_chain_read(merge->disks->env.images, layer->file, layer->image_id, chain,
				      &n, err) < 0)
			return -1;
		images_chain_close(chain, n);
		if (n == 1)
			continue;
		add_part(merge, layer, "")->whole = true;
		return 0;
	}
	return 0;
}

int merge_choose(struct merge *merge, struct err *err)
{
	_cleanup_free_ struct layers *layers = mem_new(struct layers);

	merge->n_parts = 0;
	if (layers_load(merge->disks, merge_desktop(merge), layers, err) < 0)
		return -1;
	if (merge->row.id[0])
		choose_row(merge, layers);
	else
		choose_nameless(merge, layers);
	if (merge->n_parts == 0 && !merge->row.id[0] && merge->all)
		return choose_whole(merge, layers, err);
	return 0;
}
