/* One line of a client: JSON-RPC 2.0 in, calls of handlers, JSON-RPC 2.0 out. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/json_line.h"
#include "base/log.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/db/idempotency.h"
#include "vdi-hostd/job/job.h"

#define LIST_LIMIT 1000
#define KEY_MAX    64

/* answers of one batch, which wait for each other: well within the queue of the connection */
#define BATCH_TEXT_MAX (API_QUEUE_MAX / 4)

enum {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
	RPC_FAILED = -32000,
};

void text_add(struct text *text, const char *bytes, size_t len)
{
	if (text->size - text->len < len) {
		size_t size = text->size ? text->size : 1024;
		while (size - text->len < len)
			size *= 2;
		text->bytes = mem_realloc(text->bytes, size, 1);
		text->size = size;
	}
	memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
}

static void text_add_string(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

static int add_chunk(const char *bytes, size_t len, void *data)
{
	text_add(data, bytes, len);
	return 0;
}

void text_add_json(struct text *text, const json_t *json)
{
	json_dump_callback(json, add_chunk, text, JSON_COMPACT | JSON_ENCODE_ANY);
}

/* The text is kept for the next answer, unless one was huge. */
static void text_clear(struct text *text)
{
	text->len = 0;
	if (text->size <= (64u << 10))
		return;
	free(text->bytes);
	*text = (struct text){0};
}

static void send_answer(struct client *client, struct batch *batch, const json_t *id,
			const char *body, size_t len)
{
	static const char too_much[] =
		"\"error\":{\"code\":-32000,\"message\":\"the answers of this batch are too large; "
		"ask for less at once\",\"data\":{\"kind\":\"limit\"}}";
	struct text *text = batch ? &batch->text : &client->server->text;
	if (batch && batch->text.len + len > BATCH_TEXT_MAX) {
		body = too_much;
		len = sizeof(too_much) - 1;
	}
	if (batch && batch->text.len > 0)
		text_add(text, ",", 1);
	text_add_string(text, "{\"jsonrpc\":\"2.0\",\"id\":");
	if (id)
		text_add_json(text, id);
	else
		text_add_string(text, "null");
	text_add(text, ",", 1);
	text_add(text, body, len);
	text_add(text, "}\n", batch ? 1 : 2);
	if (batch)
		return;
	client_send(client, text->bytes, text->len);
	text_clear(text);
}

static void batch_end(struct client *client, struct batch *batch)
{
	if (batch->open || batch->pending > 0)
		return;
	if (client && batch->text.len > 0) {
		struct text whole = {0};
		text_add(&whole, "[", 1);
		text_add(&whole, batch->text.bytes, batch->text.len);
		text_add(&whole, "]\n", 2);
		client_send(client, whole.bytes, whole.len);
		free(whole.bytes);
	}
	free(batch->text.bytes);
	free(batch);
}

static json_t *error_object(int code, const char *message, const char *kind, const char *field)
{
	json_t *error = json_pack("{s:i, s:s}", "code", code, "message", message);
	/* a message may quote what a peer sent, and that may be no UTF-8 */
	if (!error)
		error = json_pack("{s:i, s:s}", "code", code, "message", "the request failed");
	if (kind) {
		json_t *data = json_pack("{s:s}", "kind", kind);
		if (field[0])
			json_object_set_new(data, "field", json_string(field));
		json_object_set_new(error, "data", data);
	}
	return error;
}

static void send_protocol_error(struct client *client, struct batch *batch, const json_t *id,
				int code, const char *message)
{
	struct text body = {0};
	json_t *error = error_object(code, message, NULL, "");
	text_add_string(&body, "\"error\":");
	text_add_json(&body, error);
	send_answer(client, batch, id, body.bytes, body.len);
	json_decref(error);
	free(body.bytes);
}

const struct api_host *api_call_host(const struct api_call *call)
{
	return call->host;
}

const struct api_caller *api_call_caller(const struct api_call *call)
{
	return &call->caller;
}

struct client *api_call_client(struct api_call *call)
{
	return call->client;
}

const struct api_method *const *api_call_tables(const struct api_call *call)
{
	return call->server->tables;
}

json_t *api_call_params(const struct api_call *call)
{
	return call->params;
}

int api_call_take_fd(struct api_call *call)
{
	return TAKE_FD(call->fd);
}

static void call_free(struct api_call *call)
{
	struct batch *batch = call->batch;
	struct client *client = call->client;
	if (call->prev)
		call->prev->next = call->next;
	else if (call->server)
		call->server->calls = call->next;
	if (call->next)
		call->next->prev = call->prev;
	if (batch) {
		batch->pending--;
		batch_end(client, batch);
	}
	if (client)
		client_call_ended(client);
	if (call->fd >= 0)
		close(call->fd);
	json_decref(call->request);
	free(call->cursor);
	free(call->key);
	free(call);
}

static void keep_answer(struct api_call *call, const char *body, size_t len)
{
	struct err err;
	char caller[32];
	_cleanup_free_ char *answer = mem_strndup(body, len);
	snprintf(caller, sizeof(caller), "uid:%u", (unsigned int)call->caller.uid);
	if (db_idempotency_finish(call->host->db, caller, call->key, answer, &err) < 0)
		log_warn("the answer to an idempotency_key is not kept: %s", err.msg);
}

static struct api_token finish(struct api_call *call, const char *member, const json_t *value)
{
	struct api_token token = {call};
	if (call->key || (call->client && call->id)) {
		struct text body = {0};
		text_add_string(&body, member);
		text_add_json(&body, value);
		if (call->key)
			keep_answer(call, body.bytes, body.len);
		if (call->client && call->id)
			send_answer(call->client, call->batch, call->id, body.bytes, body.len);
		free(body.bytes);
	}
	call_free(call);
	return token;
}

/* A page of a list: what comes after the item that the cursor names. */
static json_t *slice(struct api_call *call, json_t *items, struct err *err)
{
	size_t from = 0, n = json_array_size(items);
	if (call->cursor) {
		while (from < n) {
			json_t *id = json_object_get(json_array_get(items, from++), "id");
			if (json_is_string(id) && strcmp(json_string_value(id), call->cursor) == 0)
				break;
			if (from == n) {
				err_set_field(
					err, "cursor",
					"what the cursor names is gone; list from the beginning");
				return NULL;
			}
		}
	}
	json_t *page = json_array();
	size_t until = from + (size_t)call->limit < n ? from + (size_t)call->limit : n;
	for (size_t i = from; i < until; i++)
		json_array_append(page, json_array_get(items, i));
	json_t *last = until < n && until > from
			       ? json_object_get(json_array_get(items, until - 1), "id")
			       : NULL;
	return json_pack("{s:o, s:o}", "items", page, "next",
			 last ? json_incref(last) : json_null());
}

struct api_token api_reply(struct api_call *call, json_t *result)
{
	struct err err;
	if (!result) {
		err_set(&err, ERR_INTERNAL, "%s has an answer that is no JSON; report this fault",
			call->method->name);
		return api_fail(call, &err);
	}
	if ((call->method->flags & API_LIST) && json_is_array(result)) {
		json_t *page = slice(call, result, &err);
		json_decref(result);
		if (!page)
			return api_fail(call, &err);
		result = page;
	}
	struct api_token token = finish(call, "\"result\":", result);
	json_decref(result);
	return token;
}

struct api_token api_fail(struct api_call *call, const struct err *err)
{
	int code = err->code == ERR_INVALID    ? RPC_INVALID_PARAMS
		   : err->code == ERR_INTERNAL ? RPC_INTERNAL_ERROR
					       : RPC_FAILED;
	json_t *error = error_object(code, err->msg, err_code_name(err->code), err->field);
	struct api_token token = finish(call, "\"error\":", error);
	json_decref(error);
	return token;
}

struct api_token api_pending(struct api_call *call)
{
	return (struct api_token){call};
}

static void on_job_ended(void *data, const struct db_job *row)
{
	struct api_call *call = data;
	struct err err;
	if (!row) {
		err_set(&err, ERR_UNAVAILABLE, "the daemon stops; ask for the job again later");
		api_fail(call, &err);
	} else if (row->state == DB_JOB_DONE) {
		api_reply(call, job_to_json(row));
	} else {
		api_fail(call, &row->err);
	}
}

struct api_token api_reply_job(struct api_call *call, const char *job_id)
{
	if (!call->wait)
		return api_reply(call, json_pack("{s:s}", "job", job_id));
	struct api_token token = api_pending(call);
	jobs_wait(call->host->jobs, job_id, on_job_ended, call);
	return token;
}

/* Parameters that belong to the protocol and not to the method. */
static int take_common(struct api_call *call, struct err *err)
{
	unsigned int flags = call->method->flags;
	json_t *params = call->params, *value;
	call->limit = LIST_LIMIT;
	if ((flags & API_JOB) && (value = json_object_get(params, "wait"))) {
		if (!json_is_boolean(value))
			return err_set_field(err, "wait", "wait must be true or false");
		call->wait = json_is_true(value);
		json_object_del(params, "wait");
	}
	if ((flags & API_MUTATES) && (value = json_object_get(params, "idempotency_key"))) {
		const char *key = json_string_value(value);
		if (!key || !key[0] || strlen(key) > KEY_MAX)
			return err_set_field(err, "idempotency_key",
					     "idempotency_key must be a string of 1 to %d bytes",
					     KEY_MAX);
		call->key = mem_strdup(key);
		json_object_del(params, "idempotency_key");
	}
	if (!(flags & API_LIST))
		return 0;
	if ((value = json_object_get(params, "limit"))) {
		call->limit = json_integer_value(value);
		if (!json_is_integer(value) || call->limit < 1 || call->limit > LIST_LIMIT)
			return err_set_field(err, "limit", "limit must be from 1 to %d",
					     LIST_LIMIT);
		json_object_del(params, "limit");
	}
	if ((value = json_object_get(params, "cursor"))) {
		if (!json_is_string(value) && !json_is_null(value))
			return err_set_field(err, "cursor", "cursor must be what `next` said");
		if (json_is_string(value))
			call->cursor = mem_strdup(json_string_value(value));
		json_object_del(params, "cursor");
	}
	return 0;
}

static void hash_params(const json_t *params, char ret[2 * crypto_hash_sha256_BYTES + 1])
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	_cleanup_free_ char *text = json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS);
	crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
	sodium_bin2hex(ret, 2 * crypto_hash_sha256_BYTES + 1, hash, sizeof(hash));
}

/* Returns 1 when the key was seen before and the call is answered. */
static int answer_again(struct api_call *call, struct err *err)
{
	struct db *db = call->host->db;
	char hash[2 * crypto_hash_sha256_BYTES + 1], caller[32];
	_cleanup_free_ char *answer = NULL;
	if (db_idempotency_prune(db, str_now_ms() - DAY_MS, false, err) < 0) {
		free(TAKE_PTR(call->key));
		return -1;
	}
	hash_params(call->params, hash);
	snprintf(caller, sizeof(caller), "uid:%u", (unsigned int)call->caller.uid);
	if (db_idempotency_find(db, caller, call->key, call->method->name, hash, &answer, err) <
	    0) {
		if (err->code != ERR_NOT_FOUND) {
			free(TAKE_PTR(call->key)); /* this answer is not the key's */
			return -1;
		}
		if (db_idempotency_begin(db, caller, call->key, call->method->name, hash, err) <
		    0) {
			free(TAKE_PTR(call->key));
			return -1;
		}
		return 0;
	}
	free(TAKE_PTR(call->key));
	if (!answer)
		return err_set(err, ERR_BUSY,
			       "the first request with this idempotency_key is still under way; "
			       "ask again later");
	if (call->id)
		send_answer(call->client, call->batch, call->id, answer, strlen(answer));
	call_free(call);
	return 1;
}

/* A secret in an answer is not kept: the request is simply carried out again. */
static bool is_secret(const struct api_method *method)
{
	for (const struct json_field *field = method->result; field && field->name; field++)
		if (field->flags & JSON_FIELD_SECRET)
			return true;
	return false;
}

static void call_handler(struct api_call *call)
{
	static const struct json_field none[] = {{0}};
	const struct api_method *method = call->method;
	struct err err;
	_cleanup_free_ void *params = mem_calloc(1, method->params_size);
	if (call->caller.role < method->role) {
		err_set(&err, ERR_DENIED, "%s needs a role that you do not have", method->name);
		api_fail(call, &err);
		return;
	}
	if (take_common(call, &err) < 0) {
		free(TAKE_PTR(call->key));
		api_fail(call, &err);
		return;
	}
	if (json_fields_read(method->params ? method->params : none, call->params, params, 0,
			     &err) < 0) {
		free(TAKE_PTR(call->key));
		api_fail(call, &err);
		return;
	}
	if (is_secret(method))
		free(TAKE_PTR(call->key));
	int again = call->key ? answer_again(call, &err) : 0;
	if (again < 0)
		api_fail(call, &err);
	else if (again == 0)
		method->handler(call, params);
}

static const struct api_method *find_method(struct api_server *server, const char *name)
{
	struct method_entry *entry = NULL;
	HASH_FIND_STR(server->methods, name, entry);
	return entry ? entry->method : NULL;
}

static bool is_id(const json_t *id)
{
	return json_is_string(id) || json_is_number(id) || json_is_null(id);
}

/* One request object (JSON-RPC 2.0, section 4). */
static void handle_request(struct client *client, json_t *request, struct batch *batch)
{
	struct api_server *server = client->server;
	json_t *id = json_object_get(request, "id");
	json_t *params = json_object_get(request, "params");
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));
	const char *name = json_string_value(json_object_get(request, "method"));
	if (!json_is_object(request) || !version || strcmp(version, "2.0") != 0 || !name ||
	    (id && !is_id(id))) {
		send_protocol_error(client, batch, id && is_id(id) ? id : NULL, RPC_INVALID_REQUEST,
				    "this is no JSON-RPC 2.0 request");
		return;
	}
	const struct api_method *method = find_method(server, name);
	if (!method) {
		if (id)
			send_protocol_error(
				client, batch, id, RPC_METHOD_NOT_FOUND,
				"there is no such method; rpc.discover lists those there "
				"are");
		return;
	}
	bool by_name = !params || json_is_null(params) || json_is_object(params) ||
		       (json_is_array(params) && json_array_size(params) == 0);
	if (!by_name) {
		if (id)
			send_protocol_error(client, batch, id, RPC_INVALID_PARAMS,
					    "params must be an object: parameters go by name");
		return;
	}
	if (!json_is_object(params)) {
		json_object_set_new(request, "params", json_object());
		params = json_object_get(request, "params");
	}
	struct api_call *call = mem_new(struct api_call);
	call->host = server->host;
	call->server = server;
	call->client = client;
	call->caller = client->caller;
	call->method = method;
	call->request = json_incref(request);
	call->params = params;
	call->id = id;
	call->batch = batch;
	call->fd = method->flags & API_FILE ? conn_take_fd(client->conn) : -1;
	call->next = server->calls;
	if (call->next)
		call->next->prev = call;
	server->calls = call;
	client->n_calls++;
	if (batch)
		batch->pending++;
	call_handler(call);
}

static void handle_batch(struct client *client, json_t *requests)
{
	if (json_array_size(requests) == 0) {
		send_protocol_error(client, NULL, NULL, RPC_INVALID_REQUEST,
				    "a batch is not empty");
		return;
	}
	if (json_array_size(requests) > API_BATCH_MAX) {
		send_protocol_error(client, NULL, NULL, RPC_INVALID_REQUEST,
				    "a batch has at most 1000 requests");
		return;
	}
	struct batch *batch = mem_new(struct batch);
	batch->open = true;
	for (size_t i = 0; i < json_array_size(requests); i++)
		handle_request(client, json_array_get(requests, i), batch);
	batch->open = false;
	batch_end(client, batch);
}

void api_handle_line(struct client *client, char *line, size_t len)
{
	struct err err;
	json_t *json;
	if (len == 0)
		return;
	if (client->subscription)
		return; /* an event stream takes no more requests */
	if (json_line_parse(line, len, JSON_LINE_DEPTH_MAX, &json, &err) < 0) {
		send_protocol_error(client, NULL, NULL, RPC_PARSE_ERROR, err.msg);
		return;
	}
	if (json_is_array(json))
		handle_batch(client, json);
	else
		handle_request(client, json, NULL);
	json_decref(json);
}
