#include "storage/bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/digest.h"
#include "storage/file.h"

#define PIECE  (UINT64_C(32) << 20)
#define BUFFER (256 * 1024)

struct bulk {
	uv_work_t work;
	uv_timer_t *pause; /* where it is throttled */
	uint64_t pause_ms;
	int (*piece)(struct bulk *bulk, struct err *err);
	const struct bulk_ops *ops;
	void *data;
	int from, to;
	unsigned int mode;
	uint64_t at, total;
	bool begun, finished, cancelled, by_hand;
	struct digest *digest;
	char sha256[BULK_SHA256_LEN + 1];
	char *buffer;
	struct err err;
};

static int begin(struct bulk *bulk, struct err *err)
{
	bulk->begun = true;
	bulk->buffer = mem_calloc(1, BUFFER);
	return storage_file_size(bulk->from, &bulk->total, err);
}

static int sha256_piece(struct bulk *bulk, struct err *err)
{
	uint64_t left = PIECE;

	if (!bulk->begun && (begin(bulk, err) < 0 || digest_new(&bulk->digest, err) < 0))
		return -1;
	while (left > 0 && bulk->at < bulk->total) {
		size_t n = bulk->total - bulk->at < BUFFER ? (size_t)(bulk->total - bulk->at)
							   : (size_t)BUFFER;
		if (storage_pread(bulk->from, bulk->buffer, n, bulk->at, err) < 0)
			return -1;
		if (digest_add(bulk->digest, bulk->buffer, n, err) < 0)
			return -1;
		bulk->at += n;
		left -= n < left ? n : left;
	}
	if (bulk->at < bulk->total)
		return 0;
	bulk->finished = true;
	return digest_end(bulk->digest, bulk->sha256, err);
}

static int write_err(struct err *err)
{
	return err_set_sys(err, err_from_errno(errno), errno,
			   "cannot copy the image into the store");
}

/* the next stretch of data; false at the end of it */
static bool find_data(struct bulk *bulk, uint64_t *ret_len)
{
	uint64_t end = bulk->total;
	off_t data = lseek(bulk->from, (off_t)bulk->at, SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		return false; /* a hole up to the end */
	if (data >= 0) {
		off_t hole = lseek(bulk->from, data, SEEK_HOLE);
		if (hole > data && (uint64_t)hole < end)
			end = (uint64_t)hole;
		bulk->at = (uint64_t)data;
	}
	if (bulk->at >= end)
		return false;
	*ret_len = end - bulk->at < PIECE ? end - bulk->at : PIECE;
	return true;
}

static int copy_by_hand(struct bulk *bulk, uint64_t len, struct err *err)
{
	while (len > 0) {
		size_t n = len < BUFFER ? (size_t)len : (size_t)BUFFER;
		if (storage_pread(bulk->from, bulk->buffer, n, bulk->at, err) < 0 ||
		    storage_pwrite(bulk->to, bulk->buffer, n, bulk->at, err) < 0)
			return -1;
		bulk->at += n;
		len -= n;
	}
	return 0;
}

static int copy_range(struct bulk *bulk, uint64_t len, struct err *err)
{
	while (len > 0 && !bulk->by_hand) {
		loff_t in = (loff_t)bulk->at, out = in;
		ssize_t n = copy_file_range(bulk->from, &in, bulk->to, &out, (size_t)len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		/* not between these file systems, or not at all (also: answers 0 on some) */
		if (n == 0 || (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP ||
					 errno == ENOSYS || errno == EIO)))
			bulk->by_hand = true;
		else if (n < 0)
			return write_err(err);
		else {
			bulk->at += (uint64_t)n;
			len -= (uint64_t)n;
		}
	}
	return copy_by_hand(bulk, len, err);
}

static int copy_piece(struct bulk *bulk, struct err *err)
{
	uint64_t len;

	if (!bulk->begun) {
		if (begin(bulk, err) < 0)
			return -1;
		if (ioctl(bulk->to, FICLONE, bulk->from) == 0) {
			bulk->at = bulk->total;
			bulk->finished = true;
			return 0;
		}
		if (ftruncate(bulk->to, (off_t)bulk->total) < 0)
			return write_err(err);
	}
	if (find_data(bulk, &len)) {
		if (copy_range(bulk, len, err) < 0)
			return -1;
	} else {
		bulk->at = bulk->total;
	}
	if (bulk->at < bulk->total)
		return 0;
	uint64_t now = 0;
	if (storage_file_size(bulk->from, &now, err) < 0)
		return -1;
	if (now < bulk->total)
		return err_set(err, ERR_CORRUPT, "the source became shorter while it was copied");
	bulk->finished = true;
	return 0;
}

static int sync_piece(struct bulk *bulk, struct err *err)
{
	bulk->finished = true;
	if ((bulk->mode != BULK_KEEP_MODE && fchmod(bulk->from, bulk->mode) < 0) ||
	    fsync(bulk->from) < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot make the image durable");
	return 0;
}

static void run_piece(uv_work_t *work)
{
	struct bulk *bulk = work->data;

	if (bulk->piece(bulk, &bulk->err) < 0)
		bulk->finished = true;
}

static void free_timer(uv_handle_t *timer)
{
	free(timer);
}

static void piece_done(uv_work_t *work, int status);

static void on_paused(uv_timer_t *timer)
{
	struct bulk *bulk = timer->data;

	uv_queue_work(timer->loop, &bulk->work, run_piece, piece_done);
}

static void next_piece(struct bulk *bulk)
{
	if (!bulk->pause) {
		uv_queue_work(bulk->work.loop, &bulk->work, run_piece, piece_done);
		return;
	}
	/* what was read once a week is not what others want kept in memory */
	(void)!posix_fadvise(bulk->from, 0, 0, POSIX_FADV_DONTNEED);
	uv_timer_start(bulk->pause, on_paused, bulk->cancelled ? 0 : bulk->pause_ms, 0);
}

static void piece_done(uv_work_t *work, int status)
{
	struct bulk *bulk = work->data;

	if (bulk->cancelled)
		err_set(&bulk->err, ERR_CANCELLED, "the work was cancelled");
	if (!bulk->finished && !bulk->cancelled) {
		if (bulk->ops->progress)
			bulk->ops->progress(bulk->data, bulk->at, bulk->total);
		/* the callback above may have cancelled; the next piece then ends it */
		next_piece(bulk);
		return;
	}
	if (bulk->pause)
		uv_close((uv_handle_t *)bulk->pause, free_timer);
	digest_free(bulk->digest);
	free(bulk->buffer);
	bool failed = bulk->err.code != 0;
	bulk->ops->done(bulk->data, !failed && bulk->sha256[0] ? bulk->sha256 : NULL,
			failed ? &bulk->err : NULL);
	free(bulk);
}

static struct bulk *prepare(int (*piece)(struct bulk *, struct err *), int from, int to,
			    const struct bulk_ops *ops, void *data)
{
	struct bulk *bulk = mem_new(struct bulk);

	bulk->work.data = bulk;
	bulk->piece = piece;
	bulk->ops = ops;
	bulk->data = data;
	bulk->from = from;
	bulk->to = to;
	return bulk;
}

static struct bulk *queue(uv_loop_t *loop, struct bulk *bulk)
{
	uv_queue_work(loop, &bulk->work, run_piece, piece_done);
	return bulk;
}

struct bulk *bulk_copy(uv_loop_t *loop, int from, int to, const struct bulk_ops *ops, void *data)
{
	return queue(loop, prepare(copy_piece, from, to, ops, data));
}

struct bulk *bulk_sha256(uv_loop_t *loop, int fd, const struct bulk_ops *ops, void *data)
{
	return queue(loop, prepare(sha256_piece, fd, -1, ops, data));
}

struct bulk *bulk_sync(uv_loop_t *loop, int fd, unsigned int mode, const struct bulk_ops *ops,
		       void *data)
{
	struct bulk *bulk = prepare(sync_piece, fd, -1, ops, data);

	bulk->mode = mode;
	return queue(loop, bulk);
}

void bulk_throttle(struct bulk *bulk, uint64_t pause_ms)
{
	bulk->pause_ms = pause_ms;
	if (bulk->pause)
		return;
	bulk->pause = mem_new(uv_timer_t);
	uv_timer_init(bulk->work.loop, bulk->pause);
	bulk->pause->data = bulk;
}

void bulk_cancel(struct bulk *bulk)
{
	bulk->cancelled = true;
	/* one that rests ends now, not after its rest */
	if (bulk->pause && uv_is_active((uv_handle_t *)bulk->pause))
		uv_timer_start(bulk->pause, on_paused, 0, 0);
}
