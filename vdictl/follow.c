#include "vdictl/follow.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "vdictl/client.h"
#include "vdictl/text.h"

#define BAR_WIDTH     30
#define WAIT_FIRST_MS 10
#define WAIT_MOST_MS  200

static volatile sig_atomic_t interrupts;

static void on_interrupt(int sig)
{
	interrupts++;
}

/* A second Ctrl-C ends the program as ever. */
static void catch_interrupt(struct sigaction *ret_before)
{
	struct sigaction action = {.sa_handler = on_interrupt,
				   .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, ret_before);
}

static char *amount(json_int_t value, const char *unit)
{
	return unit && strcmp(unit, "bytes") == 0 ? text_size(value)
						  : mem_printf("%lld", (long long)value);
}

static void draw(json_t *job)
{
	json_int_t done = json_integer_value(json_object_get(job, "done"));
	json_int_t total = json_integer_value(json_object_get(job, "total"));
	const char *unit = json_string_value(json_object_get(job, "unit"));
	_cleanup_free_ char *done_text = amount(done, unit);
	if (total <= 0) {
		fprintf(stderr, "\r\033[K%s", done > 0 ? done_text : "working ...");
		return;
	}
	if (done < 0 || done > total)
		done = done < 0 ? 0 : total;
	_cleanup_free_ char *total_text = amount(total, unit);
	double part = (double)done / (double)total;
	char bar[BAR_WIDTH + 1];
	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < (int)(part * BAR_WIDTH) ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r\033[K[%s] %3d%%  %s of %s", bar, (int)(part * 100), done_text,
		total_text);
}

/* Returns 1 when the job is over. */
static int look(struct vdictl *vdictl, json_t *params, json_t **ret_job, struct err *err)
{
	json_t *job = NULL;
	if (client_call(vdictl->client, "job.get", params, -1, &job, err) < 0)
		return -1;
	json_decref(*ret_job);
	*ret_job = job;
	const char *state = json_string_value(json_object_get(job, "state"));
	return !state || strcmp(state, "running") != 0;
}

static int cancel(struct vdictl *vdictl, json_t *params, struct err *err)
{
	_cleanup_json_ json_t *ignored = NULL;
	if (client_call(vdictl->client, "job.cancel", params, -1, &ignored, err) == 0)
		return 0;
	/* it ended by itself just now: the next look tells how */
	return err->code == ERR_CONFLICT ? 0 : -1;
}

static int outcome(json_t *job, struct err *err)
{
	const char *state = json_string_value(json_object_get(job, "state"));
	const char *kind = json_string_value(json_object_get(job, "error_kind"));
	const char *message = json_string_value(json_object_get(job, "error"));
	if (state && strcmp(state, "done") == 0)
		return 0;
	if (state && strcmp(state, "cancelled") == 0)
		return err_set(err, ERR_CANCELLED, "%s", message ? message : "it was cancelled");
	return err_set(err, kind ? err_code_from_name(kind) : ERR_INTERNAL, "%s",
		       message ? message : "the job failed, without a reason given");
}

static int wait_for_end(struct vdictl *vdictl, json_t *params, bool bar, json_t **ret_job,
			struct err *err)
{
	long wait_ms = WAIT_FIRST_MS;
	bool asked = false;
	for (;;) {
		int over = look(vdictl, params, ret_job, err);
		if (over != 0)
			return over < 0 ? -1 : 0;
		if (bar)
			draw(*ret_job);
		if (interrupts > 0 && !asked) {
			asked = true;
			if (cancel(vdictl, params, err) < 0)
				return -1;
			continue;
		}
		/* Ctrl-C ends the sleep */
		struct timespec wait = {.tv_nsec = wait_ms * 1000000};
		nanosleep(&wait, NULL);
		wait_ms = 2 * wait_ms < WAIT_MOST_MS ? 2 * wait_ms : WAIT_MOST_MS;
	}
}

int follow_job(struct vdictl *vdictl, const char *id, json_t **ret_job, struct err *err)
{
	_cleanup_json_ json_t *params = json_pack("{ss}", "job", id);
	_cleanup_json_ json_t *job = NULL;
	bool bar = isatty(STDERR_FILENO);
	struct sigaction before;
	catch_interrupt(&before);
	int failed = wait_for_end(vdictl, params, bar, &job, err);
	sigaction(SIGINT, &before, NULL);
	if (bar)
		fputs("\r\033[K", stderr);
	if (failed || outcome(job, err) < 0)
		return -1;
	*ret_job = TAKE_PTR(job);
	return 0;
}
