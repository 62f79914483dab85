#include "vdi-hostd/disk/snapshot.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/disk/private.h"

const char *const disks_snapshot_states[] = {
	[DB_SNAPSHOT_CREATING] = "creating",
	[DB_SNAPSHOT_READY] = "ready",
	[DB_SNAPSHOT_DELETING] = "deleting",
	NULL,
};

const char *const disks_snapshot_kinds[] = {
	[DB_SNAPSHOT_CRASH] = "crash-consistent",
	[DB_SNAPSHOT_QUIESCED] = "quiesced",
	[DB_SNAPSHOT_MEMORY] = "memory",
	NULL,
};

const char *const disks_quiesce_names[] = {
	[DISKS_QUIESCE_AUTO] = "auto",
	[DISKS_QUIESCE_REQUIRE] = "require",
	[DISKS_QUIESCE_NO] = "no",
	NULL,
};

void snapshot_tell(struct disks *disks, const struct db_snapshot *row, const char *what)
{
	struct err err;
	const struct desktop *desktop = desktops_find(disks->env.desktops, row->desktop_id, NULL);
	const char *name = desktop ? desktop_row(desktop)->name : row->desktop_id;
	json_t *data =
		json_pack("{s:s, s:s, s:s}", "desktop", name, "name", row->name, "state", what);

	if (row->name[0] == '.')
		log_debug("desktop %s: its disks' freeze: %s", name, what);
	else
		log_info("desktop %s: snapshot %s: %s", name, row->name, what);
	if (row->name[0] != '.' &&
	    db_event_append(disks->env.db, "snapshot", row->id, data, &err) < 0)
		log_err("snapshot %s: its event is lost: %s", row->name, err.msg);
	json_decref(data);
}

/* ---- the tree ---- */

struct tree {
	struct disks *disks;
	struct desktop *desktop;
	struct db_snapshot *list;
	size_t n;
};

static int add_row(void *data, const struct db_snapshot *row)
{
	struct tree *tree = data;

	tree->list = mem_realloc(tree->list, tree->n + 1, sizeof(*row));
	tree->list[tree->n++] = *row;
	return 0;
}

static const struct db_snapshot *find_row(const struct tree *tree, const char *id)
{
	for (size_t i = 0; i < tree->n; i++)
		if (strcmp(tree->list[i].id, id) == 0)
			return &tree->list[i];
	return NULL;
}

/* one that nobody asked for is stepped over */
static const struct db_snapshot *shown_parent(const struct tree *tree, const char *id)
{
	const struct db_snapshot *row = find_row(tree, id);

	while (row && row->name[0] == '.')
		row = find_row(tree, row->parent_id);
	return row;
}

static bool is_child(const struct tree *tree, const struct db_snapshot *row,
		     const struct db_snapshot *parent)
{
	return row->name[0] != '.' && shown_parent(tree, row->parent_id) == parent;
}

static int64_t size_of(const struct tree *tree, const struct db_snapshot *row)
{
	int64_t sum = 0, allocated;

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->disks[i].file[0] &&
		    images_overlay_allocated(tree->disks->env.images, row->disks[i].file,
					     &allocated, NULL) == 0)
			sum += allocated;
	if (row->memory_file[0] && images_state_allocated(tree->disks->env.images, row->memory_file,
							  &allocated, NULL) == 0)
		sum += allocated;
	return sum;
}

static json_t *row_json(const struct tree *tree, const struct db_snapshot *row, int depth)
{
	const struct db_image *image = images_find(tree->disks->env.images, row->image_id, NULL);
	const struct db_snapshot *parent = shown_parent(tree, row->parent_id);
	bool current = shown_parent(tree, desktop_row(tree->desktop)->snapshot_id) == row;
	char created[STR_TIME_MAX];
	json_t *children = json_array();

	for (size_t i = 0; i < tree->n; i++)
		if (is_child(tree, &tree->list[i], row))
			json_array_append_new(children, json_string(tree->list[i].name));
	str_format_time(row->created_at, created);
	return json_pack(
		"{s:s, s:s, s:s?, s:s?, s:o, s:i, s:b, s:s, s:s, s:I, s:s?, s:o, s:I, s:I, s:s}",
		"id", row->id, "name", row->name, "description",
		row->description[0] ? row->description : NULL, "parent",
		parent ? parent->name : NULL, "children", children, "depth", depth, "current",
		current, "state", disks_snapshot_states[row->state], "kind",
		disks_snapshot_kinds[row->kind], "size_bytes", (json_int_t)size_of(tree, row),
		"image", image ? image->name : NULL, "image_version",
		image ? json_integer(image->version) : json_null(), "memory_mib",
		(json_int_t)row->memory_mib, "vcpus", (json_int_t)row->vcpus, "created_at",
		created);
}

static void add_children(const struct tree *tree, const struct db_snapshot *parent, int depth,
			 json_t *to)
{
	for (size_t i = 0; i < tree->n; i++) {
		if (!is_child(tree, &tree->list[i], parent))
			continue;
		json_array_append_new(to, row_json(tree, &tree->list[i], depth));
		add_children(tree, &tree->list[i], depth + 1, to);
	}
}

int disks_snapshot_list(struct disks *disks, struct desktop *desktop, json_t **ret, struct err *err)
{
	struct tree tree = {.disks = disks, .desktop = desktop};
	int result = db_snapshot_each(disks->env.db, desktop_row(desktop)->id, add_row, &tree, err);

	if (result == 0) {
		*ret = json_array();
		add_children(&tree, NULL, 0, *ret);
	}
	free(tree.list);
	return result;
}

json_t *snapshot_json(struct disks *disks, struct desktop *desktop, const char *id)
{
	json_t *list = NULL, *item, *found = NULL;
	struct err err;
	size_t i;

	if (disks_snapshot_list(disks, desktop, &list, &err) < 0)
		return json_object();
	json_array_foreach(list, i, item)
	{
		if (strcmp(json_string_value(json_object_get(item, "id")), id) == 0)
			found = json_incref(item);
	}
	json_decref(list);
	return found ? found : json_object();
}

/* ---- create ---- */

struct create {
	struct disks *disks;
	char desktop_id[STR_UUID_LEN + 1];
	char what[128];
	disks_done_cb cb;
	void *data;
};

static void on_taken(void *data, const struct db_snapshot *row, const struct err *err)
{
	_cleanup_free_ struct create *create = data;
	struct desktop *desktop =
		desktops_find(create->disks->env.desktops, create->desktop_id, NULL);

	if (err && create->disks->closing) {
		create->cb(create->data, NULL, err);
		return;
	}
	if (desktop)
		desktop_work_end(desktop);
	if (err || !desktop) {
		create->cb(create->data, NULL, err);
		return;
	}
	snapshot_tell(create->disks, row, "ready");
	settle_later(create->disks, desktop);
	create->cb(create->data, snapshot_json(create->disks, desktop, row->id), NULL);
}

static int choose_name(struct disks *disks, const char *desktop_id, const char *name, char *ret,
		       struct err *err)
{
	struct db_snapshot other;
	struct tm tm;
	time_t now = (time_t)(str_now_ms() / 1000);
	char made[STR_NAME_MAX + 1];

	if (!name) {
		gmtime_r(&now, &tm);
		strftime(made, sizeof(made), "%Y-%m-%d-%H%M%S", &tm);
		name = made;
	}
	if (db_snapshot_get(disks->env.db, desktop_id, name, &other, NULL) == 0)
		return err_set(err, ERR_EXISTS, "the desktop has a snapshot '%s' already", name);
	snprintf(ret, STR_NAME_MAX + 1, "%s", name);
	return 0;
}

static void on_work_event(void *data, const char *name, json_t *event)
{
}

static void on_work_gone(void *data, const struct err *err)
{
}

static int check(struct disks *disks, struct desktop *desktop,
		 const struct disks_snapshot *snapshot, char *ret_name, struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);

	if (row->disposable)
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' is disposable: what is written to its system disk is "
			       "thrown away, and so would be the snapshot",
			       row->name);
	/* it takes as much room as the guest has memory; disks take little before it writes */
	if (snapshot->memory &&
	    images_space_check(disks->env.images, "no memory can be kept", err) < 0)
		return -1;
	return choose_name(disks, row->id, snapshot->name, ret_name, err);
}

void disks_snapshot_create(struct disks *disks, struct desktop *desktop,
			   const struct disks_snapshot *snapshot, disks_done_cb cb, void *data)
{
	struct db_snapshot row = {0};
	struct err err;
	_cleanup_free_ struct create *create = mem_new(struct create);

	if (check(disks, desktop, snapshot, row.name, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	str_uuid_new(row.id);
	if (snapshot->memory)
		row.kind = DB_SNAPSHOT_MEMORY;
	snprintf(row.description, sizeof(row.description), "%s",
		 snapshot->description ? snapshot->description : "");
	create->disks = disks;
	create->cb = cb;
	create->data = data;
	memcpy(create->desktop_id, desktop_row(desktop)->id, sizeof(create->desktop_id));
	snprintf(create->what, sizeof(create->what), "snapshot '%s' is being taken", row.name);
	const struct desktop_work work = {create->what, on_work_event, on_work_gone, NULL};
	if (desktop_work_begin(desktop, &work, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	take_begin(disks, desktop, &row, snapshot->quiesce, on_taken, TAKE_PTR(create));
}

int disks_snapshot_delete(struct disks *disks, struct desktop *desktop, const char *ref,
			  int64_t speed, const char **ret_job, struct err *err)
{
	struct db_snapshot row;

	if (settle_refuse(disks, desktop, err) < 0 ||
	    db_snapshot_get(disks->env.db, desktop_row(desktop)->id, ref, &row, err) < 0)
		return -1;
	return merge_begin(disks, desktop, &row, false, speed, ret_job, err);
}

int disks_flatten(struct disks *disks, struct desktop *desktop, bool all, int64_t speed,
		  const char **ret_job, struct err *err)
{
	if (settle_refuse(disks, desktop, err) < 0)
		return -1;
	return merge_begin(disks, desktop, NULL, all, speed, ret_job, err);
}
