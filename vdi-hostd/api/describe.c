/* What the tables say about themselves: rpc.discover (OpenRPC 1.2.6). */
#include <string.h>

#include "vdi-hostd/api/private.h"

static const struct json_field wait_field = {
	"wait", JSON_FIELD_BOOL,
	.doc = "answer when the job has ended (with the job), not at once (with its id)"};
static const struct json_field key_field = {
	"idempotency_key", JSON_FIELD_STRING, .min = 1, .max = 64,
	.doc = "the same key with the same parameters within 24 hours gets the first answer again"};
static const struct json_field limit_field = {"limit",     JSON_FIELD_INT,
					      .min = 1,    .max = 1000,
					      .def = 1000, .doc = "at most so many items"};
static const struct json_field cursor_field = {"cursor", JSON_FIELD_STRING,
					       .doc = "what `next` said: go on from there"};
static const struct json_field job_result[] = {
	{"job", JSON_FIELD_STRING, .doc = "id of the job that does it; see job.get"},
	{0},
};

static json_t *describe_param(const struct json_field *field)
{
	return json_pack("{s:s, s:b, s:s, s:o}", "name", field->name, "required",
			 (field->flags & JSON_FIELD_REQUIRED) != 0, "description",
			 field->doc ? field->doc : "", "schema", json_field_schema(field));
}

static json_t *describe_params(const struct api_method *method)
{
	json_t *params = json_array();
	for (const struct json_field *f = method->params; f && f->name; f++)
		json_array_append_new(params, describe_param(f));
	if (method->flags & API_LIST) {
		json_array_append_new(params, describe_param(&limit_field));
		json_array_append_new(params, describe_param(&cursor_field));
	}
	if (method->flags & API_JOB)
		json_array_append_new(params, describe_param(&wait_field));
	if (method->flags & API_MUTATES)
		json_array_append_new(params, describe_param(&key_field));
	return params;
}

static json_t *describe_result(const struct api_method *method)
{
	const struct json_field *fields = method->flags & API_JOB ? job_result : method->result;
	json_t *schema = fields ? json_fields_schema(fields) : json_pack("{s:s}", "type", "object");
	if (method->flags & API_LIST)
		schema = json_pack("{s:s, s:{s:{s:s, s:o}, s:{s:[s,s]}}}", "type", "object",
				   "properties", "items", "type", "array", "items", schema, "next",
				   "type", "string", "null");
	return json_pack("{s:s, s:o}", "name", "result", "schema", schema);
}

static json_t *describe_flags(unsigned int flags)
{
	static const struct {
		unsigned int flag;
		const char *name;
	} names[] = {
		{API_MUTATES, "mutates"}, {API_JOB, "job"},   {API_FILE, "file"},
		{API_NAMED, "named"},     {API_LIST, "list"}, {API_FILE_OUT, "file-out"},
	};
	json_t *ret = json_array();
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (flags & names[i].flag)
			json_array_append_new(ret, json_string(names[i].name));
	return ret;
}

json_t *api_discover(const struct api_method *const *tables)
{
	static const char *const roles[] = {"anyone", "user", "operator", "admin"};
	json_t *methods = json_array();
	for (const struct api_method *const *table = tables; *table; table++)
		for (const struct api_method *m = *table; m->name; m++)
			json_array_append_new(
				methods,
				json_pack("{s:s, s:s, s:o, s:s, s:o, s:s, s:o}", "name", m->name,
					  "summary", m->summary, "params", describe_params(m),
					  "paramStructure", "by-name", "result", describe_result(m),
					  "x-role", roles[m->role], "x-flags",
					  describe_flags(m->flags)));
	return json_pack("{s:s, s:{s:s, s:s}, s:o}", "openrpc", "1.2.6", "info", "title",
			 "vdi-hostd control API", "version", VDI_VERSION, "methods", methods);
}

static struct api_token rpc_discover(struct api_call *call, const void *data)
{
	return api_reply(call, api_discover(api_call_tables(call)));
}

const struct api_method api_rpc_methods[] = {
	{"rpc.discover", API_ROLE_ANYONE, 0, NULL, 0, NULL, rpc_discover,
	 "Describe every method, as an OpenRPC document."},
	{0},
};
