/*
 * A client of the guest agent (qemu docs/interop/qemu-ga.rst) behind QEMU's virtio-serial socket,
 * in the event loop. The peer is the guest itself: nothing it sends is trusted, everything is
 * bounded.
 *
 * A guest without an agent, or one that is still booting, does not read: a command then ends in
 * ERR_TIMEOUT, and a later one works as soon as there is an agent. Each command is an exchange of
 * its own that begins with guest-sync-delimited, so late answers of earlier ones are never mistaken
 * for its own. Between exchanges nothing is read, so that a guest cannot keep the host busy.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

#define AGENT_LINE_MAX    (1u << 20)
#define AGENT_DEPTH_MAX   32
#define AGENT_QUEUE_MAX   16
#define AGENT_DEADLINE_MS 5000

enum {
	/*
	 * The command answers only when it is refused (guest-shutdown, guest-suspend-*): once the
	 * agent took it, the end of the connection or silence up to the deadline is success.
	 */
	AGENT_MAY_END = 1 << 0,
};

struct agent;

/**
 * agent_reply_cb - the answer to one command
 * @result: what stands in "return", borrowed; NULL on failure and for AGENT_MAY_END
 * @err:    NULL on success. The agent's refusals are mapped as in qmp.h. ERR_TIMEOUT: no agent, or
 *          too slow; ERR_CORRUPT: no valid answer; ERR_UNAVAILABLE, ERR_LIMIT: the connection
 * ended, a new one is needed; ERR_BUSY: AGENT_QUEUE_MAX commands wait; ERR_CANCELLED by
 *          agent_close().
 */
typedef void (*agent_reply_cb)(void *data, json_t *result, const struct err *err);

/**
 * agent_open() - speak with the agent on a connected socket; nothing is sent yet
 * @fd:     ownership moves here, also on failure
 * @closed: the connection is over (noticed at the next exchange at the latest); at most once, after
 *          all waiting commands got the same error. The owner answers with agent_close(). May be
 *          NULL; later commands then fail with ERR_UNAVAILABLE.
 */
int agent_open(uv_loop_t *loop, int fd, void (*closed)(void *owner, const struct err *err),
	       void *owner, struct agent **ret, struct err *err) warn_unused;

/** agent_connect() - agent_open() on a UNIX socket by path; never blocks */
int agent_connect(uv_loop_t *loop, const char *path,
		  void (*closed)(void *owner, const struct err *err), void *owner,
		  struct agent **ret, struct err *err) warn_unused;

/**
 * agent_execute() - one command; they run one at a time in the order given
 * @args:        its arguments; the reference is stolen; NULL for none
 * @deadline_ms: from now, waiting in the queue included; 0: AGENT_DEADLINE_MS
 * @flags:       AGENT_MAY_END
 * @cb:          fires exactly once, never inside this call; may be NULL
 */
void agent_execute(struct agent *agent, const char *command, json_t *args, uint64_t deadline_ms,
		   unsigned int flags, agent_reply_cb cb, void *data);

/**
 * agent_close() - end the connection and free
 *
 * Waiting commands get ERR_CANCELLED inside this call; no callback fires after it. NULL is fine.
 */
void agent_close(struct agent *agent);
