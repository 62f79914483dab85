#include "base/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum direction { FORWARD, BACK };

/*
 * A completion may come from inside the step that it completes; steps are therefore begun from a
 * loop (advance()), never from within one another, and the stack stays flat however long the table
 * is.
 */
struct plan {
	const char *name;
	const struct plan_step *steps;
	size_t n;
	size_t at; /* FORWARD: the running step; BACK: one more than the running undo */
	enum direction direction;
	bool begun;
	bool advancing; /* inside advance(): completions only set `completed` */
	bool completed;
	bool dropped;
	struct err err; /* the first failure */
	void *ctx;
	plan_done_cb done;
	uv_timer_t timer; /* begins the plan, then keeps the deadlines */
};

#ifdef VDI_CRASH_POINTS
void plan_crash_point(const char *plan, const char *step, const char *when)
{
	const char *at = getenv("VDI_CRASH_AT");
	char here[128];
	snprintf(here, sizeof(here), "%s:%s:%s", plan, step, when);
	if (at && strcmp(at, here) == 0)
		kill(getpid(), SIGKILL);
}
#else
void plan_crash_point(const char *plan, const char *step, const char *when)
{
}
#endif

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void end(struct plan *plan)
{
	struct err err = plan->err;
	uv_timer_stop(&plan->timer);
	plan->done(plan->ctx, err.code ? &err : NULL);
	uv_close((uv_handle_t *)&plan->timer, on_closed);
}

static void on_deadline(uv_timer_t *timer)
{
	struct plan *plan = timer->data;
	struct err err;
	err_set(&err, ERR_TIMEOUT, "%s: step %s took longer than %llu ms", plan->name,
		plan->steps[plan->at].name, (unsigned long long)uv_timer_get_repeat(timer));
	plan_fail(plan, &err);
}

static void run_step(struct plan *plan)
{
	const struct plan_step *step = &plan->steps[plan->at];
	uint64_t deadline_ms = step->deadline_ms ? step->deadline_ms : PLAN_DEADLINE_MS;
	uv_timer_start(&plan->timer, on_deadline, deadline_ms, deadline_ms);
	plan_crash_point(plan->name, step->name, "before");
	step->run(plan, plan->ctx);
}

static void run_undo(struct plan *plan)
{
	const struct plan_step *step = &plan->steps[plan->at - 1];
	uv_timer_stop(&plan->timer);
	if (step->undo)
		step->undo(plan, plan->ctx);
	else
		plan_undone(plan);
}

static bool at_end(const struct plan *plan)
{
	return plan->direction == FORWARD ? plan->at == plan->n : plan->at == 0;
}

/* Begin steps for as long as they complete at once. */
static void advance(struct plan *plan)
{
	do {
		if (at_end(plan)) {
			end(plan);
			return;
		}
		plan->completed = false;
		plan->advancing = true;
		if (plan->direction == FORWARD)
			run_step(plan);
		else
			run_undo(plan);
		plan->advancing = false;
	} while (plan->completed && !plan->dropped);
}

static void complete(struct plan *plan)
{
	if (plan->advancing)
		plan->completed = true;
	else
		advance(plan);
}

static void on_begin(uv_timer_t *timer)
{
	struct plan *plan = timer->data;
	plan->begun = true;
	advance(plan);
}

static struct plan *plan_new(uv_loop_t *loop, const char *name, const struct plan_step *steps,
			     size_t n, void *ctx, plan_done_cb done)
{
	struct plan *plan = mem_new(struct plan);
	plan->name = name;
	plan->steps = steps;
	plan->n = n;
	plan->ctx = ctx;
	plan->done = done;
	uv_timer_init(loop, &plan->timer);
	plan->timer.data = plan;
	uv_timer_start(&plan->timer, on_begin, 0, 0);
	return plan;
}

struct plan *plan_start(uv_loop_t *loop, const char *name, const struct plan_step *steps, size_t n,
			void *ctx, plan_done_cb done)
{
	return plan_new(loop, name, steps, n, ctx, done);
}

struct plan *plan_undo(uv_loop_t *loop, const char *name, const struct plan_step *steps, size_t n,
		       void *ctx, plan_done_cb done)
{
	struct plan *plan = plan_new(loop, name, steps, n, ctx, done);
	plan->direction = BACK;
	plan->at = n;
	return plan;
}

void plan_next(struct plan *plan)
{
	if (plan->direction == BACK)
		return;
	plan_crash_point(plan->name, plan->steps[plan->at].name, "after");
	plan->at++;
	complete(plan);
}

void plan_fail(struct plan *plan, const struct err *err)
{
	if (plan->direction == BACK)
		return;
	plan->err = *err;
	plan->direction = BACK;
	/*
	 * The step that runs is undone too. None runs before the begin, nor in a step's function
	 * once that said it was done.
	 */
	if (plan->begun && !(plan->advancing && plan->completed))
		plan->at++;
	complete(plan);
}

void plan_end_step(struct plan *plan, int result, const struct err *err)
{
	if (result < 0)
		plan_fail(plan, err);
	else
		plan_next(plan);
}

void plan_undone(struct plan *plan)
{
	plan->at--;
	complete(plan);
}

void plan_cancel(struct plan *plan, const struct err *err)
{
	struct err cancelled;
	if (!err) {
		err_set(&cancelled, ERR_CANCELLED, "%s was cancelled", plan->name);
		err = &cancelled;
	}
	plan_fail(plan, err);
}

void plan_drop(struct plan *plan)
{
	if (!plan || plan->dropped)
		return;
	plan->dropped = true;
	uv_close((uv_handle_t *)&plan->timer, on_closed);
}

bool plan_is_undoing(const struct plan *plan)
{
	return plan->direction == BACK;
}
