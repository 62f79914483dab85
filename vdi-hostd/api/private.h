/* Inside of api/ only: connections and the calls on them. */
#pragma once

#include <uthash.h>

#include "base/conn.h"
#include "base/listener.h"
#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/api/server.h"
#include "vdi-hostd/db/event.h"

#define DAY_MS (24LL * 3600 * 1000)

struct method_entry {
	const struct api_method *method;
	UT_hash_handle hh;
};

/** struct text - a growing text; reused, so that answers cost no allocation */
struct text {
	char *bytes;
	size_t len, size;
};

void text_add(struct text *text, const char *bytes, size_t len);
void text_add_json(struct text *text, const json_t *json);

struct api_server {
	const struct api_host *host;
	const struct api_method *const *tables;
	struct method_entry *methods;
	struct listener *listener;
	char path[108];
	bool has_group;
	gid_t group;
	struct client *clients;
	size_t n_clients;
	struct api_call *calls;
	struct text text;
	uint64_t patience_ms;
};

/** struct subscription - a connection that has become an event stream; the database is its queue */
struct subscription {
	json_t *topics; /* array of strings, or NULL for all */
	int64_t seq;    /* sent up to here */
	bool live;      /* has caught up: events are sent as they come */
};

struct client {
	struct api_server *server;
	struct conn *conn;
	struct api_caller caller;
	size_t n_calls;
	bool paused, lost_answer;
	uv_timer_t *patience; /* while it does not read what it asked for */
	struct subscription *subscription;
	struct client *prev, *next;
};

/** struct batch - answers of one batch, sent together once the last is there */
struct batch {
	struct text text;
	size_t pending;
	bool open; /* its calls are still being begun */
};

struct api_call {
	const struct api_host *host;
	struct api_server *server; /* NULL once it is gone */
	struct client *client;     /* NULL once it is gone */
	struct api_caller caller;
	const struct api_method *method;
	json_t *request, *params, *id; /* @id NULL: a notification, which gets no answer */
	struct batch *batch;
	int fd;
	bool wait;
	int64_t limit;
	char *cursor, *key;
	struct api_call *prev, *next;
};

/* server.c */
void client_send(struct client *client, const char *bytes, size_t len);
void client_call_ended(struct client *client);

/* call.c */
void api_handle_line(struct client *client, char *line, size_t len);

const struct api_method *const *api_call_tables(const struct api_call *call);
struct client *api_call_client(struct api_call *call);

/* event.c */
void subscription_pump(struct client *client);
void subscription_free(struct client *client);
void subscriptions_tell(void *server, const struct db_event *event);

/* nic.c: a NIC as an item of a desktop's */
extern const struct json_field desktop_nic_fields[];
