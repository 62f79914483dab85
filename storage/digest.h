/* SHA-256 of bytes that come one after the other. */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define DIGEST_LEN 64 /* hexadecimal digits */

struct digest;

int digest_new(struct digest **ret, struct err *err) warn_unused;
/** digest_free() - NULL is fine */
void digest_free(struct digest *digest);
int digest_add(struct digest *digest, const void *bytes, size_t size, struct err *err) warn_unused;
/** digest_end() - the checksum as hex text; only digest_free() may follow */
int digest_end(struct digest *digest, char ret[DIGEST_LEN + 1], struct err *err) warn_unused;
