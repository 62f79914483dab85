/*
 * A change of several steps. Each step has a way back; when one fails, is too slow or the plan is
 * cancelled, the steps done so far are undone in reverse order. Steps and undos may take as long as
 * they like without blocking the loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct plan;

/**
 * struct plan_step - one row of a plan
 * @name:        for messages and for VDI_CRASH_AT
 * @run:         ends, now or later, in exactly one plan_next() or plan_fail()
 * @undo:        NULL if there is nothing to undo. Ends, now or later, in exactly one plan_undone().
 * It is idempotent, it never fails upward, and it is also called for the step that failed or was
 *               interrupted: there it must first stop what @run began. A completion of @run that
 * comes late, while the plan is undoing, is ignored; none may come after plan_undone().
 * @deadline_ms: 0: PLAN_DEADLINE_MS
 */
struct plan_step {
	const char *name;
	void (*run)(struct plan *plan, void *ctx);
	void (*undo)(struct plan *plan, void *ctx);
	uint64_t deadline_ms;
};

#define PLAN_DEADLINE_MS 30000

/** plan_done_cb - the end: NULL when all steps were done, else the first error, everything undone
 */
typedef void (*plan_done_cb)(void *ctx, const struct err *err);

/**
 * plan_start() - run a table of steps
 * @name:  names the plan in messages and in VDI_CRASH_AT=<name>:<step>:{before,after}
 * @steps: @n rows, borrowed for the plan's life
 * @done:  fires exactly once, from the loop or from within the last step's plan_next(), never
 * inside plan_start(); the plan is freed by itself after it
 *
 * Return: the plan, owned by itself, valid until @done.
 */
struct plan *plan_start(uv_loop_t *loop, const char *name, const struct plan_step *steps, size_t n,
			void *ctx, plan_done_cb done);

/** plan_next() - the running step is done */
void plan_next(struct plan *plan);

/** plan_fail() - the running step failed; @err is copied */
void plan_fail(struct plan *plan, const struct err *err);

/** plan_end_step() - plan_fail() with @err where @result is negative, else plan_next() */
void plan_end_step(struct plan *plan, int result, const struct err *err);

/** plan_undone() - the running undo is done */
void plan_undone(struct plan *plan);

/** plan_cancel() - interrupt the running step and undo; @done gets ERR_CANCELLED (or @err if given)
 */
void plan_cancel(struct plan *plan, const struct err *err);

/**
 * plan_drop() - forget a plan where it stands: nothing more is run or undone, @done does not fire
 *
 * For a program that ends: what was begun is found and settled by its next start. NULL is fine.
 */
void plan_drop(struct plan *plan);

/** plan_is_undoing() - on the way back? */
bool plan_is_undoing(const struct plan *plan);

/**
 * plan_undo() - run only the undo column, last row first: what reconcile does after a crash
 * @done: gets NULL
 */
struct plan *plan_undo(uv_loop_t *loop, const char *name, const struct plan_step *steps, size_t n,
		       void *ctx, plan_done_cb done);

/**
 * plan_crash_point() - end the process by SIGKILL where VDI_CRASH_AT names this point
 *
 * Only in builds with -Dcrash_points=true (the tests); elsewhere it does nothing. @when is "before"
 * or "after". Code that changes several things without being a plan may name points of its own.
 */
void plan_crash_point(const char *plan, const char *step, const char *when);
