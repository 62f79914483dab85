#include "storage/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/digest.h"
#include "storage/file.h"
#include "storage/qcow2.h"

#define PIECE    (UINT64_C(32) << 20) /* that comes in or goes out, whichever is more */
#define BUFFER   (256 * 1024)
#define HOLE     (64 * 1024) /* zeros of this length, so aligned, are left out */
#define STALL_MS (2 * 60 * UINT64_C(1000))

/*
 * struct intake - one under way
 *
 * A piece is at work in the pool, or (a pipe that is empty) @poll and @stall wait, or the handles
 * are closing; never two of these.
 */
struct intake {
	uv_work_t work;
	uv_poll_t poll;
	uv_timer_t stall;
	const struct intake_ops *ops;
	void *data;
	struct intake_limits limits;
	int from, to;
	bool pipe, was_blocking;
	bool starved, waiting, ended, finished, cancelled;
	int handles;
	struct decompress *decompress;
	struct digest *digest;
	unsigned char *in, *out;
	size_t in_at, in_size, out_size;
	uint64_t total;
	struct intake_result result;
	struct err err;
};

/* ---- in the pool ---- */

/* Return: bytes, 0 at the end, -1 */
static ssize_t read_some(struct intake *intake, void *at, size_t size)
{
	struct iovec iov = {at, size};
	ssize_t n;

	do {
		if (!intake->pipe)
			n = pread(intake->from, at, size, (off_t)intake->result.read);
		else
			/* somebody else may read from it as well: do not trust what poll said */
			n = preadv2(intake->from, &iov, 1, -1, RWF_NOWAIT);
		if (n < 0 && errno == EOPNOTSUPP)
			n = read(intake->from, at, size);
	} while (n < 0 && errno == EINTR);
	return n;
}

static int fill(struct intake *intake, struct err *err)
{
	size_t left = intake->in_size - intake->in_at;

	memmove(intake->in, intake->in + intake->in_at, left);
	intake->in_at = 0;
	intake->in_size = left;
	ssize_t n = read_some(intake, intake->in + left, BUFFER - left);
	if (n < 0 && errno == EAGAIN) {
		intake->starved = true;
		return 0;
	}
	if (n < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot read the file");
	if (digest_add(intake->digest, intake->in + left, (size_t)n, err) < 0)
		return -1;
	intake->ended = n == 0;
	intake->in_size += (size_t)n;
	intake->result.read += (uint64_t)n;
	return 0;
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static int flush(struct intake *intake, struct err *err)
{
	size_t size = intake->out_size;

	if (size > intake->limits.size_max - intake->result.written)
		return err_set(err, ERR_LIMIT, "there are more than %llu bytes in the %s file",
			       (unsigned long long)intake->limits.size_max,
			       intake->pipe ? "piped" : "packed");
	for (size_t at = 0; at < size; at += HOLE) {
		size_t n = size - at < HOLE ? size - at : (size_t)HOLE;
		if (is_zero(intake->out + at, n))
			continue;
		/* what was really written is what counts: a hole takes no room */
		if (storage_check_room(intake->to, intake->limits.reserve, err) < 0 ||
		    storage_pwrite(intake->to, intake->out + at, n, intake->result.written + at,
				   err) < 0)
			return -1;
	}
	intake->result.written += size;
	intake->out_size = 0;
	return 0;
}

static int finish(struct intake *intake, struct err *err)
{
	intake->finished = true;
	if (flush(intake, err) < 0 || decompress_end(intake->decompress, err) < 0)
		return -1;
	if (ftruncate(intake->to, (off_t)intake->result.written) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write to the store");
	return digest_end(intake->digest, intake->result.sha256, err);
}

static int begin(struct intake *intake, struct err *err)
{
	enum decompress_kind kind;

	if (!intake->digest && digest_new(&intake->digest, err) < 0)
		return -1;
	if (intake->limits.reserve == 0 &&
	    storage_usual_reserve(intake->to, &intake->limits.reserve, err) < 0)
		return -1;
	if (!intake->in) {
		intake->in = mem_calloc(1, BUFFER);
		intake->out = mem_calloc(1, BUFFER);
	}
	while (intake->in_size < DECOMPRESS_HEAD && !intake->ended && !intake->starved)
		if (fill(intake, err) < 0)
			return -1;
	if (intake->starved)
		return 0;
	kind = decompress_recognise(intake->in, intake->in_size);
	return decompress_new(kind, &intake->decompress, err);
}

static int unpack_piece(struct intake *intake, struct err *err)
{
	const uint64_t read = intake->result.read, written = intake->result.written;
	size_t used, made;

	intake->starved = false;
	if (!intake->decompress && begin(intake, err) < 0)
		return -1;
	while (!intake->starved && intake->result.read - read < PIECE &&
	       intake->result.written - written < PIECE) {
		if (intake->in_at == intake->in_size && !intake->ended && fill(intake, err) < 0)
			return -1;
		size_t left = intake->in_size - intake->in_at;
		/* also without input: there may be output left in the decoder */
		if (decompress_step(intake->decompress, intake->in + intake->in_at, left,
				    intake->ended, &used, intake->out + intake->out_size,
				    BUFFER - intake->out_size, &made, err) < 0)
			return -1;
		intake->in_at += used;
		intake->out_size += made;
		if (intake->out_size == BUFFER && flush(intake, err) < 0)
			return -1;
		if (used > 0 || made > 0)
			continue;
		if (left > 0)
			return err_set(err, ERR_CORRUPT, "something follows the end of the file");
		if (intake->ended)
			return finish(intake, err);
	}
	return 0;
}

static void run_piece(uv_work_t *work)
{
	struct intake *intake = container_of(work, struct intake, work);

	if (unpack_piece(intake, &intake->err) < 0)
		intake->finished = true;
}

/* ---- in the loop ---- */

static void report(struct intake *intake)
{
	bool failed = intake->err.code != 0;

	decompress_free(intake->decompress);
	digest_free(intake->digest);
	free(intake->in);
	free(intake->out);
	intake->ops->done(intake->data, failed ? NULL : &intake->result,
			  failed ? &intake->err : NULL);
	free(intake);
}

static void on_closed(uv_handle_t *handle)
{
	struct intake *intake = handle->data;

	if (--intake->handles > 0)
		return;
	/* the flag is shared with whoever handed the pipe over */
	int flags = fcntl(intake->from, F_GETFL);
	if (intake->was_blocking && flags >= 0)
		(void)fcntl(intake->from, F_SETFL, flags & ~O_NONBLOCK);
	report(intake);
}

static void end(struct intake *intake)
{
	if (intake->cancelled)
		err_set(&intake->err, ERR_CANCELLED, "the work was cancelled");
	intake->waiting = false;
	if (!intake->pipe) {
		report(intake);
		return;
	}
	intake->handles = 2;
	uv_close((uv_handle_t *)&intake->poll, on_closed);
	uv_close((uv_handle_t *)&intake->stall, on_closed);
}

static void piece_done(uv_work_t *work, int status);

static void queue_piece(struct intake *intake)
{
	uv_queue_work(intake->work.loop, &intake->work, run_piece, piece_done);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct intake *intake = poll->data;

	uv_poll_stop(&intake->poll);
	uv_timer_stop(&intake->stall);
	intake->waiting = false;
	queue_piece(intake);
}

static void on_stall(uv_timer_t *timer)
{
	struct intake *intake = timer->data;

	err_set(&intake->err, ERR_TIMEOUT, "nothing came through the pipe for %llu s",
		(unsigned long long)(intake->limits.stall_ms / 1000));
	end(intake);
}

static void piece_done(uv_work_t *work, int status)
{
	struct intake *intake = container_of(work, struct intake, work);

	if (!intake->finished && !intake->cancelled)
		intake->ops->progress(intake->data, intake->result.read, intake->total);
	/* the callback above may have cancelled */
	if (intake->finished || intake->cancelled) {
		end(intake);
	} else if (intake->starved) {
		intake->waiting = true;
		uv_poll_start(&intake->poll, UV_READABLE | UV_DISCONNECT, on_readable);
		uv_timer_start(&intake->stall, on_stall, intake->limits.stall_ms, 0);
	} else {
		queue_piece(intake);
	}
}

static void watch_pipe(struct intake *intake, uv_loop_t *loop)
{
	int flags = fcntl(intake->from, F_GETFL);

	intake->pipe = true;
	intake->was_blocking = flags >= 0 && !(flags & O_NONBLOCK);
	/* cannot fail for a pipe: it can be polled, and it is only watched here */
	if (uv_poll_init(loop, &intake->poll, intake->from) != 0)
		abort();
	uv_timer_init(loop, &intake->stall);
	intake->poll.data = intake->stall.data = intake;
}

struct intake *intake_start(uv_loop_t *loop, int from, int to, struct intake_limits limits,
			    const struct intake_ops *ops, void *data)
{
	struct intake *intake = mem_new(struct intake);
	struct stat st = {0};

	intake->ops = ops;
	intake->data = data;
	intake->from = from;
	intake->to = to;
	intake->limits = limits;
	if (limits.size_max == 0)
		intake->limits.size_max = STORAGE_VIRTUAL_SIZE_MAX;
	if (limits.stall_ms == 0)
		intake->limits.stall_ms = STALL_MS;
	intake->work.loop = loop;
	if (fstat(from, &st) == 0 && S_ISFIFO(st.st_mode))
		watch_pipe(intake, loop);
	else
		intake->total = (uint64_t)st.st_size;
	queue_piece(intake);
	return intake;
}

void intake_cancel(struct intake *intake)
{
	if (intake->cancelled)
		return;
	intake->cancelled = true;
	if (intake->waiting)
		end(intake);
}
