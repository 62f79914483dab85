/* A listening socket in the event loop that hands out what connects, as bare descriptors. */
#pragma once

#include <uv.h>

#include "base/err.h"

struct listener;

/**
 * listener_open() - accept from a socket that is bound and listening
 * @fd:       ownership moves here, also on failure
 * @accepted: from the loop; @client is the callback's, close-on-exec and non-blocking
 *
 * While the process or the host is out of descriptors, connections wait in the kernel's queue, and
 * accepting rests for a moment: a queue that cannot be emptied would wake the loop for ever.
 */
int listener_open(uv_loop_t *loop, int fd, void (*accepted)(void *data, int client), void *data,
		  struct listener **ret, struct err *err) warn_unused;

/** listener_close() - accept no more, close the socket; NULL is fine */
void listener_close(struct listener *listener);
