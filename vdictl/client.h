/* The control API from the caller's side: one blocking socket, one request at a time. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct client;

/** client_open() - connect to the daemon; @path NULL: VDI_SOCKET, or the first usual place */
int client_open(const char *path, struct client **ret, struct err *err) warn_unused;

/** client_free() - close and free; NULL is fine */
void client_free(struct client *client);

/**
 * client_call() - one request, one answer
 * @params: borrowed; NULL for none
 * @fd:     passed along by SCM_RIGHTS, or -1; borrowed
 * @ret:    the result, new reference
 *
 * Errors: the daemon's own, with its kind as the code; ERR_UNAVAILABLE and client_is_lost() when
 * the connection broke.
 */
int client_call(struct client *client, const char *method, json_t *params, int fd, json_t **ret,
		struct err *err) warn_unused;

/** client_next() - wait for the next notification; @ret: its params, new reference */
int client_next(struct client *client, json_t **ret, struct err *err) warn_unused;

/** client_is_lost() - was the daemon not reachable, or gone before it answered? */
bool client_is_lost(const struct client *client);
