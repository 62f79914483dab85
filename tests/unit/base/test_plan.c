#include "base/plan.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
/* cmocka wants those above */
#include <cmocka.h>

#include "base/mem.h"

#define STEPS 3

enum how { NOW, LATER, FAIL_NOW, FAIL_LATER, NEVER };

/* A plan of three steps, told how each is to end; what happens is written down as text. */
struct fixture {
	uv_loop_t loop;
	uv_timer_t timer;
	struct plan *plan;
	enum how run[STEPS], undo[STEPS];
	size_t current; /* the step that the timer completes */
	bool timer_undoes;
	void (*while_running)(struct fixture *f, size_t step);
	void (*while_undoing)(struct fixture *f, size_t step);
	char log[256];
	int mark_fd; /* a byte for each step that begins, which survives a crash; or 0 */
	int n_done;
	struct err err;
};

static void note(struct fixture *f, const char *what, size_t step)
{
	size_t n = strlen(f->log);
	snprintf(f->log + n, sizeof(f->log) - n, "%s%s%zu", n ? " " : "", what, step);
}

static void fail_step(struct fixture *f, size_t step)
{
	struct err err;
	err_set(&err, ERR_IO, "step %zu broke", step);
	plan_fail(f->plan, &err);
}

static void on_timer(uv_timer_t *timer)
{
	struct fixture *f = timer->data;
	if (f->timer_undoes)
		plan_undone(f->plan);
	else if (f->run[f->current] == FAIL_LATER)
		fail_step(f, f->current);
	else
		plan_next(f->plan);
}

static void run_step(struct plan *plan, struct fixture *f, size_t step)
{
	note(f, "+", step);
	if (f->mark_fd && write(f->mark_fd, "x", 1) != 1)
		_exit(1);
	if (f->while_running)
		f->while_running(f, step);
	switch (f->run[step]) {
	case NOW:
		plan_next(plan);
		return;
	case FAIL_NOW:
		fail_step(f, step);
		return;
	case LATER:
	case FAIL_LATER:
		f->current = step;
		f->timer_undoes = false;
		uv_timer_start(&f->timer, on_timer, 1, 0);
		return;
	case NEVER:
		return;
	}
}

static void undo_step(struct plan *plan, struct fixture *f, size_t step)
{
	assert_true(plan_is_undoing(plan));
	note(f, "-", step);
	uv_timer_stop(&f->timer);
	if (f->while_undoing)
		f->while_undoing(f, step);
	if (f->undo[step] == LATER) {
		f->timer_undoes = true;
		uv_timer_start(&f->timer, on_timer, 1, 0);
	} else {
		plan_undone(plan);
	}
}

#define STEP(n)                                                                                    \
	static void run_##n(struct plan *plan, void *ctx)                                          \
	{                                                                                          \
		run_step(plan, ctx, n);                                                            \
	}                                                                                          \
	static void undo_##n(struct plan *plan, void *ctx)                                         \
	{                                                                                          \
		undo_step(plan, ctx, n);                                                           \
	}                                                                                          \
	struct mem_eat_semicolon

STEP(0);
STEP(1);
STEP(2);

static const struct plan_step steps[STEPS] = {
	{"zero", run_0, undo_0, 2000},
	{"one", run_1, undo_1, 2000},
	{"two", run_2, undo_2, 2000},
};

static void on_done(void *ctx, const struct err *err)
{
	struct fixture *f = ctx;
	f->n_done++;
	if (err)
		f->err = *err;
}

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	uv_loop_init(&f->loop);
	uv_timer_init(&f->loop, &f->timer);
	f->timer.data = f;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	uv_close((uv_handle_t *)&f->timer, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	int failed = uv_loop_close(&f->loop);
	free(f);
	return failed;
}

static void start(struct fixture *f)
{
	f->log[0] = '\0';
	f->err.code = 0;
	f->n_done = 0;
	f->plan = plan_start(&f->loop, "test", steps, STEPS, f, on_done);
	assert_string_equal(f->log, "");
}

/* The loop ends by itself: the plan left no handle behind. */
static void finish(struct fixture *f, const char *log, enum err_code code)
{
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->n_done, 1);
	assert_string_equal(f->log, log);
	assert_int_equal(f->err.code, code);
}

static void test_success(void **state)
{
	struct fixture *f = *state;
	static const enum how ways[] = {NOW, LATER};
	for (int mask = 0; mask < 1 << STEPS; mask++) {
		for (int i = 0; i < STEPS; i++)
			f->run[i] = ways[mask >> i & 1];
		start(f);
		finish(f, "+0 +1 +2", 0);
	}
}

static void test_failure_at_each_step(void **state)
{
	static const char *const logs[] = {"+0 -0", "+0 +1 -1 -0", "+0 +1 +2 -2 -1 -0"};
	struct fixture *f = *state;
	for (int at = 0; at < STEPS; at++) {
		for (int mask = 0; mask < 8; mask++) {
			for (int i = 0; i < STEPS; i++) {
				f->run[i] = mask & 1 ? NOW : LATER;
				f->undo[i] = mask & 2 ? NOW : LATER;
			}
			f->run[at] = mask & 4 ? FAIL_NOW : FAIL_LATER;
			start(f);
			finish(f, logs[at], ERR_IO);
			char msg[32];
			snprintf(msg, sizeof(msg), "step %d broke", at);
			assert_string_equal(f->err.msg, msg);
		}
	}
}

static void test_deadline(void **state)
{
	struct fixture *f = *state;
	f->run[1] = NEVER;
	f->undo[1] = LATER;
	start(f);
	finish(f, "+0 +1 -1 -0", ERR_TIMEOUT);
	assert_non_null(strstr(f->err.msg, "one"));
}

/* Each step has its own: three of 800 ms are within 2000 ms each, and together over it. */
static void test_deadline_is_per_step(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < STEPS; i++)
		f->run[i] = NEVER;
	start(f);
	for (int i = 0; i < STEPS; i++) {
		uv_run(&f->loop, UV_RUN_NOWAIT);
		usleep(800000);
		plan_next(f->plan);
	}
	finish(f, "+0 +1 +2", 0);
}

static void test_cancel(void **state)
{
	struct fixture *f = *state;
	f->run[1] = NEVER;
	start(f);
	uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_false(plan_is_undoing(f->plan));
	plan_cancel(f->plan, NULL);
	finish(f, "+0 +1 -1 -0", ERR_CANCELLED);

	struct err err;
	err_set(&err, ERR_CONFLICT, "somebody else came");
	start(f);
	uv_run(&f->loop, UV_RUN_NOWAIT);
	plan_cancel(f->plan, &err);
	finish(f, "+0 +1 -1 -0", ERR_CONFLICT);
}

static void test_cancel_before_begin(void **state)
{
	struct fixture *f = *state;
	start(f);
	plan_cancel(f->plan, NULL);
	finish(f, "", ERR_CANCELLED);
}

static void cancel_in_one(struct fixture *f, size_t step)
{
	if (step == 1)
		plan_cancel(f->plan, NULL);
}

static void test_cancel_inside_step(void **state)
{
	struct fixture *f = *state;
	f->while_running = cancel_in_one;
	for (int how = NOW; how <= FAIL_NOW; how += FAIL_NOW - NOW) {
		f->run[1] = (enum how)how;
		start(f);
		finish(f, "+0 +1 -1 -0", ERR_CANCELLED);
	}
}

static void next_then_cancel(struct fixture *f, size_t step)
{
	if (step != STEPS - 1)
		return;
	plan_next(f->plan);
	plan_cancel(f->plan, NULL);
}

/* Said to be done and then cancelled, all in one function: no step beyond the table is undone. */
static void test_cancel_after_last(void **state)
{
	struct fixture *f = *state;
	f->while_running = next_then_cancel;
	f->run[STEPS - 1] = NEVER;
	start(f);
	finish(f, "+0 +1 +2 -2 -1 -0", ERR_CANCELLED);
}

static void complete_late(struct fixture *f, size_t step)
{
	plan_next(f->plan);
	fail_step(f, 9);
	plan_cancel(f->plan, NULL);
}

static void test_late_completions(void **state)
{
	struct fixture *f = *state;
	f->while_undoing = complete_late;
	for (int i = 0; i < STEPS; i++)
		f->undo[i] = LATER;
	f->run[2] = FAIL_NOW;
	start(f);
	finish(f, "+0 +1 +2 -2 -1 -0", ERR_IO);
	assert_string_equal(f->err.msg, "step 2 broke");
}

static void test_undo_only(void **state)
{
	struct fixture *f = *state;
	f->undo[1] = LATER;
	f->plan = plan_undo(&f->loop, "test", steps, STEPS, f, on_done);
	assert_true(plan_is_undoing(f->plan));
	assert_string_equal(f->log, "");
	finish(f, "-2 -1 -0", 0);
}

static void test_empty_and_without_undo(void **state)
{
	static const struct plan_step bare[] = {{"zero", run_0}, {"one", run_1}};
	struct fixture *f = *state;
	f->plan = plan_start(&f->loop, "empty", steps, 0, f, on_done);
	finish(f, "", 0);
	f->n_done = 0;
	f->plan = plan_start(&f->loop, "empty", steps, 0, f, on_done);
	plan_cancel(f->plan, NULL);
	finish(f, "", ERR_CANCELLED);
	f->n_done = 0;
	f->run[1] = FAIL_NOW;
	f->plan = plan_start(&f->loop, "bare", bare, 2, f, on_done);
	finish(f, "+0 +1", ERR_IO);
}

static void run_many(struct plan *plan, void *ctx)
{
	plan_next(plan);
}

static void undo_many(struct plan *plan, void *ctx)
{
	plan_undone(plan);
}

/* However long the table, the stack stays flat. */
static void test_long_table(void **state)
{
	enum { MANY = 200000 };
	struct fixture *f = *state;
	struct plan_step *many = mem_calloc(MANY, sizeof(*many));
	for (int i = 0; i < MANY; i++)
		many[i] = (struct plan_step){"many", run_many, undo_many};
	f->plan = plan_start(&f->loop, "long", many, MANY, f, on_done);
	finish(f, "", 0);
	f->n_done = 0;
	f->plan = plan_undo(&f->loop, "long", many, MANY, f, on_done);
	finish(f, "", 0);
	free(many);
}

static void on_done_start(void *ctx, const struct err *err)
{
	on_done(ctx, err);
	if (((struct fixture *)ctx)->n_done == 1)
		plan_start(&((struct fixture *)ctx)->loop, "test", steps, 0, ctx, on_done);
}

static void test_start_from_done(void **state)
{
	struct fixture *f = *state;
	f->plan = plan_start(&f->loop, "test", steps, STEPS, f, on_done_start);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->n_done, 2);
}

static void drop_at_one(struct fixture *f, size_t step)
{
	if (step == 1)
		plan_drop(TAKE_PTR(f->plan));
}

static void test_drop(void **state)
{
	struct fixture *f = *state;
	plan_drop(NULL);
	/* before its begin */
	start(f);
	plan_drop(f->plan);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_string_equal(f->log, "");
	/* while a step is under way, and while an undo is */
	for (int back = 0; back < 2; back++) {
		f->run[1] = back ? FAIL_NOW : NEVER;
		f->while_running = back ? NULL : drop_at_one;
		f->while_undoing = back ? drop_at_one : NULL;
		f->undo[1] = LATER;
		start(f);
		for (int i = 0; i < 5; i++)
			uv_run(&f->loop, UV_RUN_NOWAIT);
		uv_timer_stop(&f->timer);
		uv_run(&f->loop, UV_RUN_DEFAULT);
		assert_string_equal(f->log, back ? "+0 +1 -1" : "+0 +1");
		assert_int_equal(f->n_done, 0);
	}
}

#ifdef VDI_CRASH_POINTS
/* Runs the plan in a child; returns whether it was killed, and how many steps were begun. */
static bool crashes_at(struct fixture *f, const char *point, size_t *ret_begun)
{
	int pipe_fds[2];
	assert_int_equal(pipe(pipe_fds), 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		setenv("VDI_CRASH_AT", point, 1);
		uv_loop_fork(&f->loop);
		f->mark_fd = pipe_fds[1];
		for (size_t i = 0; i < STEPS; i++)
			f->run[i] = LATER;
		start(f);
		uv_run(&f->loop, UV_RUN_DEFAULT);
		_exit(f->n_done == 1 ? 0 : 1);
	}
	int status;
	char marks[16];
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(pipe_fds[1]);
	ssize_t n = read(pipe_fds[0], marks, sizeof(marks));
	close(pipe_fds[0]);
	*ret_begun = n > 0 ? (size_t)n : 0;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void test_crash_points(void **state)
{
	struct fixture *f = *state;
	size_t begun;
	assert_true(crashes_at(f, "test:zero:before", &begun));
	assert_int_equal(begun, 0);
	assert_true(crashes_at(f, "test:one:before", &begun));
	assert_int_equal(begun, 1);
	assert_true(crashes_at(f, "test:one:after", &begun));
	assert_int_equal(begun, 2);
	assert_true(crashes_at(f, "test:two:after", &begun));
	assert_int_equal(begun, 3);
	assert_false(crashes_at(f, "test:three:after", &begun));
	assert_false(crashes_at(f, "other:one:after", &begun));
	assert_int_equal(begun, 3);
}
#endif

#define case_of(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(test_success),
		case_of(test_failure_at_each_step),
		case_of(test_deadline),
		case_of(test_deadline_is_per_step),
		case_of(test_cancel),
		case_of(test_cancel_before_begin),
		case_of(test_cancel_inside_step),
		case_of(test_cancel_after_last),
		case_of(test_late_completions),
		case_of(test_undo_only),
		case_of(test_empty_and_without_undo),
		case_of(test_long_table),
		case_of(test_start_from_done),
		case_of(test_drop),
#ifdef VDI_CRASH_POINTS
		case_of(test_crash_points),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
