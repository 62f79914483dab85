/*
 * What a backup finds in QEMU before it begins: bitmaps that are in the way go; the one of the
 * backup before it tells whether it can be an incremental one.
 */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/backup_private.h"

static json_t *find_node(json_t *nodes, const char *name)
{
	size_t i;
	json_t *node;

	json_array_foreach(nodes, i, node)
	{
		const char *its = json_string_value(json_object_get(node, "node-name"));
		if (its && strcmp(its, name) == 0)
			return node;
	}
	return NULL;
}

/* the bitmaps of backups that are of no use any more go; is @keep there, and sound? */
static bool look_at_bitmaps(struct backup *backup, json_t *node, const char *keep,
			    int64_t *ret_bytes, const char **ret_why)
{
	json_t *bitmaps = json_object_get(node, "dirty-bitmaps"), *bitmap;
	bool sound = false;
	size_t i;

	*ret_why =
		"it has no record of what was written since the last backup: its QEMU was killed, "
		"or a snapshot, a merge or a new disk took its place";
	json_array_foreach(bitmaps, i, bitmap)
	{
		json_t *name = json_object_get(bitmap, "name");
		const char *text = json_string_value(name);
		bool broken = json_is_true(json_object_get(bitmap, "inconsistent"));
		if (!text || strncmp(text, BACKUP_BITMAP_PREFIX, strlen(BACKUP_BITMAP_PREFIX)) != 0)
			continue;
		if (strcmp(text, keep) == 0 && broken)
			*ret_why = "its QEMU was killed: what was written since the last backup "
				   "is not known";
		if (strcmp(text, keep) == 0 && !broken) {
			sound = json_is_true(json_object_get(bitmap, "persistent")) &&
				json_is_true(json_object_get(bitmap, "recording"));
			*ret_bytes = json_integer_value(json_object_get(bitmap, "count"));
			continue;
		}
		qmp_execute(backup_qmp(backup), "block-dirty-bitmap-remove",
			    json_pack("{s:O, s:O}", "node", json_object_get(node, "node-name"),
				      "name", name),
			    0, NULL, NULL);
	}
	return sound;
}

static void be_full(struct backup *backup, const char *why)
{
	if (!backup->full)
		snprintf(backup->reason, sizeof(backup->reason), "%s", why);
	backup->full = true;
}

static int look_at_disk(struct backup *backup, json_t *nodes, unsigned int disk, struct err *err)
{
	char name[QEMU_NODE_MAX + 1], keep[BACKUP_NAME_MAX];
	const struct db_disk *before = &backup->parent.disks[disk];
	const char *why;
	int64_t dirty = 0;

	backup_source_node(backup, disk, name);
	backup_bitmap_name(&backup->parent, keep);
	json_t *node = find_node(nodes, name);
	json_t *size = json_object_get(json_object_get(node, "image"), "virtual-size");
	if (!node || !json_is_integer(size))
		return err_set(err, ERR_CONFLICT,
			       "the disks of desktop '%s' are not where they should be; is a "
			       "snapshot or a merge under way?",
			       desktop_row(backup->desktop)->name);
	backup->row.disks[disk].bytes = json_integer_value(size);
	if (!look_at_bitmaps(backup, node, keep, &dirty, &why) || !before->file[0])
		be_full(backup, why);
	backup->need += dirty + dirty / 64;
	return 0;
}

static void on_nodes(struct backup *backup, const struct err *err)
{
	json_t *nodes = err ? NULL : json_incref(backup->answer);
	struct err wrong;
	int failed = 0;

	for (unsigned int i = 0; i < DB_DISKS && nodes && backup_qmp(backup) && failed == 0; i++)
		if (backup_has(backup, i))
			failed = look_at_disk(backup, nodes, i, &wrong);
	json_decref(nodes);
	backup_proceed(backup, err ? err : failed ? &wrong : NULL);
}

void backup_look(struct plan *plan, void *ctx)
{
	backup_ask(ctx, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), on_nodes);
}
