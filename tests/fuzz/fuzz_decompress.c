/*
 * A compressed stream from a stranger. The first byte says in what steps it comes and goes, and
 * whether it is decoded as what it looks like or as another kind.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/decompress.h"

#define OUT_MAX (4u << 20) /* a bomb is cut off here, as an import cuts it off somewhere */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void unpack(struct decompress *d, const uint8_t *data, size_t size, size_t in_step,
		   size_t out_step)
{
	size_t at = 0, out = 0, used, made;
	struct err err = {0};
	uint8_t *to = malloc(out_step);

	for (;;) {
		size_t n = size - at < in_step ? size - at : in_step;
		/* in memory of its own, so that a sanitizer sees reading past the end */
		uint8_t *from = malloc(n ? n : 1);
		if (!from || !to)
			abort();
		memcpy(from, data + at, n);
		int result = decompress_step(d, from, n, at + n == size && n == 0, &used, to,
					     out_step, &made, &err);
		free(from);
		if (result < 0 && (err.code == 0 || err.msg[0] == '\0'))
			abort();
		if (result < 0)
			break;
		if (used > n || made > out_step)
			abort();
		at += used;
		out += made;
		if (out > OUT_MAX || (used == 0 && made == 0))
			break;
	}
	free(to);
	if (decompress_end(d, &err) < 0 && err.code != ERR_CORRUPT && err.code != ERR_LIMIT)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct decompress *d;
	struct err err;

	if (size < 1)
		return 0;
	enum decompress_kind kind = decompress_recognise(data + 1, size - 1);
	if (data[0] & 0x80)
		kind = (enum decompress_kind)(data[0] & 3);
	if (decompress_new(kind, &d, &err) < 0)
		abort();
	unpack(d, data + 1, size - 1, data[0] & 4 ? 1 + (data[0] >> 4) : 65536,
	       data[0] & 8 ? 100 : 65536);
	decompress_free(d);
	return 0;
}
