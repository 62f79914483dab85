/*
 * A small daemon for test_server.py: the control socket as it is, over a table that shows what
 * handlers may do. usage: serve SOCKET DATABASE PATIENCE_MS [GROUP]
 */
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "vdi-hostd/api/server.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/job/job.h"

static int made;

static struct api_token ping(struct api_call *call, const void *data)
{
	return api_reply(call, json_object());
}

struct echo_params {
	const char *text;
	int64_t times;
};

static const struct json_field echo_fields[] = {
	{"text", JSON_FIELD_STRING, JSON_FIELD_REQUIRED, offsetof(struct echo_params, text),
	 .doc = "what to say"},
	{"times", JSON_FIELD_INT, 0, offsetof(struct echo_params, times), 1, 100000, 1,
	 .doc = "how often"},
	{0},
};

static struct api_token echo(struct api_call *call, const void *data)
{
	const struct echo_params *params = data;
	json_t *lines = json_array();
	for (int64_t i = 0; i < params->times; i++)
		json_array_append_new(lines, json_string(params->text));
	return api_reply(call, json_pack("{s:o}", "lines", lines));
}

static struct api_token make(struct api_call *call, const void *data)
{
	return api_reply(call, json_pack("{s:i}", "made", ++made));
}

static const struct json_field secret_result[] = {
	{"secret", JSON_FIELD_INT, JSON_FIELD_SECRET, .doc = "never kept"},
	{0},
};

static struct api_token list(struct api_call *call, const void *data)
{
	json_t *items = json_array();
	for (int i = 0; i < 10; i++) {
		char id[8];
		snprintf(id, sizeof(id), "id%d", i);
		json_array_append_new(items, json_pack("{s:s}", "id", id));
	}
	return api_reply(call, items);
}

struct late {
	uv_timer_t timer;
	struct api_call *call;
};

static void on_late_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_late(uv_timer_t *timer)
{
	struct late *late = timer->data;
	api_reply(late->call, json_pack("{s:b}", "late", 1));
	uv_close((uv_handle_t *)timer, on_late_closed);
}

struct late_params {
	int64_t ms;
};

static const struct json_field late_fields[] = {
	{"ms", JSON_FIELD_INT, 0, offsetof(struct late_params, ms), 0, 10000, 100, .doc = "when"},
	{0},
};

static struct api_token late(struct api_call *call, const void *data)
{
	const struct late_params *params = data;
	struct late *wait = mem_new(struct late);
	wait->call = call;
	uv_timer_init(api_call_host(call)->loop, &wait->timer);
	wait->timer.data = wait;
	uv_timer_start(&wait->timer, on_late, (uint64_t)params->ms, 0);
	return api_pending(call);
}

static struct api_token fail_internally(struct api_call *call, const void *data)
{
	return api_reply(call, json_string("\xff")); /* no UTF-8: no JSON */
}

static struct api_token look_at_file(struct api_call *call, const void *data)
{
	struct stat st;
	struct err err;
	_cleanup_close_ int fd = api_call_take_fd(call);
	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(&err, ERR_NOT_FOUND, "no file came with the line");
		return api_fail(call, &err);
	}
	return api_reply(call, json_pack("{s:I}", "size", (json_int_t)st.st_size));
}

static struct api_token tell(struct api_call *call, const void *data)
{
	const struct echo_params *params = data;
	struct err err;
	json_t *said = json_pack("{s:s}", "text", params->text);
	int failed = 0;
	for (int64_t i = 0; i < params->times && !failed; i++)
		failed = db_event_append(api_call_host(call)->db, "host",
					 "3f2b8a10-0000-4000-8000-00000000abcd", said, &err);
	json_decref(said);
	return failed ? api_fail(call, &err) : api_reply(call, json_object());
}

static struct job *job;

static void on_cancel(void *data)
{
	struct err err;
	err_set(&err, ERR_CANCELLED, "it was cancelled");
	job_fail(TAKE_PTR(job), &err);
}

static struct api_token start_job(struct api_call *call, const void *data)
{
	struct err err;
	if (job_start(api_call_host(call)->jobs, "test.job", "subject", "bytes", on_cancel, NULL,
		      &job, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id(job));
}

static struct api_token end_job(struct api_call *call, const void *data)
{
	job_progress(job, 10, 10);
	job_done(TAKE_PTR(job), json_pack("{s:i}", "answer", 42));
	return api_reply(call, json_object());
}

static const struct api_method test_methods[] = {
	{"test.ping", API_ROLE_ANYONE, 0, NULL, 0, NULL, ping, "Answer."},
	{"test.echo", API_ROLE_USER, API_NAMED, echo_fields, sizeof(struct echo_params), NULL, echo,
	 "Say it again."},
	{"test.make", API_ROLE_ADMIN, API_MUTATES, NULL, 0, NULL, make, "Count."},
	{"test.secret", API_ROLE_ADMIN, API_MUTATES, NULL, 0, secret_result, make, "Count."},
	{"test.list", API_ROLE_ADMIN, API_LIST, NULL, 0, NULL, list, "List ten."},
	{"test.late", API_ROLE_ADMIN, API_MUTATES, late_fields, sizeof(struct late_params), NULL,
	 late, "Answer late."},
	{"test.broken", API_ROLE_ADMIN, 0, NULL, 0, NULL, fail_internally, "Answer no JSON."},
	{"test.file", API_ROLE_ADMIN, API_FILE, NULL, 0, NULL, look_at_file, "Look at a file."},
	{"test.tell", API_ROLE_ADMIN, 0, echo_fields, sizeof(struct echo_params), NULL, tell,
	 "Write events."},
	{"test.job", API_ROLE_ADMIN, API_JOB | API_MUTATES, NULL, 0, NULL, start_job, "Begin."},
	{"test.end", API_ROLE_ADMIN, 0, NULL, 0, NULL, end_job, "End the job."},
	{0},
};

static const struct api_method *const tables[] = {
	api_rpc_methods, api_event_methods, api_job_methods, test_methods, NULL,
};

static struct api_server *server;
static uv_signal_t sigterm;
static struct api_host host;

static void on_sigterm(uv_signal_t *signal, int number)
{
	api_server_free(TAKE_PTR(server));
	if (job)
		on_cancel(NULL);
	jobs_free(TAKE_PTR(host.jobs));
	uv_close((uv_handle_t *)signal, NULL);
}

int main(int argc, char **argv)
{
	uv_loop_t loop;
	struct err err;
	if (argc < 4 || sodium_init() < 0)
		return 2;
	log_open("serve", LOG_LEVEL_INFO);
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&loop);
	host.loop = &loop;
	const struct api_server_config config = {
		.socket = argv[1],
		.group = argc > 4 ? argv[4] : NULL,
		.patience_ms = (uint64_t)atoll(argv[3]),
	};
	if (db_open(argv[2], &host.db, &err) < 0 ||
	    jobs_new(&loop, host.db, &host.jobs, &err) < 0 ||
	    api_server_new(&host, &config, tables, &server, &err) < 0) {
		log_err("%s: %s", err_code_name(err.code), err.msg);
		jobs_free(host.jobs);
		db_close(host.db);
		uv_run(&loop, UV_RUN_DEFAULT);
		uv_loop_close(&loop);
		return 1;
	}
	uv_signal_init(&loop, &sigterm);
	uv_signal_start(&sigterm, on_sigterm, SIGTERM);
	puts("ready");
	fflush(stdout);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	db_close(host.db);
	return 0;
}
