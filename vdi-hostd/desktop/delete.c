#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

/* A delete has no way back: what a crash interrupts is gone on with. */
static void write_intent(struct plan *plan, void *ctx);
static void delete_files(struct plan *plan, void *ctx);
static void delete_row(struct plan *plan, void *ctx);

static const struct plan_step delete_plan[] = {
	{"intent", write_intent, NULL},
	{"files", delete_files, NULL},
	{"row", delete_row, NULL},
};

static void write_intent(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_DELETE;
	plan_end_step(plan, desktop_save(desktop, &err), &err);
}

static void delete_files(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	const struct desktop_keeper *keeper = &desktop->all->keeper;
	struct err err;
	desktop_unlink_sockets(desktop);
	desktop_unlink_logs(desktop);
	int result = keeper->forget ? keeper->forget(keeper->data, desktop, &err) : 0;
	plan_end_step(plan, result < 0 ? -1 : desktop_delete_disks(desktop, &err), &err);
}

static void delete_row(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	plan_end_step(plan, db_desktop_delete(desktop->all->env.db, desktop->row.id, &err), &err);
}

static void on_deleted(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	if (err) {
		struct err unsaved;
		/* one that failed is not gone on with behind the back of who was told so */
		desktop->row.op = DB_DESKTOP_OP_NONE;
		desktop_set_state(desktop, DESKTOP_FAILED, err->msg);
		if (desktop_save(desktop, &unsaved) < 0)
			log_err("desktop %s: %s", desktop->row.name, unsaved.msg);
		desktop_end(desktop, err);
		return;
	}
	log_info("desktop %s: deleted", desktop->row.name);
	desktop_tell(desktop, "deleted");
	desktop_cb done = TAKE_PTR(desktop->done);
	void *data = desktop->done_data;
	desktop_forget(desktop);
	done(data, NULL, NULL);
}

static void begin_delete(struct desktop *desktop)
{
	struct err err;
	if (desktop->watch) {
		err_set(&err, ERR_TIMEOUT,
			"desktop '%s' cannot be deleted: a QEMU that holds its disks does not end",
			desktop->row.name);
		desktop_end(desktop, &err);
		return;
	}
	desktop->plan = plan_start(desktop->all->env.loop, "desktop-delete", delete_plan,
				   ARRAY_LEN(delete_plan), desktop, on_deleted);
}

void desktop_delete_go_on(struct desktop *desktop, desktop_cb cb, void *data)
{
	struct err err;
	if (desktop_work_refuse(desktop, &err) < 0 || desktop_claim(desktop, cb, data, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	desktop_timer_stop(&desktop->restart);
	desktop_when_settled(desktop, begin_delete);
}

struct stop_first {
	desktop_cb cb;
	void *data;
};

static void on_stopped(void *data, struct desktop *desktop, const struct err *err)
{
	_cleanup_free_ struct stop_first *first = data;
	if (err)
		first->cb(first->data, NULL, err);
	else
		desktop_delete_go_on(desktop, first->cb, first->data);
}

void desktop_delete(struct desktop *desktop, bool force, desktop_cb cb, void *data)
{
	struct err err;
	if (!desktop->watch || desktop->park != PARK_NONE || desktop->work.what) {
		desktop_delete_go_on(desktop, cb, data);
		return;
	}
	if (!force) {
		err_set(&err, ERR_CONFLICT,
			"desktop '%s' is %s; stop it first, or delete it with force",
			desktop->row.name, desktop_state_names[desktop->state]);
		cb(data, NULL, &err);
		return;
	}
	struct stop_first *first = mem_new(struct stop_first);
	first->cb = cb;
	first->data = data;
	desktop_stop(desktop, true, 0, on_stopped, first);
}
