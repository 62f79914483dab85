#include "storage/decompress.h"

#define ZLIB_CONST /* what comes in is not written to */
#include <limits.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/mem.h"

/* xz -9 needs 65 MiB, zstd --long=27 128 MiB; what asks for more was not made to be passed around
 */
#define XZ_MEMORY_MAX   (UINT64_C(256) << 20)
#define ZSTD_WINDOW_MAX 27 /* as a power of two */

/* struct decompress - @whole: between two members, where a stream may end */
struct decompress {
	enum decompress_kind kind;
	bool whole;
	bool begun;
	z_stream gzip;
	lzma_stream xz;
	ZSTD_DStream *zstd;
};

enum decompress_kind decompress_recognise(const void *head, size_t size)
{
	const unsigned char *at = head;

	/* deflate is the only method that gzip has */
	if (size >= 3 && memcmp(at, "\x1f\x8b\x08", 3) == 0)
		return DECOMPRESS_GZIP;
	if (size >= 6 && memcmp(at, "\xfd\x37zXZ\0", 6) == 0)
		return DECOMPRESS_XZ;
	if (size >= 4 && memcmp(at, "\x28\xb5\x2f\xfd", 4) == 0)
		return DECOMPRESS_ZSTD;
	/* pzstd begins with a frame to be skipped */
	if (size >= 4 && (at[0] & 0xf0) == 0x50 && memcmp(at + 1, "\x2a\x4d\x18", 3) == 0)
		return DECOMPRESS_ZSTD;
	return DECOMPRESS_NONE;
}

const char *decompress_name(enum decompress_kind kind)
{
	switch (kind) {
	case DECOMPRESS_NONE:
		return "plain";
	case DECOMPRESS_GZIP:
		return "gzip";
	case DECOMPRESS_XZ:
		return "xz";
	case DECOMPRESS_ZSTD:
		return "zstd";
	}
	return "plain";
}

static int begin(struct decompress *d)
{
	switch (d->kind) {
	case DECOMPRESS_NONE:
		d->whole = true;
		return 0;
	case DECOMPRESS_GZIP:
		/* 16: a gzip header, nothing else */
		return inflateInit2(&d->gzip, 16 + MAX_WBITS) == Z_OK ? 0 : -1;
	case DECOMPRESS_XZ:
		return lzma_stream_decoder(&d->xz, XZ_MEMORY_MAX, LZMA_CONCATENATED) == LZMA_OK
			       ? 0
			       : -1;
	case DECOMPRESS_ZSTD:
		d->zstd = ZSTD_createDStream();
		return d->zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax,
								       ZSTD_WINDOW_MAX))
			       ? 0
			       : -1;
	}
	return -1;
}

int decompress_new(enum decompress_kind kind, struct decompress **ret, struct err *err)
{
	struct decompress *d = mem_new(struct decompress);

	d->kind = kind;
	if (begin(d) < 0) {
		decompress_free(d);
		return err_set(err, ERR_INTERNAL, "cannot begin to unpack a %s file",
			       decompress_name(kind));
	}
	*ret = d;
	return 0;
}

void decompress_free(struct decompress *d)
{
	if (!d)
		return;
	if (d->kind == DECOMPRESS_GZIP)
		inflateEnd(&d->gzip);
	if (d->kind == DECOMPRESS_XZ)
		lzma_end(&d->xz);
	ZSTD_freeDStream(d->zstd);
	free(d);
}

static int broken(const struct decompress *d, struct err *err)
{
	return err_set(err, ERR_CORRUPT,
		       "the %s file is corrupt, or something else follows it; check it with %s -t",
		       decompress_name(d->kind), decompress_name(d->kind));
}

static int too_much(const struct decompress *d, struct err *err)
{
	return err_set(err, ERR_LIMIT,
		       "the %s file needs more memory to unpack than is allowed; pack it with a "
		       "smaller window",
		       decompress_name(d->kind));
}

static int step_gzip(struct decompress *d, const unsigned char *in, size_t in_size,
		     size_t *ret_used, void *out, size_t out_size, size_t *ret_made,
		     struct err *err)
{
	size_t skipped = 0;

	/* zeros after a member are padding, as gzip(1) has it */
	while (d->begun && d->whole && skipped < in_size && in[skipped] == 0)
		skipped++;
	*ret_used = skipped;
	*ret_made = 0;
	if (skipped == in_size && (d->whole || !d->begun))
		return 0;
	d->gzip.next_in = in + skipped;
	d->gzip.avail_in = (uInt)(in_size - skipped);
	d->gzip.next_out = out;
	d->gzip.avail_out = (uInt)out_size;
	d->begun = true;
	d->whole = false;
	int result = inflate(&d->gzip, Z_NO_FLUSH);
	if (result == Z_STREAM_END && inflateReset(&d->gzip) == Z_OK)
		d->whole = true;
	else if (result == Z_MEM_ERROR)
		return too_much(d, err);
	else if (result != Z_OK && result != Z_BUF_ERROR)
		return broken(d, err);
	*ret_used = in_size - d->gzip.avail_in;
	*ret_made = out_size - d->gzip.avail_out;
	return 0;
}

static int step_xz(struct decompress *d, const void *in, size_t in_size, bool last,
		   size_t *ret_used, void *out, size_t out_size, size_t *ret_made, struct err *err)
{
	if (d->whole) {
		*ret_used = *ret_made = 0;
		return 0;
	}
	d->xz.next_in = in;
	d->xz.avail_in = in_size;
	d->xz.next_out = out;
	d->xz.avail_out = out_size;
	lzma_ret result = lzma_code(&d->xz, last ? LZMA_FINISH : LZMA_RUN);
	if (result == LZMA_STREAM_END)
		d->whole = true;
	else if (result == LZMA_MEMLIMIT_ERROR || result == LZMA_MEM_ERROR)
		return too_much(d, err);
	else if (result != LZMA_OK && result != LZMA_BUF_ERROR)
		return broken(d, err);
	*ret_used = in_size - d->xz.avail_in;
	*ret_made = out_size - d->xz.avail_out;
	return 0;
}

static int step_zstd(struct decompress *d, const void *in, size_t in_size, size_t *ret_used,
		     void *out, size_t out_size, size_t *ret_made, struct err *err)
{
	ZSTD_inBuffer from = {in, in_size, 0};
	ZSTD_outBuffer to = {out, out_size, 0};

	/* between frames it would ask for the next one, and no longer be whole */
	if (d->whole && in_size == 0) {
		*ret_used = *ret_made = 0;
		return 0;
	}
	size_t result = ZSTD_decompressStream(d->zstd, &to, &from);
	if (ZSTD_isError(result)) {
		ZSTD_ErrorCode code = ZSTD_getErrorCode(result);
		if (code == ZSTD_error_frameParameter_windowTooLarge ||
		    code == ZSTD_error_memory_allocation)
			return too_much(d, err);
		return broken(d, err);
	}
	d->whole = result == 0;
	*ret_used = from.pos;
	*ret_made = to.pos;
	return 0;
}

int decompress_step(struct decompress *d, const void *in, size_t in_size, bool last,
		    size_t *ret_used, void *out, size_t out_size, size_t *ret_made, struct err *err)
{
	size_t n = in_size < out_size ? in_size : out_size;

	if (in_size > INT_MAX || out_size > INT_MAX)
		return err_set(err, ERR_INTERNAL, "too large a step to unpack");
	switch (d->kind) {
	case DECOMPRESS_NONE:
		if (n > 0)
			memcpy(out, in, n);
		*ret_used = *ret_made = n;
		return 0;
	case DECOMPRESS_GZIP:
		return step_gzip(d, in, in_size, ret_used, out, out_size, ret_made, err);
	case DECOMPRESS_XZ:
		return step_xz(d, in, in_size, last, ret_used, out, out_size, ret_made, err);
	case DECOMPRESS_ZSTD:
		return step_zstd(d, in, in_size, ret_used, out, out_size, ret_made, err);
	}
	return err_set(err, ERR_INTERNAL, "there is no such kind of stream");
}

int decompress_end(struct decompress *d, struct err *err)
{
	if (d->whole)
		return 0;
	return err_set(err, ERR_CORRUPT, "the %s file is truncated: it ends in the middle",
		       decompress_name(d->kind));
}
