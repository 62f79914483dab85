#include "storage/convert.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "storage/file.h"

#define DEADLINE_MS (12 * 60 * 60 * UINT64_C(1000))
#define STILL_MS    (10 * 60 * UINT64_C(1000))
#define LOOK_MS     UINT64_C(250) /* a fast disk fills while nobody looks */
#define TAIL        512           /* of each output is kept */
#define WORDS_MAX   160           /* of them fit into a message */
#define PIECES      16            /* read at a time before others get their turn */

/**
 * enum convert_state - where a conversion stands
 *
 * SPAWNING: spawn() was asked for; cancel waits for its answer. RUNNING: the process is watched;
 * cancel and the limits kill it. REAPING: it has ended, its exit status was asked for. CLOSING: the
 * handles are going, done() follows.
 */
enum convert_state { CONVERT_SPAWNING, CONVERT_RUNNING, CONVERT_REAPING, CONVERT_CLOSING };

/* struct output - one of the tool's output pipes; the end of what came is kept */
struct output {
	struct convert *convert;
	uv_poll_t poll;
	int fd, write_fd;
	char tail[TAIL + 1];
	size_t len;
};

struct convert {
	uv_loop_t *loop;
	const struct convert_ops *ops;
	void *data;
	enum convert_state state;
	struct output out, errs;
	uv_timer_t timer;
	bool spawn_asked;
	struct proc_watch *watch;
	struct convert_limits limits;
	uint64_t started, moved; /* loop time */
	blkcnt_t target_blocks;
	int target;
	int percent;
	int handles;
	struct err err; /* why it was killed, or failed */
};

int convert_parse_progress(const char *text)
{
	int ret = -1;

	for (const char *at = text; (at = strchr(at, '(')); at++) {
		unsigned int whole, part;
		int end = 0;
		if (sscanf(at, "(%3u.%2u/100%%)%n", &whole, &part, &end) == 2 && end > 0 &&
		    whole * 100 + part <= 10000)
			ret = (int)(whole * 100 + part);
	}
	return ret;
}

static void output_close(struct output *output)
{
	close(output->fd);
	if (output->write_fd >= 0)
		close(output->write_fd);
}

static void handle_closed(uv_handle_t *handle)
{
	struct convert *c = handle->data;

	if (--c->handles > 0)
		return;
	output_close(&c->out);
	output_close(&c->errs);
	c->ops->done(c->data, c->err.code ? &c->err : NULL);
	free(c);
}

static void finish(struct convert *c)
{
	c->state = CONVERT_CLOSING;
	proc_unwatch(TAKE_PTR(c->watch));
	c->handles = 3;
	uv_close((uv_handle_t *)&c->out.poll, handle_closed);
	uv_close((uv_handle_t *)&c->errs.poll, handle_closed);
	uv_close((uv_handle_t *)&c->timer, handle_closed);
}

/* the first reason counts */
static void stop(struct convert *c, enum err_code code, const char *why)
{
	if (c->err.code != 0)
		return;
	err_set(&c->err, code, "%s", why);
	if (c->state == CONVERT_RUNNING)
		c->ops->kill(c->data);
}

void convert_cancel(struct convert *c)
{
	if (c->state == CONVERT_SPAWNING || c->state == CONVERT_RUNNING)
		stop(c, ERR_CANCELLED, "the conversion was cancelled");
}

static void take_output(struct output *output, const char *bytes, size_t n)
{
	if (n >= TAIL) {
		bytes += n - TAIL;
		n = TAIL;
	}
	size_t keep = output->len < TAIL - n ? output->len : TAIL - n;
	memmove(output->tail, output->tail + output->len - keep, keep);
	memcpy(output->tail + keep, bytes, n);
	output->len = keep + n;
	output->tail[output->len] = '\0';
	/* it is read as text; a NUL would hide what follows */
	for (size_t i = 0; i < output->len; i++)
		if (output->tail[i] == '\0')
			output->tail[i] = '?';
}

static void note_progress(struct convert *c)
{
	int percent = convert_parse_progress(c->out.tail);

	if (percent <= c->percent)
		return;
	c->percent = percent;
	c->moved = uv_now(c->loop);
	c->ops->progress(c->data, percent);
}

static void read_output(struct output *output)
{
	char bytes[4096];

	for (int i = 0; i < PIECES; i++) {
		ssize_t n = read(output->fd, bytes, sizeof(bytes));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			uv_poll_stop(&output->poll);
			return;
		}
		take_output(output, bytes, (size_t)n);
	}
}

static void output_ready(uv_poll_t *poll, int status, int events)
{
	struct output *output = container_of(poll, struct output, poll);

	read_output(output);
	if (output == &output->convert->out && output->convert->err.code == 0)
		note_progress(output->convert);
}

static void check_limits(struct convert *c)
{
	uint64_t now = uv_now(c->loop);
	struct err full = {0};
	struct stat st;

	if (c->state != CONVERT_RUNNING)
		return;
	if (fstat(c->target, &st) == 0 && st.st_blocks != c->target_blocks) {
		c->target_blocks = st.st_blocks;
		c->moved = now;
	}
	/* a small source may say that it has much in it */
	if (c->limits.reserve > 0 && storage_check_room(c->target, c->limits.reserve, &full) < 0)
		stop(c, full.code, full.msg);
	else if (now - c->started > c->limits.deadline_ms)
		stop(c, ERR_TIMEOUT, "the conversion took longer than its deadline and was ended");
	else if (now - c->moved > c->limits.still_ms)
		stop(c, ERR_TIMEOUT, "the conversion stood still for too long and was ended");
}

static void process_ended(void *data)
{
	struct convert *c = data;

	read_output(&c->out);
	read_output(&c->errs);
	if (c->err.code == 0)
		note_progress(c);
	c->state = CONVERT_REAPING;
	c->ops->reap(c->data);
}

void convert_spawned(struct convert *c, int pidfd, const struct err *err)
{
	if (err) {
		if (c->err.code == 0)
			c->err = *err;
		finish(c);
		return;
	}
	c->state = CONVERT_RUNNING;
	c->started = c->moved = uv_now(c->loop);
	struct err watch_err = {0};
	if (proc_watch(c->loop, pidfd, process_ended, c, &c->watch, &watch_err) < 0) {
		/* it cannot be followed: end it, and let nobody use what it wrote */
		c->ops->kill(c->data);
		if (c->err.code == 0)
			c->err = watch_err;
		finish(c);
		return;
	}
	if (c->err.code != 0) /* cancelled meanwhile */
		c->ops->kill(c->data);
}

/* the last line that the tool wrote, for a person */
static const char *last_words(struct output *output)
{
	char *text = output->tail;

	for (char *at = text; *at; at++)
		if ((unsigned char)*at < 0x20 && *at != '\n')
			*at = '?';
	while (output->len > 0 && isspace((unsigned char)text[output->len - 1]))
		text[--output->len] = '\0';
	char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	size_t len = strlen(line);
	if (len > WORDS_MAX)
		line += len - WORDS_MAX;
	return strncmp(line, "qemu-img: ", 10) == 0 ? line + 10 : line;
}

void convert_reaped(struct convert *c, int wait_status)
{
	if (c->err.code == 0 && wait_status != 0) {
		const char *words = last_words(&c->errs);
		if (strstr(words, "No space left on device"))
			err_set(&c->err, ERR_LIMIT, "the store is full: %s", words);
		else if (WIFSIGNALED(wait_status) && wait_status != -1)
			err_set(&c->err, ERR_IO, "the conversion was ended by signal %d",
				WTERMSIG(wait_status));
		else if (words[0])
			err_set(&c->err, ERR_IO, "the image could not be converted: %s", words);
		else
			err_set(&c->err, ERR_IO, "the conversion failed without a word");
	}
	finish(c);
}

static void spawn_tool(struct convert *c)
{
	int fds[CONVERT_FDS] = {
		[CONVERT_FD_STDOUT] = c->out.write_fd,
		[CONVERT_FD_STDERR] = c->errs.write_fd,
	};

	c->spawn_asked = true;
	c->ops->spawn(c->data, fds);
	/* the tool has its own now; ours would keep the pipes from ever ending */
	close(TAKE_FD(c->out.write_fd));
	close(TAKE_FD(c->errs.write_fd));
}

static void tick(uv_timer_t *timer)
{
	struct convert *c = timer->data;

	if (c->spawn_asked)
		check_limits(c);
	else if (c->err.code != 0)
		finish(c);
	else
		spawn_tool(c);
}

static int output_open(struct output *output, struct convert *c, struct err *err)
{
	int fds[2];

	output->convert = c;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot make a pipe");
	output->fd = fds[0];
	output->write_fd = fds[1];
	return 0;
}

static void output_watch(struct output *output)
{
	/* cannot fail for a pipe: it can be polled, and it is only watched here */
	if (uv_poll_init(output->convert->loop, &output->poll, output->fd) != 0)
		abort();
	output->poll.data = output->convert;
	uv_poll_start(&output->poll, UV_READABLE, output_ready);
}

int convert_start(uv_loop_t *loop, int target, const struct convert_ops *ops,
		  struct convert_limits limits, void *data, struct convert **ret, struct err *err)
{
	struct convert *c = mem_new(struct convert);

	c->loop = loop;
	c->ops = ops;
	c->data = data;
	c->target = target;
	c->limits.deadline_ms = limits.deadline_ms ? limits.deadline_ms : DEADLINE_MS;
	c->limits.still_ms = limits.still_ms ? limits.still_ms : STILL_MS;
	if (output_open(&c->out, c, err) < 0) {
		free(c);
		return -1;
	}
	if (output_open(&c->errs, c, err) < 0) {
		close(c->out.fd);
		close(c->out.write_fd);
		free(c);
		return -1;
	}
	output_watch(&c->out);
	output_watch(&c->errs);
	uv_timer_init(loop, &c->timer);
	c->timer.data = c;
	c->limits.reserve = limits.reserve;
	uint64_t every = c->limits.still_ms / 4;
	uv_timer_start(&c->timer, tick, 0, every < 10 ? 10 : every > LOOK_MS ? LOOK_MS : every);
	*ret = c;
	return 0;
}
