/*
 * Event streams. The database is the queue: what a slow subscriber has not read yet waits there and
 * not in memory, and one that comes back with its last `seq` misses nothing.
 */
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/db/event.h"

#define AHEAD_MAX (256u << 10) /* bytes sent ahead of what the subscriber has read */
#define CHUNK     64

static bool is_wanted(const struct subscription *subscription, const char *topic)
{
	size_t i;
	json_t *wanted;
	if (!subscription->topics)
		return true;
	json_array_foreach(subscription->topics, i, wanted)
	{
		if (strcmp(json_string_value(wanted), topic) == 0)
			return true;
	}
	return false;
}

static void send_event(struct client *client, const struct db_event *event)
{
	struct text *text = &client->server->text;
	char time[STR_TIME_MAX], head[512];
	client->subscription->seq = event->seq;
	if (!is_wanted(client->subscription, event->topic))
		return;
	str_format_time(event->time, time);
	/* topics are words of ours, and data is JSON that we wrote: no escaping is needed */
	int n = snprintf(head, sizeof(head),
			 "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":%lld,"
			 "\"time\":\"%s\",\"topic\":\"%s\",\"subject\":\"%s\",\"data\":",
			 (long long)event->seq, time, event->topic, event->subject);
	if (n < 0 || (size_t)n >= sizeof(head)) {
		log_err("event %lld is not sent: its subject is too long", (long long)event->seq);
		return;
	}
	text_add(text, head, (size_t)n);
	text_add(text, event->data, strlen(event->data));
	text_add(text, "}}\n", 3);
	client_send(client, text->bytes, text->len);
	text->len = 0;
}

static int replay(void *data, const struct db_event *event)
{
	struct client *client = data;
	send_event(client, event);
	return conn_queued(client->conn) > AHEAD_MAX;
}

void subscription_pump(struct client *client)
{
	struct subscription *subscription = client->subscription;
	struct err err;
	while (!subscription->live && conn_queued(client->conn) <= AHEAD_MAX) {
		int64_t before = subscription->seq;
		if (db_event_since(client->server->host->db, before, CHUNK, replay, client, &err) <
		    0) {
			log_err("an event stream stands still: %s", err.msg);
			return;
		}
		subscription->live = subscription->seq == before;
	}
}

void subscriptions_tell(void *data, const struct db_event *event)
{
	struct api_server *server = data;
	for (struct client *client = server->clients; client; client = client->next) {
		struct subscription *subscription = client->subscription;
		if (!subscription || !subscription->live || event->seq <= subscription->seq)
			continue;
		if (conn_queued(client->conn) > AHEAD_MAX)
			subscription->live = false; /* goes on from the database once it reads */
		else
			send_event(client, event);
	}
}

void subscription_free(struct client *client)
{
	struct subscription *subscription = TAKE_PTR(client->subscription);
	if (!subscription)
		return;
	json_decref(subscription->topics);
	free(subscription);
}

static const char *const topics[] = {"desktop", "image", "network", "job", "host", NULL};

struct subscribe_params {
	json_t *topics;
	int64_t since;
};

static const struct json_field subscribe_fields[] = {
	{"topics", JSON_FIELD_STRINGS, 0, offsetof(struct subscribe_params, topics), 0, 16,
	 .doc = "desktop, image, network, job, host; without it all of them"},
	{"since", JSON_FIELD_INT, 0, offsetof(struct subscribe_params, since), 0, INT64_MAX, -1,
	 .doc = "the last seq that was seen: what came after it is sent first; without it only what "
		"comes from now on"},
	{0},
};

static const struct json_field subscribe_result[] = {
	{"seq", JSON_FIELD_INT, .doc = "the stream begins after this one"},
	{"first_kept", JSON_FIELD_INT,
	 .doc = "the oldest event that is still kept: with a `since` below it some are missing"},
	{0},
};

static int check_topics(const json_t *wanted, struct err *err)
{
	size_t i;
	json_t *topic;
	json_array_foreach(wanted, i, topic)
	{
		size_t known = 0;
		while (topics[known] && strcmp(topics[known], json_string_value(topic)) != 0)
			known++;
		if (!topics[known])
			return err_set_field(
				err, "topics",
				"'%.32s' is no topic; there are desktop, image, network, "
				"job and host",
				json_string_value(topic));
	}
	return 0;
}

static int find_last(void *data, const struct db_event *event)
{
	*(int64_t *)data = event->seq;
	return 0;
}

/* The newest seq: everything after the oldest kept is walked only when nobody said `since`. */
static int newest_seq(struct db *db, int64_t first, int64_t *ret, struct err *err)
{
	int64_t last = first - 1, before;
	do {
		before = last;
		if (db_event_since(db, before, 1000, find_last, &last, err) < 0)
			return -1;
	} while (last != before);
	*ret = last;
	return 0;
}

static struct api_token events_subscribe(struct api_call *call, const void *data)
{
	const struct subscribe_params *params = data;
	struct client *client = api_call_client(call);
	struct db *db = api_call_host(call)->db;
	struct err err;
	int64_t first, since = params->since;
	if (client->subscription) {
		err_set(&err, ERR_CONFLICT, "this connection is an event stream already");
		return api_fail(call, &err);
	}
	if (check_topics(params->topics, &err) < 0 || db_event_first(db, &first, &err) < 0 ||
	    (since < 0 && newest_seq(db, first, &since, &err) < 0))
		return api_fail(call, &err);
	struct subscription *subscription = mem_new(struct subscription);
	subscription->topics = json_incref(params->topics);
	subscription->seq = since;
	client->subscription = subscription;
	struct api_token token = api_reply(call, json_pack("{s:I, s:I}", "seq", (json_int_t)since,
							   "first_kept", (json_int_t)first));
	subscription_pump(client);
	return token;
}

const struct api_method api_event_methods[] = {
	{"events.subscribe", API_ROLE_OPERATOR, 0, subscribe_fields,
	 sizeof(struct subscribe_params), subscribe_result, events_subscribe,
	 "Turn the connection into a stream of `event` notifications."},
	{0},
};
