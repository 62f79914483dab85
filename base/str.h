/* Strings, names, ids, times. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STR_NAME_MAX 63 /* of [a-z0-9][a-z0-9-]{0,62} */
#define STR_UUID_LEN 36
#define STR_TIME_MAX 32

/** str_copy() - copy into a fixed buffer; returns -1 (and leaves "" there) if it does not fit */
int str_copy(char *dst, size_t size, const char *src) warn_unused;

/** str_is_name() - does it match [a-z0-9][a-z0-9-]{0,62}? */
bool str_is_name(const char *s);

/** str_is_uuid() - 36 characters, lower-case hexadecimal, dashes in place? */
bool str_is_uuid(const char *s);

/** str_uuid_new() - a random (version 4) UUID as text; @ret has STR_UUID_LEN + 1 bytes */
void str_uuid_new(char *ret);

/** str_random_hex() - @n random bytes as 2n hexadecimal digits and a NUL */
void str_random_hex(char *ret, size_t n);

/** str_parse_i64() - a whole decimal number, nothing before or after it; -1 if it is none */
int str_parse_i64(const char *s, int64_t *ret) warn_unused;

/**
 * str_parse_size() - "512", "2G", "1.5T", "64MiB" in bytes; suffixes K M G T with or without iB or
 * B are powers of 1024, whatever their case
 */
int str_parse_size(const char *s, uint64_t *ret) warn_unused;

/** str_now_ms() - wall clock, UTC, milliseconds since 1970 */
int64_t str_now_ms(void);

/** str_format_time() - milliseconds since 1970 as RFC 3339 UTC, "2026-01-02T03:04:05.678Z" */
void str_format_time(int64_t ms, char ret[STR_TIME_MAX]);

/** str_path_join() - "dir/file" into a fixed buffer; -1 if it does not fit */
int str_path_join(char *ret, size_t size, const char *dir, const char *file) warn_unused;
