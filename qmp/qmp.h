/*
 * A QMP client (qemu docs/interop/qmp-spec.txt) in the event loop. One monitor takes one client at
 * a time. Whatever a guest-controlled QEMU may send is bounded; a peer that breaks the protocol
 * (malformed JSON, an id we did not give or gave already, a message over the limits) loses this
 * connection and nothing else.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

#define QMP_LINE_MAX                                                                               \
	(8u << 20) /* query-* answers and screenshots' paths; QEMU itself sends < 1 MiB */
#define QMP_DEPTH_MAX   64
#define QMP_DEADLINE_MS 5000

struct qmp;

/**
 * struct qmp_ops - what the owner wants to hear
 * @ready:  the greeting came and capabilities were negotiated; commands may be sent from here on.
 *          Those sent earlier wait for it.
 * @event:  one event; @data is its "data" object (may be NULL), borrowed. QEMU sends
 *          events as soon as it has negotiated, even ahead of saying so: one may come first of all
 * @closed: the connection is over: an orderly end (ERR_UNAVAILABLE), a protocol fault
 * (ERR_CORRUPT), a limit (ERR_LIMIT), no greeting in time (ERR_TIMEOUT). At most once, after all
 * pending commands got the same error. The owner answers with qmp_close().
 */
struct qmp_ops {
	void (*ready)(struct qmp *qmp, void *owner);
	void (*event)(struct qmp *qmp, void *owner, const char *name, json_t *data);
	void (*closed)(struct qmp *qmp, void *owner, const struct err *err);
};

/**
 * qmp_reply_cb - the answer to one command
 * @result: what stands in "return", borrowed; NULL on failure
 * @err:    NULL on success. QEMU's own refusals: DeviceNotFound is ERR_NOT_FOUND, CommandNotFound
 * is ERR_UNSUPPORTED, the rest ERR_UNAVAILABLE, with QEMU's words. ERR_TIMEOUT when the deadline
 *          passed (a late answer is dropped); ERR_LIMIT when 256 commands are unanswered or QEMU
 *          does not read; ERR_CANCELLED by qmp_close().
 */
typedef void (*qmp_reply_cb)(void *data, json_t *result, const struct err *err);

/**
 * qmp_open() - speak QMP on a connected socket
 * @fd:          ownership moves here, also on failure
 * @deadline_ms: for greeting and capabilities together; 0: QMP_DEADLINE_MS
 */
int qmp_open(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *owner, uint64_t deadline_ms,
	     struct qmp **ret, struct err *err) warn_unused;

/** qmp_connect() - qmp_open() on a UNIX socket by path; never blocks (ERR_UNAVAILABLE: backlog
 * full) */
int qmp_connect(uv_loop_t *loop, const char *path, const struct qmp_ops *ops, void *owner,
		uint64_t deadline_ms, struct qmp **ret, struct err *err) warn_unused;

/**
 * qmp_execute() - send one command; several may be under way, QEMU runs them in the order given
 * @args:        its arguments; the reference is stolen, also on failure; NULL for none
 * @deadline_ms: 0: QMP_DEADLINE_MS
 * @cb:          fires exactly once, never inside this call; may be NULL
 */
void qmp_execute(struct qmp *qmp, const char *command, json_t *args, uint64_t deadline_ms,
		 qmp_reply_cb cb, void *data);

/** qmp_execute_fd() - the same, with a descriptor sent along (getfd, add-fd); the caller keeps its
 * own */
void qmp_execute_fd(struct qmp *qmp, const char *command, json_t *args, int fd,
		    uint64_t deadline_ms, qmp_reply_cb cb, void *data);

/**
 * qmp_close() - end the connection and free
 *
 * Pending commands get ERR_CANCELLED inside this call; no callback fires after it. NULL is fine.
 * A callback must not answer ERR_CANCELLED with another command: it would be cancelled, too.
 */
void qmp_close(struct qmp *qmp);
