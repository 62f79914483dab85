/* What the rows say of a merge, while it is on its way and after it. */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/merge_private.h"

int merge_committed(struct merge *merge, bool back, struct err *err)
{
	struct db *db = merge->disks->env.db;
	struct desktop *desktop = merge_desktop(merge);
	struct db_desktop *row = desktop_edit(desktop), old = *row;
	struct db_snapshot snapshot = merge->row;

	if (!merge->row.id[0])
		return 0;
	snapshot.state = DB_SNAPSHOT_DELETING;
	for (size_t i = 0; i < merge->n_parts; i++) {
		const struct merge_part *part = &merge->parts[i];
		const char *top = back ? part->into : part->layer;
		const char *old_top = back ? "" : part->into;
		if (!part->commit || (back && !part->err.code))
			continue;
		snprintf(row->disks[part->disk].file, sizeof(row->disks[0].file), "%s", top);
		snprintf(snapshot.next[part->disk], sizeof(snapshot.next[0]), "%s", old_top);
	}
	if (db_begin(db, __func__, err) < 0) {
		*row = old;
		return -1;
	}
	if (desktop_save(desktop, err) < 0 || db_snapshot_update(db, &snapshot, err) < 0) {
		db_rollback(db);
		*row = old;
		return -1;
	}
	if (db_commit(db, err) < 0) {
		*row = old;
		return -1;
	}
	merge->row = snapshot;
	return 0;
}

struct committed {
	const struct db_desktop *desktop;
	const char *node;
};

static int look_at_row(void *data, const struct db_snapshot *row)
{
	struct committed *committed = data;

	for (unsigned int i = 0; i < DB_DISKS; i++) {
		char node[QEMU_NODE_MAX + 1];
		if (row->state != DB_SNAPSHOT_DELETING || !row->next[i][0] ||
		    strcmp(committed->desktop->disks[i].file, row->disks[i].file) != 0)
			continue;
		images_node(row->next[i], node);
		if (strcmp(node, committed->node) == 0)
			return 1;
	}
	return 0;
}

bool merge_is_committed(struct merge *merge, const char *node)
{
	struct committed committed = {desktop_row(merge_desktop(merge)), node};

	return db_snapshot_each(merge->disks->env.db, merge->desktop_id, look_at_row, &committed,
				NULL) == 1;
}

static int delete_files(struct merge *merge, struct err *err)
{
	const struct db_snapshot *row = &merge->row;
	struct disks *disks = merge->disks;
	struct desktop *desktop = merge_desktop(merge);

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if ((row->next[i][0] && layers_drop(disks, desktop, row->next[i], err) < 0) ||
		    (row->disks[i].file[0] &&
		     layers_drop(disks, desktop, row->disks[i].file, err) < 0))
			return -1;
	return row->memory_file[0] ? images_state_delete(disks->env.images, row->memory_file, err)
				   : 0;
}

static int forget_row(struct merge *merge, struct err *err)
{
	struct db *db = merge->disks->env.db;

	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (desktop_save(merge_desktop(merge), err) < 0 ||
	    db_snapshot_delete(db, &merge->row, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

/* Its files are merged, or stay for the several that stand on them: what is left of it goes. */
int merge_delete_row(struct merge *merge, struct err *err)
{
	struct db_desktop *row = desktop_edit(merge_desktop(merge)), old = *row;
	struct db_snapshot *snapshot = &merge->row;

	plan_crash_point("merge", "row", "before");
	if (snapshot->state != DB_SNAPSHOT_DELETING) {
		snapshot->state = DB_SNAPSHOT_DELETING;
		if (db_snapshot_update(merge->disks->env.db, snapshot, err) < 0)
			return -1;
	}
	if (delete_files(merge, err) < 0)
		return -1;
	plan_crash_point("merge", "files", "after");
	if (strcmp(row->snapshot_id, snapshot->id) == 0)
		memcpy(row->snapshot_id, snapshot->parent_id, sizeof(row->snapshot_id));
	if (forget_row(merge, err) < 0) {
		*row = old;
		return -1;
	}
	plan_crash_point("merge", "row", "after");
	snapshot_tell(merge->disks, snapshot, "deleted");
	snapshot->id[0] = '\0';
	return 0;
}

int merge_settle_parts(struct merge *merge, struct err *err)
{
	if (merge->row.id[0])
		return merge_delete_row(merge, err);
	for (size_t i = 0; i < merge->n_parts; i++)
		if (merge->parts[i].layer[0] &&
		    layers_drop(merge->disks, merge_desktop(merge), merge->parts[i].layer, err) < 0)
			return -1;
	return 0;
}
