/*
 * One line of a control client, parsed and carried out over a small table. Whatever it is, what
 * comes back is lines of JSON-RPC 2.0.
 */
#include <signal.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/mem.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/job/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct params {
	const char *string, *name, *ref;
	int choice;
	int64_t number, bytes;
	bool flag;
	json_t *object, *array, *strings, *any;
};

static const char *const choices[] = {"one", "two", NULL};

static const struct json_field inner_fields[] = {
	{"port", JSON_FIELD_INT, JSON_FIELD_REQUIRED, 0, 1, 65535},
	{0},
};

static const struct json_field fields[] = {
	{"string", JSON_FIELD_STRING, 0, offsetof(struct params, string), 1, 16},
	{"name", JSON_FIELD_NAME, JSON_FIELD_NULLABLE, offsetof(struct params, name)},
	{"ref", JSON_FIELD_REF, 0, offsetof(struct params, ref)},
	{"choice", JSON_FIELD_ENUM, 0, offsetof(struct params, choice), .values = choices},
	{"number", JSON_FIELD_INT, 0, offsetof(struct params, number), -5, 5},
	{"bytes", JSON_FIELD_SIZE, 0, offsetof(struct params, bytes), 1, INT64_MAX},
	{"flag", JSON_FIELD_BOOL, 0, offsetof(struct params, flag)},
	{"object", JSON_FIELD_OBJECT, 0, offsetof(struct params, object), .fields = inner_fields},
	{"array", JSON_FIELD_ARRAY, 0, offsetof(struct params, array), .fields = inner_fields},
	{"strings", JSON_FIELD_STRINGS, 0, offsetof(struct params, strings), 0, 3},
	{"any", JSON_FIELD_ANY, 0, offsetof(struct params, any)},
	{0},
};

static struct api_token say_back(struct api_call *call, const void *data)
{
	return api_reply(call, json_deep_copy(api_call_params(call)));
}

static struct api_token list(struct api_call *call, const void *data)
{
	return api_reply(call,
			 json_pack("[{s:s}, {s:s}, {s:i}, {}]", "id", "a", "id", "b", "id", 1));
}

static const struct api_method methods[] = {
	{"f.read", API_ROLE_USER, 0, fields, sizeof(struct params), NULL, say_back, "Read."},
	{"f.change", API_ROLE_USER, API_MUTATES | API_FILE, fields, sizeof(struct params), NULL,
	 say_back, "Change."},
	{"f.list", API_ROLE_USER, API_LIST, NULL, 0, NULL, list, "List."},
	{0},
};

static const struct api_method *const tables[] = {api_job_methods, methods, NULL};

static char folder[] = "/tmp/vdi-fuzz-XXXXXX";
static uv_loop_t loop;
static struct api_host host = {.loop = &loop};
static struct api_server *server;
static int peer = -1;

static void must(int result)
{
	if (result < 0)
		abort();
}

static void tidy_up(void)
{
	char command[64];
	api_server_free(TAKE_PTR(server));
	jobs_free(TAKE_PTR(host.jobs));
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	db_close(TAKE_PTR(host.db));
	close(peer);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	if (system(command) != 0)
		perror(command);
}

static void set_up(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char path[64];
	struct err err;
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(folder) || sodium_init() < 0)
		abort();
	snprintf(path, sizeof(path), "%s/db", folder);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", folder);
	uv_loop_init(&loop);
	const struct api_server_config config = {.socket = addr.sun_path};
	must(db_open(path, &host.db, &err));
	must(jobs_new(&loop, host.db, &host.jobs, &err));
	must(api_server_new(&host, &config, tables, &server, &err));
	peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(connect(peer, (const struct sockaddr *)&addr, sizeof(addr)));
	while (!server->clients)
		uv_run(&loop, UV_RUN_NOWAIT);
	atexit(tidy_up);
}

static void check_response(const json_t *response)
{
	const char *version = json_string_value(json_object_get(response, "jsonrpc"));
	bool failed = json_object_get(response, "error") != NULL;
	bool worked = json_object_get(response, "result") != NULL;
	if (!version || strcmp(version, "2.0") != 0 || failed == worked ||
	    !json_object_get(response, "id"))
		abort();
}

static void check_line(const char *line, size_t len)
{
	json_t *answer = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL), *response;
	size_t i;
	if (!answer)
		abort();
	if (json_is_object(answer))
		check_response(answer);
	json_array_foreach(answer, i, response) check_response(response);
	json_decref(answer);
}

static void check_answers(void)
{
	static char answers[8 << 20];
	size_t len = 0;
	ssize_t n = 1;
	uv_run(&loop, UV_RUN_NOWAIT);
	while (n > 0) {
		n = recv(peer, answers + len, sizeof(answers) - len, 0);
		if (n > 0)
			len += (size_t)n;
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	for (char *at = answers, *end; at < answers + len; at = end + 1) {
		end = memchr(at, '\n', (size_t)(answers + len - at));
		if (!end)
			abort();
		check_line(at, (size_t)(end - at));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!server)
		set_up();
	/* as a line arrives: no newline in it, a NUL behind it */
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t len = newline ? (size_t)(newline - data) : size;
	if (len > API_LINE_MAX)
		return 0;
	_cleanup_free_ char *line = mem_calloc(len + 1, 1);
	if (len > 0)
		memcpy(line, data, len);
	api_handle_line(server->clients, line, len);
	check_answers();
	return 0;
}
