/* Rows of `event`: what happened, in order, kept for subscribers that come back. */
#pragma once

#include <jansson.h>

#include "vdi-hostd/db/db.h"

struct db_event {
	int64_t seq; /* from 1, never reused */
	int64_t time;
	const char *topic;   /* "desktop", "image", "network", "job", "host" */
	const char *subject; /* id of the thing */
	const char *data;    /* JSON text */
};

/** db_event_append() - write one and tell the listener; in the open transaction if there is one */
int db_event_append(struct db *db, const char *topic, const char *subject, json_t *data,
		    struct err *err) warn_unused;

/** db_event_listen() - @cb hears each event once it was written (with its transaction committed) */
void db_event_listen(struct db *db, void (*cb)(void *data, const struct db_event *event),
		     void *data);

/** db_event_since() - every event after @seq, in order, at most @limit */
int db_event_since(struct db *db, int64_t seq, int64_t limit,
		   int (*cb)(void *data, const struct db_event *event), void *data,
		   struct err *err) warn_unused;

/** db_event_first() - the oldest kept seq (or the next one, when none is kept) */
int db_event_first(struct db *db, int64_t *ret, struct err *err) warn_unused;
/** db_event_prune() - forget all but the newest @keep */
int db_event_prune(struct db *db, int64_t keep, struct err *err) warn_unused;
