#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define LAST_WORDS_MS      200
#define MEMORY_DEADLINE_MS 600000 /* it is read as fast as the store can */

/* What a step does first to a desktop is written down before it is done. */
static void write_intent(struct plan *plan, void *ctx);
static void erase_intent(struct plan *plan, void *ctx);
static void admit(struct plan *plan, void *ctx);
static void end_parked(struct plan *plan, void *ctx);
static void leave_parked(struct plan *plan, void *ctx);
static void renew_disk(struct plan *plan, void *ctx);
static void spawn_qemu(struct plan *plan, void *ctx);
static void kill_qemu(struct plan *plan, void *ctx);
static void open_monitor(struct plan *plan, void *ctx);
static void close_monitor(struct plan *plan, void *ctx);
static void run_guest(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step start_plan[] = {
	{"intent", write_intent, erase_intent},
	{"admission", admit, NULL},
	{"unpark", end_parked, leave_parked},
	{"renew", renew_disk, NULL},
	{"tap", desktop_taps_make, desktop_taps_drop},
	{"qemu", spawn_qemu, kill_qemu},
	/* start_timeout_s is its deadline */
	{"handshake", open_monitor, close_monitor, UINT32_MAX},
	{"memory", desktop_load_memory, desktop_unload_memory, MEMORY_DEADLINE_MS},
	{"run", run_guest, NULL},
	{"settle", settle, NULL},
};

static void write_park(struct plan *plan, void *ctx);
static void erase_park(struct plan *plan, void *ctx);

/* For work on the disks of a desktop that is stopped; a start goes on from here. */
static const struct plan_step park_plan[] = {
	{"intent", write_park, erase_park},
	{"tap", desktop_taps_make, desktop_taps_drop},
	{"qemu", spawn_qemu, kill_qemu},
	{"handshake", open_monitor, close_monitor, UINT32_MAX},
};

/* The row and the event of one change go to disk together. */
static int change_state(struct desktop *desktop, enum desktop_state state, struct err *err)
{
	struct db *db = desktop->all->env.db;
	if (db_begin(db, __func__, err) < 0)
		return -1;
	desktop_set_state(desktop, state, "");
	if (desktop_save(desktop, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static void write_intent(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_START;
	desktop->row.wanted = true;
	plan_end_step(plan, change_state(desktop, DESKTOP_STARTING, &err), &err);
}

static void erase_intent(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = desktop->park == PARK_IS ? DB_DESKTOP_OP_PARK : DB_DESKTOP_OP_NONE;
	desktop->row.wanted = false;
	if (desktop_save(desktop, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
	plan_undone(plan);
}

static void admit(struct plan *plan, void *ctx)
{
	struct err err;
	plan_end_step(plan, desktop_admit(ctx, &err), &err);
}

static void on_parked_end(struct desktop *desktop)
{
	struct err err = {0};
	desktop_retry_stop(desktop);
	desktop_cleanup(desktop, &err);
	plan_end_step(desktop->plan, err.code ? -1 : 0, &err);
}

/* One that was made before the desktop was changed is of no use to it now. */
static void end_parked(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (desktop->park == PARK_NONE || desktop_park_fits(desktop))
		plan_next(plan);
	else
		desktop_process_quit(desktop, on_parked_end);
}

static void leave_parked(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	desktop->ended = NULL;
	desktop_retry_stop(desktop);
	plan_undone(plan);
}

static void renew_disk(struct plan *plan, void *ctx)
{
	struct err err;
	plan_end_step(plan, desktop_renew(ctx, &err), &err);
}

static int hold_process(struct desktop *desktop, const struct priv_reply *reply, int *fds,
			struct err *err)
{
	desktop->row.pid = reply->pid;
	desktop->row.start_time = reply->start_time;
	memcpy(desktop->row.boot_id, desktop->all->boot_id, sizeof(desktop->row.boot_id));
	if (desktop_process_adopt(desktop, TAKE_FD(fds[0]), err) < 0) {
		/* nobody would hear its end: the way back cannot wait for that */
		desktop_process_signal(desktop, SIGKILL);
		return -1;
	}
	return desktop_save(desktop, err);
}

static void on_spawned(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct desktop *desktop = data;
	struct err failed;
	if (err && err->code == ERR_CANCELLED)
		return;
	desktop->spawning = false;
	if (!err && hold_process(desktop, reply, fds, &failed) < 0)
		err = &failed;
	if (plan_is_undoing(desktop->plan))
		kill_qemu(desktop->plan, desktop);
	else if (err)
		plan_fail(desktop->plan, err);
	else
		plan_next(desktop->plan);
}

static void spawn_qemu(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct priv_request req = {.verb = PRIV_QEMU_SPAWN};
	int fds[QEMU_FDS_MAX];
	size_t n = 0;
	struct err err;
	if (desktop->park == PARK_IS) {
		plan_next(plan);
		return;
	}
	if (desktop_spec_build(desktop, &req.u.qemu, fds, &n, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	req.n_fds = (uint32_t)n;
	desktop->spawning = true;
	priv_call(desktop->all->env.priv, &req, fds, n, on_spawned, desktop);
	desktop_spec_close(fds, n);
}

static void on_killed(struct desktop *desktop)
{
	struct err err = {0};
	desktop_cleanup(desktop, &err);
	plan_undone(desktop->plan);
}

static void kill_qemu(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (desktop->spawning)
		return; /* its answer goes on from here */
	desktop_monitor_close(desktop);
	if (!desktop->watch) {
		on_killed(desktop);
		return;
	}
	desktop->ended = on_killed;
	desktop_process_signal(desktop, SIGKILL);
}

/*
 * A command that failed may be QEMU dying: its end, heard of a moment later, says more than a
 * closed socket.
 */
static void fail_late(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	desktop_retry_stop(desktop);
	plan_fail(desktop->plan, &desktop->failure);
}

static void step_answered(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	if (err && err->code == ERR_CANCELLED)
		return; /* closed by the way back, or by the daemon's end */
	if (!err) {
		plan_next(desktop->plan);
		return;
	}
	desktop->failure = *err;
	desktop_retry_after(desktop, LAST_WORDS_MS, fail_late);
}

static void open_monitor(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	uint64_t deadline_ms = (uint64_t)desktop->timeout_s * 1000;
	if (desktop->park == PARK_IS) {
		plan_next(plan);
		return;
	}
	if (desktop_monitor_connect(desktop, deadline_ms, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	qmp_execute(desktop->qmp, "query-status", NULL, deadline_ms, step_answered, desktop);
}

static void close_monitor(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	desktop_retry_stop(desktop);
	desktop_monitor_close(desktop);
	plan_undone(plan);
}

/* the command line cannot say that a cable is out */
static void pull_cables(struct desktop *desktop)
{
	char name[16];
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));) {
		snprintf(name, sizeof(name), "nic%d", (int)nic->row.number);
		if (!nic->row.link_up)
			qmp_execute(desktop->qmp, "set_link",
				    json_pack("{s:s, s:b}", "name", name, "up", 0), 0, NULL, NULL);
	}
}

static void run_guest(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	pull_cables(desktop);
	desktop->park = PARK_NONE;
	desktop->disk_error = (struct err){0};
	qmp_execute(desktop->qmp, "cont", NULL, 0, step_answered, desktop);
}

static void settle(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_NONE;
	desktop->row.started_at = str_now_ms();
	plan_end_step(plan, change_state(desktop, DESKTOP_RUNNING, &err), &err);
}

static void on_started(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	struct err ignored;
	desktop->plan = NULL;
	if (desktop->memory_fd >= 0)
		close(TAKE_FD(desktop->memory_fd));
	if (!err) {
		/* the guest's first write may have found the disk full */
		if (desktop->disk_error.code)
			desktop_set_state(desktop, DESKTOP_PAUSED, desktop->disk_error.msg);
		if (desktop_waits_for_room(desktop))
			desktop_room_wait(desktop);
		desktop_end(desktop, NULL);
		return;
	}
	desktop_set_state(desktop, DESKTOP_FAILED, err->msg);
	if (desktop_save(desktop, &ignored) < 0)
		log_err("desktop %s: %s", desktop->row.name, ignored.msg);
	desktop_end(desktop, err);
}

static void begin_plan(struct desktop *desktop)
{
	desktop->plan = plan_start(desktop->all->env.loop, "desktop-start", start_plan,
				   ARRAY_LEN(start_plan), desktop, on_started);
}

void desktop_start(struct desktop *desktop, int64_t timeout_s, desktop_cb cb, void *data)
{
	struct err err;
	if (desktop->state == DESKTOP_RUNNING && !desktop->done) {
		cb(data, desktop, NULL);
		return;
	}
	if (desktop->state == DESKTOP_PAUSED && !desktop->done) {
		err_set(&err, ERR_CONFLICT, "desktop '%s' is paused; resume it instead",
			desktop->row.name);
		cb(data, NULL, &err);
		return;
	}
	if (desktop_claim(desktop, cb, data, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	desktop->timeout_s = timeout_s ? timeout_s : desktop->all->env.start_timeout_s;
	desktop_timer_stop(&desktop->restart);
	desktop_when_settled(desktop, begin_plan);
}

static void write_park(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_PARK;
	plan_end_step(plan, desktop_save(desktop, &err), &err);
}

static void erase_park(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_NONE;
	if (desktop_save(desktop, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
	plan_undone(plan);
}

struct plan *desktop_park_plan(struct desktop *desktop, plan_done_cb done)
{
	desktop->timeout_s = desktop->all->env.start_timeout_s;
	return plan_start(desktop->all->env.loop, "desktop-park", park_plan, ARRAY_LEN(park_plan),
			  desktop, done);
}

void desktop_start_undo(struct desktop *desktop, plan_done_cb done)
{
	desktop->plan = plan_undo(desktop->all->env.loop, "desktop-start", start_plan,
				  ARRAY_LEN(start_plan), desktop, done);
}
