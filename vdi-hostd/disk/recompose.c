/* What is to be done with a desktop, and the plans that do it; see move.h. */
#include "vdi-hostd/disk/recompose.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/disk/move.h"
#include "vdi-hostd/disk/private.h"

const char *const disks_recompose_actions[] = {
	[MOVE_NONE] = "none",       [MOVE_NEXT_START] = "next-start", [MOVE_NOW] = "recompose",
	[MOVE_RESTART] = "restart", [MOVE_REFUSED] = "refused",       NULL,
};

static void write_intent(struct plan *plan, void *ctx);
static void erase_intent(struct plan *plan, void *ctx);
static void create_overlay(struct plan *plan, void *ctx);
static void delete_overlay(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);
static void write_way_back(struct plan *plan, void *ctx);
static void write_drop(struct plan *plan, void *ctx);
static void drop_previous(struct plan *plan, void *ctx);

static const struct plan_step recompose_plan[] = {
	{"intent", write_intent, erase_intent},
	{"overlay", create_overlay, delete_overlay},
	{"settle", settle, NULL},
};

/* These have no way back: what a crash interrupts is gone on with. */
static const struct plan_step undo_plan[] = {
	{"intent", write_way_back, NULL},
	{"files", drop_previous, NULL},
	{"settle", settle, NULL},
};

static const struct plan_step confirm_plan[] = {
	{"intent", write_drop, NULL},
	{"files", drop_previous, NULL},
	{"settle", settle, NULL},
};

static int save_or(struct desktop *desktop, const struct db_desktop *old, struct err *err)
{
	if (desktop_save(desktop, err) == 0)
		return 0;
	*desktop_edit(desktop) = *old;
	return -1;
}

static int begin_recompose(struct move *move, struct err *err)
{
	struct db_desktop *row = desktop_edit(move->desktop), old = *row;
	struct db_disk *disk = &row->disks[DB_DISK_SYSTEM];
	const struct db_image *image = images_find(move->disks->env.images, move->image_id, err);

	if (!image)
		return -1;
	memcpy(row->previous_image_id, row->image_id, sizeof(row->image_id));
	row->previous = *disk;
	memcpy(row->image_id, image->id, sizeof(row->image_id));
	images_layer_file(row->id, disk->file);
	if (disk->bytes < image->virtual_size)
		disk->bytes = image->virtual_size;
	row->op = DB_DESKTOP_OP_RECOMPOSE;
	return save_or(move->desktop, &old, err);
}

static void write_intent(struct plan *plan, void *ctx)
{
	struct err err;

	plan_end_step(plan, begin_recompose(ctx, &err), &err);
}

static void forget_previous(struct db_desktop *row)
{
	row->previous = (struct db_disk){0};
	row->previous_image_id[0] = '\0';
	row->op = DB_DESKTOP_OP_NONE;
}

static void take_previous(struct db_desktop *row)
{
	memcpy(row->image_id, row->previous_image_id, sizeof(row->image_id));
	row->disks[DB_DISK_SYSTEM] = row->previous;
}

static void erase_intent(struct plan *plan, void *ctx)
{
	struct move *move = ctx;
	struct db_desktop *row = desktop_edit(move->desktop);
	struct err err;

	/* an intent that could not be written is none */
	if (row->op == DB_DESKTOP_OP_RECOMPOSE) {
		take_previous(row);
		forget_previous(row);
		if (desktop_save(move->desktop, &err) < 0)
			log_err("desktop %s: %s", row->name, err.msg);
	}
	plan_undone(plan);
}

static int make_overlay(struct move *move, struct err *err)
{
	const struct db_desktop *row = desktop_row(move->desktop);
	const struct db_disk *disk = &row->disks[DB_DISK_SYSTEM];
	struct images *images = move->disks->env.images;
	const struct db_image *image = images_find(images, row->image_id, err);

	return image ? images_overlay_create(images, image, disk->file, disk->bytes, err) : -1;
}

static void create_overlay(struct plan *plan, void *ctx)
{
	struct err err;

	plan_end_step(plan, make_overlay(ctx, &err), &err);
}

static void delete_overlay(struct plan *plan, void *ctx)
{
	struct move *move = ctx;
	const struct db_desktop *row = desktop_row(move->desktop);
	struct err err;

	if (images_overlay_delete(move->disks->env.images, row->disks[DB_DISK_SYSTEM].file, &err) <
	    0)
		log_err("desktop %s: %s", row->name, err.msg);
	plan_undone(plan);
}

static void settle(struct plan *plan, void *ctx)
{
	struct move *move = ctx;
	struct db_desktop *row = desktop_edit(move->desktop), old = *row;
	struct err err;

	if (row->op == DB_DESKTOP_OP_DROP_PREVIOUS)
		forget_previous(row);
	row->op = DB_DESKTOP_OP_NONE;
	plan_end_step(plan, save_or(move->desktop, &old, &err), &err);
}

/* The two change places: what is dropped is always what stands as `previous`. */
static void write_way_back(struct plan *plan, void *ctx)
{
	struct move *move = ctx;
	struct db_desktop *row = desktop_edit(move->desktop), old = *row;
	struct err err;

	take_previous(row);
	row->previous = old.disks[DB_DISK_SYSTEM];
	memcpy(row->previous_image_id, old.image_id, sizeof(old.image_id));
	row->op = DB_DESKTOP_OP_DROP_PREVIOUS;
	plan_end_step(plan, save_or(move->desktop, &old, &err), &err);
}

static void write_drop(struct plan *plan, void *ctx)
{
	struct move *move = ctx;
	struct db_desktop *row = desktop_edit(move->desktop), old = *row;
	struct err err;

	row->op = DB_DESKTOP_OP_DROP_PREVIOUS;
	plan_end_step(plan, save_or(move->desktop, &old, &err), &err);
}

static void drop_previous(struct plan *plan, void *ctx)
{
	struct move *move = ctx;
	struct err err;

	plan_end_step(plan,
		      layers_drop_all(move->disks, desktop_row(move->desktop)->previous.file, &err),
		      &err);
}

int recompose_settle(struct disks *disks, struct desktop *desktop, struct err *err)
{
	struct db_desktop *row = desktop_edit(desktop);

	if (row->op == DB_DESKTOP_OP_RECOMPOSE) {
		if (images_overlay_delete(disks->env.images, row->disks[DB_DISK_SYSTEM].file, err) <
		    0)
			return -1;
		take_previous(row);
	} else if (row->op == DB_DESKTOP_OP_DROP_PREVIOUS) {
		if (row->previous.file[0] && layers_drop_all(disks, row->previous.file, err) < 0)
			return -1;
	} else {
		return 0;
	}
	forget_previous(row);
	return desktop_save(desktop, err);
}

/* ---- one desktop: stopped where that is wanted, changed, started again ---- */

static void finish(struct move *move, const struct err *err)
{
	move->cb(move->data, err);
	DL_DELETE(move->disks->moves, move);
	free(move);
}

/* The daemon stops: nothing is begun any more, and what was begun is found by its next start. */
static void finish_closing(struct move *move, const struct err *err)
{
	move->disks->closing = true;
	plan_drop(TAKE_PTR(move->plan));
	finish(move, err);
}

static void on_started(void *data, struct desktop *desktop, const struct err *err)
{
	struct move *move = data;
	struct err prefixed;

	if (err && err->code == ERR_CANCELLED) {
		finish_closing(move, err);
	} else if (err && !move->err.code) {
		prefixed = *err;
		err_prefix(&prefixed, "it stands on the other version, and does not start");
		finish(move, &prefixed);
	} else {
		finish(move, move->err.code ? &move->err : NULL);
	}
}

static void on_moved(void *ctx, const struct err *err)
{
	struct move *move = ctx;
	struct desktop *desktop = TAKE_PTR(move->desktop);
	struct db_desktop *row = desktop_edit(desktop);

	move->plan = NULL;
	move->ends = true;
	/* one that failed is not gone on with behind the back of who was told so */
	if (err && row->op != DB_DESKTOP_OP_NONE) {
		struct err unsaved;
		row->op = DB_DESKTOP_OP_NONE;
		if (desktop_save(desktop, &unsaved) < 0)
			log_err("desktop %s: %s", row->name, unsaved.msg);
	}
	if (err)
		move->err = *err;
	else
		log_info("desktop %s: done: %s", row->name, move->what);
	desktop_end(desktop, err);
	desktop_work_end(desktop);
	if (move->restart)
		desktop_start(desktop, 0, on_started, move);
	else
		finish(move, err);
}

static void on_claim_ended(void *data, struct desktop *desktop, const struct err *err)
{
	struct move *move = data;

	if (!move->ends)
		finish_closing(move, err);
}

static void begin(struct move *move, struct desktop *desktop)
{
	struct err err;

	if (desktop_begin(desktop, on_claim_ended, move, &err) < 0) {
		desktop_work_end(desktop);
		finish(move, &err);
		return;
	}
	move->desktop = desktop;
	move->plan = plan_start(move->disks->env.loop, move->plan_name, move->steps, move->n_steps,
				move, on_moved);
}

static void on_stopped(void *data, struct desktop *desktop, const struct err *err)
{
	struct move *move = data;

	if (!err) {
		begin(move, desktop);
		return;
	}
	if (err->code == ERR_CANCELLED) {
		finish_closing(move, err);
		return;
	}
	desktop = desktops_find(move->disks->env.desktops, move->desktop_id, NULL);
	if (desktop)
		desktop_work_end(desktop);
	finish(move, err);
}

static void on_work_event(void *data, const char *name, json_t *event)
{
}

static void on_work_gone(void *data, const struct err *err)
{
}

static void start_move(struct move *move, struct desktop *desktop)
{
	const struct desktop_work work = {move->what, on_work_event, on_work_gone, NULL};
	struct err err;

	memcpy(move->desktop_id, desktop_row(desktop)->id, sizeof(move->desktop_id));
	DL_APPEND(move->disks->moves, move);
	if (desktop_work_begin(desktop, &work, &err) < 0)
		finish(move, &err);
	else if (move->restart)
		desktop_stop(desktop, false, 0, on_stopped, move);
	else
		begin(move, desktop);
}

static struct move *move_new(struct disks *disks, move_cb cb, void *data)
{
	struct move *move = mem_new(struct move);

	move->disks = disks;
	move->cb = cb;
	move->data = data;
	return move;
}

void move_begin(struct disks *disks, struct desktop *desktop, const struct db_image *image,
		bool restart, move_cb cb, void *data)
{
	struct move *move = move_new(disks, cb, data);

	snprintf(move->what, sizeof(move->what), "it is being moved to image '%s:%lld'",
		 image->name, (long long)image->version);
	memcpy(move->image_id, image->id, sizeof(move->image_id));
	move->restart = restart;
	move->plan_name = "desktop-recompose";
	move->steps = recompose_plan;
	move->n_steps = ARRAY_LEN(recompose_plan);
	start_move(move, desktop);
}

/* ---- undo and confirm ---- */

struct asked {
	struct disks *disks;
	char desktop_id[STR_UUID_LEN + 1];
	desktop_cb cb;
	void *data;
};

static void on_asked_done(void *data, const struct err *err)
{
	_cleanup_free_ struct asked *asked = data;

	if (err)
		asked->cb(asked->data, NULL, err);
	else
		asked->cb(asked->data,
			  desktops_find(asked->disks->env.desktops, asked->desktop_id, NULL), NULL);
}

static int check_previous(struct desktop *desktop, struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);

	if (row->previous_image_id[0] && row->op == DB_DESKTOP_OP_NONE)
		return 0;
	return err_set(err, ERR_CONFLICT,
		       "desktop '%s' has no recompose that could be undone or confirmed",
		       row->name);
}

static void ask(struct disks *disks, struct desktop *desktop, const char *what, const char *name,
		const struct plan_step *steps, size_t n_steps, desktop_cb cb, void *data)
{
	struct asked *asked = mem_new(struct asked);
	struct move *move = move_new(disks, on_asked_done, asked);

	*asked = (struct asked){.disks = disks, .cb = cb, .data = data};
	memcpy(asked->desktop_id, desktop_row(desktop)->id, sizeof(asked->desktop_id));
	snprintf(move->what, sizeof(move->what), "%s", what);
	move->plan_name = name;
	move->steps = steps;
	move->n_steps = n_steps;
	start_move(move, desktop);
}

void disks_recompose_undo(struct disks *disks, struct desktop *desktop, desktop_cb cb, void *data)
{
	struct err err;

	if (check_previous(desktop, &err) < 0 || recompose_refuse_running(desktop, &err) < 0 ||
	    recompose_refuse_snapshots(disks, desktop, &err) < 0)
		cb(data, NULL, &err);
	else
		ask(disks, desktop, "its recompose is being undone", "desktop-recompose-undo",
		    undo_plan, ARRAY_LEN(undo_plan), cb, data);
}

void disks_recompose_confirm(struct disks *disks, struct desktop *desktop, desktop_cb cb,
			     void *data)
{
	struct err err;

	if (check_previous(desktop, &err) < 0)
		cb(data, NULL, &err);
	else
		ask(disks, desktop, "its recompose is being confirmed", "desktop-recompose-confirm",
		    confirm_plan, ARRAY_LEN(confirm_plan), cb, data);
}

void moves_free(struct disks *disks)
{
	struct move *move, *next;

	DL_FOREACH_SAFE(disks->moves, move, next)
	{
		plan_drop(TAKE_PTR(move->plan));
		DL_DELETE(disks->moves, move);
		free(move);
	}
}
