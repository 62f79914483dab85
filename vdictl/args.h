/* From words on the command line to the parameters of a method. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/**
 * args_read() - flags and the positional name
 * @ret_params: new reference
 *
 * Errors: ERR_INVALID for what the user must type otherwise.
 */
int args_read(json_t *method, int argc, char **argv, json_t **ret_params,
	      struct err *err) warn_unused;

/** args_parse_amount() - "2G" for unit "mib" is 2048, "5m" for "s" is 300 */
int args_parse_amount(const char *text, const char *unit, int64_t *ret,
		      struct err *err) warn_unused;

/** args_open_file() - a file to pass to the daemon: regular, opened with the user's rights; "-" is
 * the standard input, which may also be a pipe */
int args_open_file(const char *path, int *ret_fd, struct err *err) warn_unused;

/**
 * args_make_file() - the same for one that the daemon writes to
 * @force:    take one that is there already, else that is ERR_EXISTS
 * @ret_made: it was not there before
 */
int args_make_file(const char *path, bool force, int *ret_fd, bool *ret_made,
		   struct err *err) warn_unused;
