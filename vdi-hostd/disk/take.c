/*
 * The moment is kept: what is written to becomes read-only, new files come on top. While a QEMU
 * has the disks it does so itself, all of them at once.
 */
#include <stdio.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/disk/take_private.h"

#define FREEZE_DEADLINE_MS 30000
#define MEMORY_DEADLINE_MS 600000

static void write_row(struct plan *plan, void *ctx);
static void delete_row(struct plan *plan, void *ctx);
static void create_files(struct plan *plan, void *ctx);
static void delete_files(struct plan *plan, void *ctx);
static void add_nodes(struct plan *plan, void *ctx);
static void delete_nodes(struct plan *plan, void *ctx);
static void switch_over(struct plan *plan, void *ctx);
static void look_at_top(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step take_plan[] = {
	{"row", write_row, delete_row},
	{"files", create_files, delete_files},
	{"nodes", add_nodes, delete_nodes},
	{"quiesce", take_quiesce, take_unquiesce, FREEZE_DEADLINE_MS},
	{"halt", take_halt, take_let_run},
	/* there is no way back behind it; where its answer is lost, QEMU is asked how far it is */
	{"switch", switch_over, look_at_top},
	{"memory", take_save_memory, take_stop_saving, MEMORY_DEADLINE_MS},
	{"run", take_let_run, NULL},
	{"thaw", take_thaw, NULL},
	{"settle", settle, NULL},
};

struct qmp *take_qmp(struct take *take)
{
	return desktop_qmp(take->desktop);
}

bool take_is_lost(struct take *take)
{
	return take->dead || take->disks->closing;
}

int take_no_qemu(const struct take *take, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "the QEMU of desktop '%s' does not answer any more",
		       desktop_row(take->desktop)->name);
}

static void write_row(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	plan_end_step(plan, db_snapshot_insert(take->disks->env.db, &take->row, &err), &err);
}

static void delete_row(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	if (!take->forward && !take->unknown &&
	    db_snapshot_delete(take->disks->env.db, &take->row, &err) < 0)
		log_err("snapshot %s: %s", take->row.name, err.msg);
	plan_undone(plan);
}

static int make_files(struct take *take, struct err *err)
{
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (take->row.next[i][0] &&
		    images_layer_create(take->disks->env.images, take->row.next[i],
					take->row.disks[i].file, 0, err) < 0)
			return -1;
	return 0;
}

static void create_files(struct plan *plan, void *ctx)
{
	struct err err;

	plan_end_step(plan, make_files(ctx, &err), &err);
}

static void delete_files(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	for (unsigned int i = 0; i < DB_DISKS && !take->forward && !take->unknown; i++)
		if (take->row.next[i][0] &&
		    images_overlay_delete(take->disks->env.images, take->row.next[i], &err) < 0)
			log_err("snapshot %s: %s", take->row.name, err.msg);
	plan_undone(plan);
}

/* The answers of a step's commands, and of its undo's. */
void take_step_done(void *data, const struct err *err)
{
	struct take *take = data;

	if (take_is_lost(take))
		return;
	if (plan_is_undoing(take->plan))
		plan_undone(take->plan);
	else
		plan_end_step(take->plan, err ? -1 : 0, err);
}

static int begin_nodes(struct take *take, struct err *err)
{
	struct image_layer layers[DB_DISKS][QEMU_CHAIN_MAX];
	size_t n[DB_DISKS] = {0};
	int result = take_qmp(take) ? 0 : take_no_qemu(take, err);

	for (unsigned int i = 0; i < DB_DISKS && result == 0; i++)
		if (take->row.next[i][0])
			result = images_chain_open(take->disks->env.images, take->row.next[i],
						   i == DB_DISK_SYSTEM ? take->row.image_id : "",
						   layers[i], &n[i], err);
	if (result == 0) {
		batch_init(&take->batch, take_step_done, take);
		for (unsigned int i = 0; i < DB_DISKS; i++)
			if (n[i])
				nodes_add(&take->batch, take_qmp(take), take->row.next[i], NULL,
					  true, layers[i][0].fd);
		batch_end(&take->batch);
	}
	for (unsigned int i = 0; i < DB_DISKS; i++)
		images_chain_close(layers[i], n[i]);
	return result;
}

static void add_nodes(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	if (!take->live)
		plan_next(plan);
	else if (begin_nodes(take, &err) < 0)
		plan_fail(plan, &err);
}

static void delete_nodes(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	if (!take->live || take->forward || take->unknown || !take_qmp(take)) {
		plan_undone(plan);
		return;
	}
	batch_init(&take->batch, take_step_done, take);
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (take->row.next[i][0])
			nodes_delete(&take->batch, take_qmp(take), take->row.next[i]);
	batch_end(&take->batch);
}

static void on_switched(void *data, json_t *result, const struct err *err)
{
	struct take *take = data;

	if (take_is_lost(take))
		return;
	if (!err)
		take->forward = true;
	plan_end_step(take->plan, err ? -1 : 0, err);
}

static json_t *switch_actions(const struct take *take)
{
	json_t *actions = json_array();

	for (unsigned int i = 0; i < DB_DISKS; i++) {
		char node[QEMU_NODE_MAX + 1], overlay[QEMU_NODE_MAX + 1];
		if (!take->row.next[i][0])
			continue;
		images_node(take->row.disks[i].file, node);
		images_node(take->row.next[i], overlay);
		json_array_append_new(actions,
				      json_pack("{s:s, s:{s:s, s:s}}", "type", "blockdev-snapshot",
						"data", "node", node, "overlay", overlay));
	}
	return json_pack("{s:o}", "actions", actions);
}

static void switch_over(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	if (!take->live) {
		plan_next(plan);
	} else if (!take_qmp(take)) {
		take_no_qemu(take, &err);
		plan_fail(plan, &err);
	} else {
		take->asked = true;
		qmp_execute(take_qmp(take), "transaction", switch_actions(take), PLAN_DEADLINE_MS,
			    on_switched, take);
	}
}

static void on_top(void *data, json_t *result, const struct err *err)
{
	struct take *take = data;

	if (take_is_lost(take))
		return;
	if (err)
		take->unknown = true;
	else
		take->forward = nodes_on_top(result, take->row.next[DB_DISK_SYSTEM]);
	plan_undone(take->plan);
}

static void look_at_top(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	if (!take->asked || take->forward) {
		plan_undone(plan);
	} else if (!take_qmp(take)) {
		take->unknown = true;
		plan_undone(plan);
	} else {
		qmp_execute(take_qmp(take), "query-block", NULL, 0, on_top, take);
	}
}

static void settle(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	if (!take->live)
		take->forward = true;
	plan_end_step(plan, settle_forward(take->disks, take->desktop, &take->row, true, &err),
		      &err);
}

static void finish(struct take *take, const struct err *err)
{
	struct disks *disks = take->disks;

	quiesce_drop(TAKE_PTR(take->quiesce));
	memory_drop(TAKE_PTR(take->memory));
	take->dead = take->ends = true;
	desktop_end(take->desktop, err);
	take->cb(take->data, err ? NULL : &take->row, err);
	if (disks->closing)
		return; /* freed with all others */
	DL_DELETE(disks->takes, take);
	free(take);
}

static void on_taken(void *ctx, const struct err *err)
{
	struct take *take = ctx;
	struct err again;

	take->plan = NULL;
	bool complete = take->row.kind != DB_SNAPSHOT_MEMORY || take->saved;
	if (err && take->forward && !take->unknown &&
	    settle_forward(take->disks, take->desktop, &take->row, complete, &again) == 0 &&
	    complete)
		err = NULL; /* QEMU did it, and only its answer, or a first attempt to write it
			       down, was lost */
	if (err && (take->forward || take->unknown))
		settle_later(take->disks, take->desktop);
	finish(take, err);
}

/*
 * The claim ended and it was not by us: the daemon stops, or QEMU died. What is half done is found
 * by whoever comes next.
 */
static void on_claim_ended(void *data, struct desktop *desktop, const struct err *err)
{
	struct take *take = data;

	if (take->ends)
		return;
	take->dead = true;
	if (err && err->code == ERR_CANCELLED)
		take->disks->closing = true;
	else
		settle_later(take->disks, desktop);
	plan_drop(TAKE_PTR(take->plan));
	quiesce_drop(TAKE_PTR(take->quiesce));
	memory_drop(TAKE_PTR(take->memory));
	take->cb(take->data, NULL, err);
}

static int check(struct take *take, struct err *err)
{
	struct desktop *desktop = take->desktop;
	const struct db_desktop *row = desktop_row(desktop);

	take->live = desktop_qmp(desktop);
	switch (desktop_state(desktop)) {
	case DESKTOP_STOPPED:
	case DESKTOP_FAILED:
		break;
	case DESKTOP_RUNNING:
	case DESKTOP_PAUSED:
		if (!take->live)
			return err_set(err, ERR_UNAVAILABLE,
				       "the QEMU of desktop '%s' does not answer now; try again",
				       row->name);
		break;
	case DESKTOP_SUSPENDED:
	case DESKTOP_STARTING:
	case DESKTOP_STOPPING:
		return err_set(err, ERR_CONFLICT, "desktop '%s' is %s: its disks cannot be kept",
			       row->name, desktop_state_names[desktop_state(desktop)]);
	}
	if (take->want == DISKS_QUIESCE_REQUIRE && desktop_state(desktop) == DESKTOP_PAUSED)
		return err_set(err, ERR_UNAVAILABLE,
			       "the guest of desktop '%s' is paused and cannot bring its file "
			       "systems to rest; resume it first",
			       row->name);
	return 0;
}

/* Every file on the way takes a descriptor of QEMU's, and there are only so many. */
static int fill_row(struct take *take, struct err *err)
{
	const struct db_desktop *desktop = desktop_row(take->desktop);
	struct db_snapshot *row = &take->row;
	bool off = desktop_state(take->desktop) == DESKTOP_STOPPED ||
		   desktop_state(take->desktop) == DESKTOP_FAILED;

	snprintf(row->desktop_id, sizeof(row->desktop_id), "%s", desktop->id);
	snprintf(row->parent_id, sizeof(row->parent_id), "%s", desktop->snapshot_id);
	snprintf(row->image_id, sizeof(row->image_id), "%s", desktop->image_id);
	row->state = DB_SNAPSHOT_CREATING;
	if (row->kind == DB_SNAPSHOT_MEMORY && off)
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' is off and has no memory; start it, or take the "
			       "snapshot without",
			       desktop->name);
	if (row->kind == DB_SNAPSHOT_MEMORY)
		snprintf(row->memory_file, sizeof(row->memory_file), "%s.state", row->id);
	else
		row->kind = off ? DB_SNAPSHOT_QUIESCED : DB_SNAPSHOT_CRASH;
	row->memory_mib = desktop->memory_mib;
	row->vcpus = desktop->vcpus;
	row->created_at = str_now_ms();
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		struct image_layer layers[QEMU_CHAIN_MAX];
		size_t n;
		row->disks[i] = desktop->disks[i];
		if (!desktop->disks[i].file[0])
			continue;
		images_layer_file(desktop->id, row->next[i]);
		if (images_chain_read(take->disks->env.images, desktop->disks[i].file,
				      i == DB_DISK_SYSTEM ? desktop->image_id : "", layers, &n,
				      err) < 0)
			return -1;
		images_chain_close(layers, n);
		if (n >= QEMU_CHAIN_MAX)
			return err_set(err, ERR_LIMIT,
				       "a disk of desktop '%s' stands on %zu files already, and "
				       "more are not possible; delete snapshots, or flatten it",
				       desktop->name, n);
	}
	return 0;
}

void take_begin(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row,
		enum disks_quiesce want, taken_cb cb, void *data)
{
	struct take *take = mem_new(struct take);
	struct err err;

	take->disks = disks;
	take->desktop = desktop;
	take->row = *row;
	take->want = want;
	take->cb = cb;
	take->data = data;
	if (settle_refuse(disks, desktop, &err) < 0 || check(take, &err) < 0 ||
	    fill_row(take, &err) < 0 || desktop_begin(desktop, on_claim_ended, take, &err) < 0) {
		free(take);
		cb(data, NULL, &err);
		return;
	}
	DL_APPEND(disks->takes, take);
	take->plan = plan_start(disks->env.loop, "snapshot-take", take_plan, ARRAY_LEN(take_plan),
				take, on_taken);
}

void takes_free(struct disks *disks)
{
	struct take *take, *next;

	DL_FOREACH_SAFE(disks->takes, take, next)
	{
		DL_DELETE(disks->takes, take);
		free(take);
	}
}
