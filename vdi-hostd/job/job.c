#include "vdi-hostd/job/job.h"

#include <string.h>
#include <uthash.h>

#include "base/log.h"
#include "base/mem.h"
#include "vdi-hostd/db/event.h"

#define PROGRESS_MS 250
#define JOBS_KEPT   1000

static const char *const state_names[] = {
	[DB_JOB_RUNNING] = "running",
	[DB_JOB_DONE] = "done",
	[DB_JOB_FAILED] = "failed",
	[DB_JOB_CANCELLED] = "cancelled",
};

/* Somebody who waits for the end of a job; one that has ended already is told from the loop. */
struct job_wait {
	struct jobs *jobs;
	char id[STR_UUID_LEN + 1];
	void (*cb)(void *data, const struct db_job *row);
	void *data;
	uv_timer_t soon;
	struct job_wait *prev, *next;
};

struct job {
	struct jobs *jobs;
	struct db_job row;
	void (*cancel)(void *data);
	void *data;
	int64_t told_at; /* when progress was last written and sent */
	UT_hash_handle hh;
};

struct jobs {
	uv_loop_t *loop;
	struct db *db;
	struct job *running;
	struct job_wait *waits;
};

int jobs_new(uv_loop_t *loop, struct db *db, struct jobs **ret, struct err *err)
{
	if (db_job_prune(db, JOBS_KEPT, err) < 0)
		return -1;
	struct jobs *jobs = mem_new(struct jobs);
	jobs->loop = loop;
	jobs->db = db;
	*ret = jobs;
	return 0;
}

static void on_wait_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void jobs_unwait(struct job_wait *wait)
{
	if (wait->prev)
		wait->prev->next = wait->next;
	else
		wait->jobs->waits = wait->next;
	if (wait->next)
		wait->next->prev = wait->prev;
	uv_close((uv_handle_t *)&wait->soon, on_wait_closed);
}

static void job_free(struct job *job)
{
	db_job_done(&job->row);
	free(job);
}

void jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	struct job *job, *next;
	HASH_ITER (hh, jobs->running, job, next) {
		HASH_DEL(jobs->running, job);
		job_free(job);
	}
	while (jobs->waits) {
		struct job_wait *wait = jobs->waits;
		jobs_unwait(wait);
		wait->cb(wait->data, NULL);
	}
	free(jobs);
}

json_t *job_to_json(const struct db_job *row)
{
	char created[STR_TIME_MAX], ended[STR_TIME_MAX];
	str_format_time(row->created_at, created);
	str_format_time(row->ended_at, ended);
	bool failed = row->state == DB_JOB_FAILED || row->state == DB_JOB_CANCELLED;
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:o*, s:s?, s:s?, s:s, s:s?}", "id",
			 row->id, "kind", row->kind, "subject", row->subject, "state",
			 state_names[row->state], "done", (json_int_t)row->done, "total",
			 (json_int_t)row->total, "unit", row->unit, "result",
			 row->result ? json_loads(row->result, JSON_DECODE_ANY, NULL) : json_null(),
			 "error_kind", failed ? err_code_name(row->err.code) : NULL, "error",
			 failed ? row->err.msg : NULL, "created_at", created, "ended_at",
			 row->ended_at ? ended : NULL);
}

static void tell(struct job *job)
{
	struct err err;
	json_t *data = job_to_json(&job->row);
	if (db_event_append(job->jobs->db, "job", job->row.id, data, &err) < 0)
		log_err("job %s: its event is lost: %s", job->row.kind, err.msg);
	json_decref(data);
}

int job_start(struct jobs *jobs, const char *kind, const char *subject, const char *unit,
	      void (*cancel)(void *data), void *data, struct job **ret, struct err *err)
{
	struct job *job = mem_new(struct job);
	job->jobs = jobs;
	job->cancel = cancel;
	job->data = data;
	str_uuid_new(job->row.id);
	job->row.state = DB_JOB_RUNNING;
	job->row.created_at = str_now_ms();
	if (str_copy(job->row.kind, sizeof(job->row.kind), kind) < 0 ||
	    str_copy(job->row.subject, sizeof(job->row.subject), subject) < 0 ||
	    str_copy(job->row.unit, sizeof(job->row.unit), unit) < 0) {
		free(job);
		return err_set(err, ERR_INTERNAL, "a job's names are too long: %s %s", kind, unit);
	}
	if (db_job_insert(jobs->db, &job->row, err) < 0) {
		free(job);
		return -1;
	}
	HASH_ADD_STR(jobs->running, row.id, job);
	tell(job);
	*ret = job;
	return 0;
}

const char *job_id(const struct job *job)
{
	return job->row.id;
}

void job_progress(struct job *job, int64_t done, int64_t total)
{
	struct err err;
	job->row.done = done;
	job->row.total = total;
	int64_t now = str_now_ms();
	if (now - job->told_at < PROGRESS_MS)
		return;
	job->told_at = now;
	if (db_job_update(job->jobs->db, &job->row, &err) < 0)
		log_warn("job %s: %s", job->row.kind, err.msg);
	tell(job);
}

static void tell_waiting(struct jobs *jobs, const struct db_job *row)
{
	struct job_wait *wait = jobs->waits;
	while (wait) {
		/* one that began after the end is told from the loop */
		if (uv_is_active((uv_handle_t *)&wait->soon) || strcmp(wait->id, row->id) != 0) {
			wait = wait->next;
			continue;
		}
		/* who is told may end any other wait: begin anew */
		jobs_unwait(wait);
		wait->cb(wait->data, row);
		wait = jobs->waits;
	}
}

static void settle(struct job *job)
{
	struct err err;
	job->row.ended_at = str_now_ms();
	if (db_job_update(job->jobs->db, &job->row, &err) < 0)
		log_err("job %s: its end is not recorded: %s", job->row.kind, err.msg);
	/* it has ended for whoever asks while the others are told */
	HASH_DEL(job->jobs->running, job);
	tell(job);
	tell_waiting(job->jobs, &job->row);
	job_free(job);
}

void job_done(struct job *job, json_t *result)
{
	job->row.state = DB_JOB_DONE;
	if (job->row.total > 0)
		job->row.done = job->row.total;
	job->row.result = result ? json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	json_decref(result);
	settle(job);
}

void job_fail(struct job *job, const struct err *err)
{
	job->row.state = err->code == ERR_CANCELLED ? DB_JOB_CANCELLED : DB_JOB_FAILED;
	job->row.err = *err;
	settle(job);
}

int jobs_get(struct jobs *jobs, const char *id, struct db_job *ret, struct err *err)
{
	struct job *job = NULL;
	HASH_FIND_STR(jobs->running, id, job);
	if (!job)
		return db_job_get(jobs->db, id, ret, err);
	*ret = job->row;
	ret->result = NULL;
	return 0;
}

int jobs_cancel(struct jobs *jobs, const char *id, struct err *err)
{
	struct job *job = NULL;
	struct db_job row;
	HASH_FIND_STR(jobs->running, id, job);
	if (!job) {
		if (db_job_get(jobs->db, id, &row, err) < 0)
			return -1;
		err_set(err, ERR_CONFLICT, "job '%s' has ended already: it is %s", id,
			state_names[row.state]);
		db_job_done(&row);
		return -1;
	}
	if (!job->cancel)
		return err_set(err, ERR_UNSUPPORTED, "a job of kind %s cannot be cancelled",
			       job->row.kind);
	job->cancel(job->data);
	return 0;
}

static void on_soon(uv_timer_t *timer)
{
	struct job_wait *wait = timer->data;
	struct db_job row;
	struct err err;
	jobs_unwait(wait);
	if (db_job_get(wait->jobs->db, wait->id, &row, &err) < 0) {
		wait->cb(wait->data, NULL);
		return;
	}
	wait->cb(wait->data, &row);
	db_job_done(&row);
}

struct job_wait *jobs_wait(struct jobs *jobs, const char *id,
			   void (*cb)(void *data, const struct db_job *row), void *data)
{
	struct job *job = NULL;
	struct job_wait *wait = mem_new(struct job_wait);
	wait->jobs = jobs;
	wait->cb = cb;
	wait->data = data;
	snprintf(wait->id, sizeof(wait->id), "%s", id);
	uv_timer_init(jobs->loop, &wait->soon);
	wait->soon.data = wait;
	wait->next = jobs->waits;
	if (wait->next)
		wait->next->prev = wait;
	jobs->waits = wait;
	HASH_FIND_STR(jobs->running, id, job);
	if (!job)
		uv_timer_start(&wait->soon, on_soon, 0, 0);
	return wait;
}
