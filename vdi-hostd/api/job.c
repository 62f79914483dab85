#include "vdi-hostd/job/job.h"

#include "vdi-hostd/api/private.h"

static const char *const states[] = {"running", "done", "failed", "cancelled", NULL};

static const struct json_field job_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"kind", JSON_FIELD_STRING, .doc = "what it does, such as image.import"},
	{"subject", JSON_FIELD_STRING, .doc = "id of what it works on"},
	{"state", JSON_FIELD_ENUM, .values = states, .doc = "where it stands"},
	{"done", JSON_FIELD_INT, .doc = "so much is done"},
	{"total", JSON_FIELD_INT, .doc = "of so much; 0 while that is not known"},
	{"unit", JSON_FIELD_STRING, .doc = "of done and total"},
	{"result", JSON_FIELD_ANY, JSON_FIELD_NULLABLE, .doc = "what it made"},
	{"error_kind", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "as data.kind of errors"},
	{"error", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "why it failed"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it began"},
	{"ended_at", JSON_FIELD_TIME, JSON_FIELD_NULLABLE, .doc = "when it ended"},
	{0},
};

struct job_params {
	const char *job;
};

static const struct json_field job_params[] = {
	{"job", JSON_FIELD_STRING, JSON_FIELD_REQUIRED, offsetof(struct job_params, job), .max = 36,
	 .doc = "its id"},
	{0},
};

static int add_to_list(void *data, const struct db_job *row)
{
	json_array_append_new(data, job_to_json(row));
	return 0;
}

static struct api_token job_list(struct api_call *call, const void *data)
{
	struct err err;
	json_t *items = json_array();
	if (db_job_each(api_call_host(call)->db, NULL, 1000, add_to_list, items, &err) < 0) {
		json_decref(items);
		return api_fail(call, &err);
	}
	return api_reply(call, items);
}

static struct api_token job_get(struct api_call *call, const void *data)
{
	const struct job_params *params = data;
	struct db_job row;
	struct err err;
	if (jobs_get(api_call_host(call)->jobs, params->job, &row, &err) < 0)
		return api_fail(call, &err);
	json_t *json = job_to_json(&row);
	db_job_done(&row);
	return api_reply(call, json);
}

static struct api_token job_cancel(struct api_call *call, const void *data)
{
	const struct job_params *params = data;
	struct err err;
	if (jobs_cancel(api_call_host(call)->jobs, params->job, &err) < 0)
		return api_fail(call, &err);
	return job_get(call, data);
}

static void on_ended(void *data, const struct db_job *row)
{
	struct api_call *call = data;
	struct err err;
	if (row) {
		api_reply(call, job_to_json(row));
		return;
	}
	err_set(&err, ERR_UNAVAILABLE, "the daemon stops; ask for the job again later");
	api_fail(call, &err);
}

static struct api_token job_wait(struct api_call *call, const void *data)
{
	const struct job_params *params = data;
	struct jobs *jobs = api_call_host(call)->jobs;
	struct db_job row;
	struct err err;
	if (jobs_get(jobs, params->job, &row, &err) < 0)
		return api_fail(call, &err);
	db_job_done(&row);
	jobs_wait(jobs, params->job, on_ended, call);
	return api_pending(call);
}

const struct api_method api_job_methods[] = {
	{"job.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, job_fields, job_list,
	 "List the jobs, the newest first."},
	{"job.get", API_ROLE_OPERATOR, API_NAMED, job_params, sizeof(struct job_params), job_fields,
	 job_get, "Show one job."},
	{"job.cancel", API_ROLE_OPERATOR, API_MUTATES | API_NAMED, job_params,
	 sizeof(struct job_params), job_fields, job_cancel, "Ask a job to stop."},
	{"job.wait", API_ROLE_OPERATOR, API_NAMED, job_params, sizeof(struct job_params),
	 job_fields, job_wait, "Answer when a job has ended."},
	{0},
};
