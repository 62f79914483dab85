/* What is merged is on the disk before any header says so, and the headers before anything goes. */
#include <unistd.h>

#include "vdi-hostd/disk/merge_private.h"

static void flush_next(struct merge *merge);

static void on_file_synced(uv_fs_t *req)
{
	struct merge_sync *sync = req->data;
	struct merge *merge = sync->merge;
	struct err err;
	int result = (int)req->result;

	uv_fs_req_cleanup(req);
	close(sync->fd);
	free(sync);
	if (!merge)
		return; /* its QEMU went meanwhile */
	merge->sync = NULL;
	merge->n_synced++;
	if (result < 0) {
		err_set_sys(&err, err_from_errno(-result), -result,
			    "what was merged cannot be written to the disk");
		merge->synced(merge, &err);
		return;
	}
	flush_next(merge);
}

static void flush_next(struct merge *merge)
{
	struct image_layer chain[QEMU_CHAIN_MAX];
	struct err err;
	size_t n;

	while (merge->n_synced < merge->n_parts && merge->parts[merge->n_synced].commit)
		merge->n_synced++; /* QEMU does so for commits, before it calls them equal */
	if (merge->n_synced == merge->n_parts) {
		merge->synced(merge, NULL);
		return;
	}
	const struct merge_part *part = &merge->parts[merge->n_synced];
	if (images_chain_read(merge->disks->env.images, part->into, part->image_id, chain, &n,
			      &err) < 0) {
		merge->synced(merge, &err);
		return;
	}
	merge->sync = mem_new(struct merge_sync);
	merge->sync->merge = merge;
	merge->sync->fd = TAKE_FD(chain[0].fd);
	merge->sync->req.data = merge->sync;
	images_chain_close(chain, n);
	uv_fs_fdatasync(merge->disks->env.loop, &merge->sync->req, merge->sync->fd, on_file_synced);
}

void copy_sync_files(struct merge *merge, void (*synced)(struct merge *, const struct err *))
{
	merge->synced = synced;
	merge->n_synced = 0;
	flush_next(merge);
}
