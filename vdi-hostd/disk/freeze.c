#include "vdi-hostd/disk/freeze.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "vdi-hostd/disk/private.h"

/* A desktop that somebody keeps frozen; by id, as it may be gone by the end. */
struct held {
	char desktop_id[STR_UUID_LEN + 1];
	struct held *prev, *next;
};

struct freeze {
	struct disks *disks;
	char desktop_id[STR_UUID_LEN + 1];
	disks_frozen_cb cb;
	void *data;
};

static struct held *find(struct disks *disks, const char *desktop_id)
{
	struct held *held;

	DL_FOREACH (disks->held, held) {
		if (strcmp(held->desktop_id, desktop_id) == 0)
			return held;
	}
	return NULL;
}

bool held_find(struct disks *disks, const char *desktop_id)
{
	return find(disks, desktop_id);
}

static void let_go(struct disks *disks, const char *desktop_id)
{
	struct held *held = find(disks, desktop_id);

	if (!held)
		return;
	DL_DELETE(disks->held, held);
	free(held);
}

void held_free(struct disks *disks)
{
	while (disks->held)
		let_go(disks, disks->held->desktop_id);
}

static int open_layers(struct disks *disks, const struct db_snapshot *row, struct disks_frozen *ret,
		       struct err *err)
{
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		const char *image_id = i == DB_DISK_SYSTEM ? row->image_id : "";
		ret->bytes[i] = row->disks[i].bytes;
		if (row->disks[i].file[0] &&
		    images_chain_read(disks->env.images, row->disks[i].file, image_id,
				      ret->layers[i], &ret->n_layers[i], err) < 0) {
			while (i-- > 0)
				images_chain_close(ret->layers[i], ret->n_layers[i]);
			return -1;
		}
	}
	memcpy(ret->image_id, row->image_id, sizeof(row->image_id));
	ret->quiesced = row->kind == DB_SNAPSHOT_QUIESCED;
	return 0;
}

static void on_taken(void *data, const struct db_snapshot *row, const struct err *err)
{
	_cleanup_free_ struct freeze *freeze = data;
	struct disks *disks = freeze->disks;
	struct disks_frozen frozen = {0};
	struct err failed;

	if (!err && open_layers(disks, row, &frozen, &failed) < 0)
		err = &failed;
	if (!err) {
		freeze->cb(freeze->data, &frozen, NULL);
		return;
	}
	struct desktop *desktop =
		disks->closing ? NULL
			       : desktops_find(disks->env.desktops, freeze->desktop_id, NULL);
	if (desktop)
		disks_unfreeze(disks, desktop);
	else
		let_go(disks, freeze->desktop_id);
	freeze->cb(freeze->data, NULL, err);
}

void disks_freeze(struct disks *disks, struct desktop *desktop, enum disks_quiesce quiesce,
		  disks_frozen_cb cb, void *data)
{
	const char *id = desktop_row(desktop)->id;
	struct db_snapshot row = {0};
	struct err err;
	char random[9];

	if (find(disks, id)) {
		err_set(&err, ERR_BUSY, "the disks of desktop '%s' are held still already",
			desktop_row(desktop)->name);
		cb(data, NULL, &err);
		return;
	}
	struct freeze *freeze = mem_new(struct freeze);
	struct held *held = mem_new(struct held);
	freeze->disks = disks;
	freeze->cb = cb;
	freeze->data = data;
	memcpy(freeze->desktop_id, id, sizeof(freeze->desktop_id));
	memcpy(held->desktop_id, id, sizeof(held->desktop_id));
	DL_APPEND(disks->held, held);
	str_uuid_new(row.id);
	str_random_hex(random, 4);
	snprintf(row.name, sizeof(row.name), DB_SNAPSHOT_FREEZE "-%s", random);
	take_begin(disks, desktop, &row, quiesce, on_taken, freeze);
}

void disks_unfreeze(struct disks *disks, struct desktop *desktop)
{
	let_go(disks, desktop_row(desktop)->id);
	settle_later(disks, desktop);
}
