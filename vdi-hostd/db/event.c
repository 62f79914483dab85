#include "vdi-hostd/db/event.h"

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

#define EVENTS_KEPT 50000
#define PRUNE_EVERY 1024

/* Written inside a transaction that is not committed yet: nobody may hear of it. */
struct pending_event {
	struct pending_event *next;
	int64_t seq, time;
	char *topic, *subject, *data;
};

static void tell_one(struct db *db, const struct pending_event *pending)
{
	const struct db_event event = {
		.seq = pending->seq,
		.time = pending->time,
		.topic = pending->topic,
		.subject = pending->subject,
		.data = pending->data,
	};
	db->listener.cb(db->listener.data, &event);
}

void db_tell(struct db *db, bool committed)
{
	struct pending_event *next;
	/* the listener may write: what that brings is told by its own statement */
	for (struct pending_event *p = TAKE_PTR(db->pending); p; p = next) {
		next = p->next;
		if (committed && db->listener.cb)
			tell_one(db, p);
		free(p->topic);
		free(p->subject);
		free(p->data);
		free(p);
	}
}

static void keep(struct db *db, const struct db_event *event)
{
	struct pending_event *pending = mem_new(struct pending_event);
	pending->seq = event->seq;
	pending->time = event->time;
	pending->topic = mem_strdup(event->topic);
	pending->subject = mem_strdup(event->subject);
	pending->data = mem_strdup(event->data);
	struct pending_event **last = &db->pending;
	while (*last)
		last = &(*last)->next;
	*last = pending;
}

int db_event_append(struct db *db, const char *topic, const char *subject, json_t *data,
		    struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db, "INSERT INTO event (time, topic, subject, data) VALUES (?1, ?2, ?3, ?4)",
		       &stmt, err) < 0)
		return -1;
	_cleanup_free_ char *text = json_dumps(data, JSON_COMPACT);
	struct db_event event = {.time = str_now_ms(),
				 .topic = topic,
				 .subject = subject,
				 .data = text ? text : "{}"};
	db_bind_int(stmt, 1, event.time);
	db_bind_text(stmt, 2, event.topic);
	db_bind_text(stmt, 3, event.subject);
	db_bind_text(stmt, 4, event.data);
	int stepped = sqlite3_step(stmt);
	if (stepped != SQLITE_DONE)
		db_fail(db, "record the event", err);
	sqlite3_reset(stmt);
	if (stepped != SQLITE_DONE)
		return -1;
	event.seq = sqlite3_last_insert_rowid(db->sqlite);
	keep(db, &event);
	if (!db->transaction)
		db_tell(db, true);
	/* the event is written: that old ones stay a while longer is no failure of it */
	int pruned = event.seq % PRUNE_EVERY == 0 ? db_event_prune(db, EVENTS_KEPT, NULL) : 0;
	(void)pruned;
	return 0;
}

void db_event_listen(struct db *db, void (*cb)(void *data, const struct db_event *event),
		     void *data)
{
	db->listener = (struct db_listener){cb, data};
}

struct walk {
	int (*cb)(void *data, const struct db_event *event);
	void *data;
};

static int walk_row(void *ctx, sqlite3_stmt *stmt, struct err *err)
{
	struct walk *walk = ctx;
	const struct db_event event = {
		.seq = sqlite3_column_int64(stmt, 0),
		.time = sqlite3_column_int64(stmt, 1),
		.topic = (const char *)sqlite3_column_text(stmt, 2),
		.subject = (const char *)sqlite3_column_text(stmt, 3),
		.data = (const char *)sqlite3_column_text(stmt, 4),
	};
	if (!event.topic || !event.subject || !event.data)
		return db_fail_row("event", err);
	return walk->cb(walk->data, &event);
}

int db_event_since(struct db *db, int64_t seq, int64_t limit,
		   int (*cb)(void *data, const struct db_event *event), void *data, struct err *err)
{
	sqlite3_stmt *stmt;
	struct walk walk = {cb, data};
	if (db_prepare(db,
		       "SELECT seq, time, topic, subject, data FROM event WHERE seq > ?1"
		       " ORDER BY seq LIMIT ?2",
		       &stmt, err) < 0)
		return -1;
	db_bind_int(stmt, 1, seq);
	db_bind_int(stmt, 2, limit);
	return db_each(db, stmt, "read the events", walk_row, &walk, err);
}

int db_event_first(struct db *db, int64_t *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "SELECT coalesce((SELECT min(seq) FROM event),"
		       " (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'event'), 1)",
		       &stmt, err) < 0)
		return -1;
	int result = 0;
	if (sqlite3_step(stmt) == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	else
		result = db_fail(db, "read the events", err);
	sqlite3_reset(stmt);
	return result;
}

int db_event_prune(struct db *db, int64_t keep_newest, struct err *err)
{
	sqlite3_stmt *stmt;
	if (db_prepare(db,
		       "DELETE FROM event WHERE seq <= (SELECT coalesce(max(seq), 0) FROM event)"
		       " - ?1",
		       &stmt, err) < 0)
		return -1;
	db_bind_int(stmt, 1, keep_newest);
	return db_run(db, stmt, "forget old events", err);
}
