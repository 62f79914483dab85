/*
 * JSON texts out of bytes that a peer sent. Bounded before it is parsed: depth is counted on the
 * raw text, so that a hostile text never reaches the recursive parser.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

#define JSON_LINE_DEPTH_MAX 32

/**
 * json_line_parse() - one JSON text of @len bytes (RFC 8259)
 * @ret: new reference, on success
 *
 * Errors: ERR_INVALID when it is no JSON, has trailing bytes, duplicate keys, a NUL in a string or
 * nests deeper than @depth.
 */
int json_line_parse(const char *text, size_t len, unsigned int depth, json_t **ret,
		    struct err *err) warn_unused;
