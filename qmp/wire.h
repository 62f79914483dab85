/* What QMP and the guest agent have in common on the wire. Inside this folder only. */
#pragma once

#include <jansson.h>

#include "base/err.h"

/**
 * wire_connect() - connect to a UNIX stream socket without ever blocking
 * @ret_fd: close-on-exec and non-blocking, owned by the caller
 * Errors: ERR_UNAVAILABLE when nobody listens or the backlog is full; else as errno says.
 */
int wire_connect(const char *path, int *ret_fd, struct err *err) warn_unused;

/**
 * wire_command() - the line of one command, with its end
 * @args: borrowed, may be NULL
 * @id:   left out when 0
 * Return: memory for free(), or NULL when @args cannot be written as JSON.
 */
char *wire_command(const char *command, json_t *args, json_int_t id);

/**
 * wire_refusal() - fill in @err from the "error" object of an answer
 *
 * DeviceNotFound is ERR_NOT_FOUND, CommandNotFound is ERR_UNSUPPORTED, every other class
 * ERR_UNAVAILABLE. Return: -1 always, for the caller to pass on.
 */
int wire_refusal(const char *command, json_t *error, struct err *err);
