#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define FORCE_DEADLINE_MS 30000
#define RESTART_FIRST_MS  1000
#define RESTART_LAST_MS   60000

/* A stop has no way back: what a crash interrupts is gone on with. */
static void write_intent(struct plan *plan, void *ctx);
static void ask_guest(struct plan *plan, void *ctx);
static void force(struct plan *plan, void *ctx);
static void clean_up(struct plan *plan, void *ctx);

static const struct plan_step stop_plan[] = {
	{"intent", write_intent, NULL},
	{"powerdown", ask_guest, NULL, UINT32_MAX},
	{"force", force, NULL, FORCE_DEADLINE_MS},
	{"cleanup", clean_up, NULL},
};

static void write_intent(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_STOP;
	desktop->row.wanted = false;
	plan_end_step(plan, desktop_save(desktop, &err), &err);
}

static void on_gone(struct desktop *desktop)
{
	desktop_retry_stop(desktop);
	plan_next(desktop->plan);
}

static void too_slow(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	desktop_retry_stop(desktop);
	desktop->ended = NULL;
	log_warn("desktop %s: the guest did not power off within %lld s; it is switched off",
		 desktop->row.name, (long long)desktop->timeout_s);
	plan_next(desktop->plan);
}

/*
 * A guest may be deaf to the power button while it boots, so the request is sent once more halfway;
 * what counts is the process' end, not the answer.
 */
static void press_again(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	if (desktop->qmp)
		qmp_execute(desktop->qmp, "system_powerdown", NULL, 0, NULL, NULL);
	desktop_retry_after(desktop, (uint64_t)desktop->timeout_s * 500, too_slow);
}

static void ask_guest(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (desktop->force || !desktop->watch || !desktop->qmp) {
		plan_next(plan);
		return;
	}
	desktop->ended = on_gone;
	/* a paused guest cannot hear the button */
	qmp_execute(desktop->qmp, "cont", NULL, 0, NULL, NULL);
	qmp_execute(desktop->qmp, "system_powerdown", NULL, 0, NULL, NULL);
	desktop_retry_after(desktop, (uint64_t)desktop->timeout_s * 500, press_again);
}

static void force(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (!desktop->watch) {
		plan_next(plan);
		return;
	}
	desktop->force = true;
	desktop_process_quit(desktop, on_gone);
}

void desktop_cleanup(struct desktop *desktop, struct err *err)
{
	struct priv *priv = desktop->all->env.priv;
	struct priv_request req = {.verb = PRIV_CGROUP_DELETE};
	req.u.slot = (uint32_t)desktop->row.slot;
	if (!priv_is_rootless(priv)) {
		priv_call(priv, &req, NULL, 0, NULL, NULL);
		desktop_taps_forget(desktop);
	}
	desktop_monitor_close(desktop);
	desktop_process_release(desktop);
	desktop_unlink_sockets(desktop);
	desktop->row.pid = 0;
	desktop->row.start_time = 0;
	desktop->row.boot_id[0] = '\0';
	desktop->row.held = false;
	desktop->park = PARK_NONE;
	if (desktop_save(desktop, err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err->msg);
}

static void clean_up(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err = {0};
	desktop->row.op = DB_DESKTOP_OP_NONE;
	desktop_cleanup(desktop, &err);
	if (err.code) {
		plan_fail(plan, &err);
		return;
	}
	desktop_renew_ended(desktop);
	plan_next(plan);
}

static void on_stopped(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	desktop->ended = NULL;
	/* one that failed is not gone on with behind the back of who was told so */
	desktop->row.op = DB_DESKTOP_OP_NONE;
	if (!err)
		desktop_set_state(desktop, DESKTOP_STOPPED, "");
	else if (desktop->watch)
		desktop_set_state(desktop, DESKTOP_RUNNING, err->msg);
	else
		desktop_set_state(desktop, DESKTOP_FAILED, err->msg);
	desktop_end(desktop, err);
}

static void begin_stop(struct desktop *desktop)
{
	desktop_set_state(desktop, DESKTOP_STOPPING, "");
	desktop->plan = plan_start(desktop->all->env.loop, "desktop-stop", stop_plan,
				   ARRAY_LEN(stop_plan), desktop, on_stopped);
}

/* By the next step at once; one that is in it already is killed. */
static void hurry(struct desktop *desktop)
{
	if (desktop->force) {
		desktop_process_signal(desktop, SIGKILL);
	} else if (desktop->ended) {
		desktop_retry_stop(desktop);
		desktop->ended = NULL;
		plan_next(desktop->plan);
	} else {
		desktop->force = true;
	}
}

void desktop_stop(struct desktop *desktop, bool forced, int64_t timeout_s, desktop_cb cb,
		  void *data)
{
	struct err err;
	/* force is for the impatient: it hurries a stop that is waiting for the guest */
	if (forced && desktop->state == DESKTOP_STOPPING && desktop->watch)
		hurry(desktop);
	/* nor does it wait for a pause that a hung QEMU may never answer, or for a guest's tray */
	if (forced && desktop->done && (!desktop->plan || desktop->cdrom) && desktop->watch &&
	    desktop->park == PARK_NONE)
		desktop_monitor_close(desktop);
	if (!desktop->done && (!desktop->watch || desktop->park != PARK_NONE)) {
		if (desktop->state == DESKTOP_FAILED)
			desktop_set_state(desktop, DESKTOP_STOPPED, "");
		desktop_timer_stop(&desktop->restart);
		desktop->row.wanted = false;
		if (desktop_save(desktop, &err) < 0)
			cb(data, NULL, &err);
		else
			cb(data, desktop, NULL);
		return;
	}
	if (desktop_begin(desktop, cb, data, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	desktop->force = forced;
	desktop->timeout_s = timeout_s ? timeout_s : desktop->all->env.stop_timeout_s;
	begin_stop(desktop);
}

void desktop_stop_go_on(struct desktop *desktop)
{
	struct err err;
	if (desktop_begin(desktop, desktop_nobody_asked, NULL, &err) < 0)
		return;
	desktop->timeout_s = desktop->all->env.stop_timeout_s;
	begin_stop(desktop);
}

static void restart(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	desktop_timer_stop(&desktop->restart);
	if (desktop->done)
		desktop_timer_start(desktop, &desktop->restart, RESTART_FIRST_MS, restart);
	else
		desktop_start(desktop, 0, desktop_nobody_asked, NULL);
}

static void restart_by_policy(struct desktop *desktop, bool failed)
{
	switch (desktop->row.restart) {
	case DB_RESTART_NEVER:
		return;
	case DB_RESTART_ON_FAILURE:
		if (!failed)
			return;
		break;
	case DB_RESTART_ALWAYS:
		break;
	}
	uint64_t wait_ms = RESTART_FIRST_MS << (desktop->failures < 6 ? desktop->failures : 6);
	if (wait_ms > RESTART_LAST_MS)
		wait_ms = RESTART_LAST_MS;
	desktop->failures++;
	log_info("desktop %s: starts again in %llu ms, as its restart policy says",
		 desktop->row.name, (unsigned long long)wait_ms);
	desktop_timer_start(desktop, &desktop->restart, wait_ms, restart);
}

void desktop_on_end(struct desktop *desktop)
{
	struct err words, err = {0};
	desktop_last_words(desktop, &words);
	desktop_retry_stop(desktop);
	if (desktop->plan) {
		if (plan_is_undoing(desktop->plan))
			return;
		plan_fail(desktop->plan, &words);
		return;
	}
	if (desktop->park != PARK_NONE) {
		desktop_park_ended(desktop);
		return;
	}
	bool failed = !desktop->guest_ended;
	/* a desktop that ran well for a while starts its back-off anew */
	if (str_now_ms() - desktop->row.started_at > 10 * RESTART_LAST_MS)
		desktop->failures = 0;
	desktop->row.wanted = false;
	desktop_set_state(desktop, failed ? DESKTOP_FAILED : DESKTOP_STOPPED,
			  failed ? words.msg : "");
	desktop_cleanup(desktop, &err);
	desktop_renew_ended(desktop);
	/* pause, resume, reset may have been under way */
	desktop_end(desktop, &words);
	restart_by_policy(desktop, failed);
}
