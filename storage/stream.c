#include "storage/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/file.h"

#define PIECE    (UINT64_C(8) << 20) /* between two looks at the loop */
#define STEP     (1u << 20)
#define BUFFER   (256 * 1024)
#define WAIT_MS  100 /* a thread waits so long for a reader, */
#define PAUSE_MS 50  /* and others have it for so long then */

struct stream {
	uv_work_t work;
	uv_timer_t pause;
	const struct stream_ops *ops;
	void *data;
	int to;
	struct stream_part *parts;
	size_t n, current;
	uint64_t at, done, total; /* @at: in the current part */
	bool begun, is_pipe, stalled, finished, cancelled;
	char *buffer;
	struct err err;
};

static int fail_write(struct err *err)
{
	if (errno == EPIPE)
		return err_set(err, ERR_IO, "whoever read it has gone away");
	return err_set_sys(err, err_from_errno(errno), errno, "cannot write");
}

static int begin(struct stream *stream, struct err *err)
{
	struct stat st;

	stream->begun = true;
	if (fstat(stream->to, &st) < 0)
		return fail_write(err);
	stream->is_pipe = S_ISFIFO(st.st_mode);
	if (stream->is_pipe)
		return 0;
	stream->buffer = mem_calloc(1, BUFFER);
	if (ftruncate(stream->to, 0) < 0 || ftruncate(stream->to, (off_t)stream->total) < 0)
		return fail_write(err);
	return 0;
}

static void moved(struct stream *stream, uint64_t n)
{
	stream->at += n;
	stream->done += n;
	while (stream->current < stream->n && stream->at >= stream->parts[stream->current].len) {
		stream->at = 0;
		stream->current++;
	}
}

/* Return: is there room, or an end to it, which splice(2) will tell? */
static bool await_room(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	return poll(&poll_fd, 1, WAIT_MS) > 0;
}

static int pipe_step(struct stream *stream, struct err *err)
{
	const struct stream_part *part = &stream->parts[stream->current];
	uint64_t left = part->len - stream->at;
	loff_t from = (loff_t)(part->offset + stream->at);
	ssize_t n = splice(part->fd, &from, stream->to, NULL, left < STEP ? left : STEP,
			   SPLICE_F_NONBLOCK);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno == EAGAIN) {
		stream->stalled = !await_room(stream->to);
		return 0;
	}
	if (n < 0)
		return fail_write(err);
	if (n == 0)
		return err_set(err, ERR_CORRUPT, "a file became shorter while it was read");
	moved(stream, (uint64_t)n);
	return 0;
}

/* what is a hole in the part stays one; answers how many bytes there are to be written */
static uint64_t skip_hole(struct stream *stream, uint64_t most)
{
	const struct stream_part *part = &stream->parts[stream->current];
	uint64_t from = part->offset + stream->at, end = part->offset + part->len;
	off_t data = lseek(part->fd, (off_t)from, SEEK_DATA);

	if (data < 0 && errno == ENXIO) {
		struct stat st;
		/* a hole up to the end, if that is where it should be */
		if (fstat(part->fd, &st) == 0 && (uint64_t)st.st_size >= end) {
			moved(stream, end - from);
			return 0;
		}
		return most;
	}
	if (data > (off_t)from) {
		moved(stream, (uint64_t)data < end ? (uint64_t)data - from : end - from);
		return 0;
	}
	off_t hole = data < 0 ? -1 : lseek(part->fd, data, SEEK_HOLE);
	uint64_t len = hole > (off_t)from ? (uint64_t)hole - from : most;
	return len < most ? len : most;
}

static int file_step(struct stream *stream, struct err *err)
{
	const struct stream_part *part = &stream->parts[stream->current];
	uint64_t left = part->len - stream->at;
	uint64_t n = skip_hole(stream, left < BUFFER ? left : BUFFER);

	if (n == 0)
		return 0;
	if (storage_pread(part->fd, stream->buffer, (size_t)n, part->offset + stream->at, err) <
		    0 ||
	    storage_pwrite(stream->to, stream->buffer, (size_t)n, stream->done, err) < 0)
		return -1;
	moved(stream, n);
	return 0;
}

static int run(struct stream *stream, struct err *err)
{
	if (!stream->begun && begin(stream, err) < 0)
		return -1;
	moved(stream, 0); /* past parts that are empty */
	uint64_t end = stream->done + PIECE;
	stream->stalled = false;
	while (stream->current < stream->n && stream->done < end && !stream->stalled) {
		int failed = stream->is_pipe ? pipe_step(stream, err) : file_step(stream, err);
		if (failed < 0)
			return -1;
	}
	stream->finished = stream->current == stream->n;
	return 0;
}

static void run_piece(uv_work_t *work)
{
	struct stream *stream = work->data;

	if (run(stream, &stream->err) < 0)
		stream->finished = true;
}

static void on_closed(uv_handle_t *handle)
{
	struct stream *stream = handle->data;

	free(stream->buffer);
	free(stream->parts);
	free(stream);
}

static void piece_done(uv_work_t *work, int status);

static void finish(struct stream *stream)
{
	if (stream->cancelled)
		err_set(&stream->err, ERR_CANCELLED, "the work was cancelled");
	stream->ops->done(stream->data, stream->err.code ? &stream->err : NULL);
	uv_close((uv_handle_t *)&stream->pause, on_closed);
}

static void on_pause_over(uv_timer_t *timer)
{
	struct stream *stream = timer->data;

	if (stream->cancelled)
		finish(stream);
	else
		uv_queue_work(timer->loop, &stream->work, run_piece, piece_done);
}

static void piece_done(uv_work_t *work, int status)
{
	struct stream *stream = work->data;

	if (stream->finished || stream->cancelled) {
		finish(stream);
		return;
	}
	if (stream->ops->progress)
		stream->ops->progress(stream->data, stream->done, stream->total);
	uv_timer_start(&stream->pause, on_pause_over, stream->stalled ? PAUSE_MS : 0, 0);
}

struct stream *stream_start(uv_loop_t *loop, int to, const struct stream_part *parts, size_t n,
			    const struct stream_ops *ops, void *data)
{
	struct stream *stream = mem_new(struct stream);

	stream->to = to;
	stream->ops = ops;
	stream->data = data;
	stream->n = n;
	stream->parts = mem_calloc(n, sizeof(parts[0]));
	memcpy(stream->parts, parts, n * sizeof(parts[0]));
	for (size_t i = 0; i < n; i++)
		stream->total += parts[i].len;
	stream->work.data = stream;
	uv_timer_init(loop, &stream->pause);
	stream->pause.data = stream;
	uv_queue_work(loop, &stream->work, run_piece, piece_done);
	return stream;
}

void stream_cancel(struct stream *stream)
{
	stream->cancelled = true;
}
