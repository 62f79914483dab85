/*
 * A conversion by qemu-img, watched: progress out of its output, a deadline, a limit on standing
 * still, cancel. Who starts and ends the process is the caller's to say; this side knows neither
 * uids, command lines nor where the image comes from. What it runs is `qemu-img convert -p ...`.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct convert;

enum { CONVERT_FD_STDOUT, CONVERT_FD_STDERR, CONVERT_FDS };

/**
 * struct convert_ops - the hands and ears
 * @spawn:    start the tool with these as its outputs (valid during the call only); answer by
 *            convert_spawned(), later
 * @kill:     end it at once (SIGKILL); it is known to be running. No answer.
 * @reap:     fetch the exit status of the process, which has ended; answer by convert_reaped(),
 * later
 * @progress: 0..10000, never going down
 * @done:     exactly once, when the tool has ended or never ran; the convert is gone after it
 */
struct convert_ops {
	void (*spawn)(void *data, const int fds[CONVERT_FDS]);
	void (*kill)(void *data);
	void (*reap)(void *data);
	void (*progress)(void *data, int percent_100);
	void (*done)(void *data, const struct err *err);
};

/** struct convert_limits - 0 stands for the default */
struct convert_limits {
	uint64_t deadline_ms; /* in all: 12 hours */
	uint64_t still_ms;    /* without progress or growth of the target: 10 minutes */
	uint64_t reserve;     /* bytes that stay free where the target lies: none */
};

/**
 * convert_start() - begin
 * @target: what is written; looked at for growth, borrowed until done()
 * No callback fires inside this call.
 */
int convert_start(uv_loop_t *loop, int target, const struct convert_ops *ops,
		  struct convert_limits limits, void *data, struct convert **ret,
		  struct err *err) warn_unused;

/** convert_spawned() - the answer to spawn(): a pidfd (borrowed), or why there is none */
void convert_spawned(struct convert *convert, int pidfd, const struct err *err);

/** convert_reaped() - the answer to reap(): as waitpid(2) gives it, -1 if it cannot be known */
void convert_reaped(struct convert *convert, int wait_status);

/** convert_cancel() - end the tool; done() follows with ERR_CANCELLED */
void convert_cancel(struct convert *convert);

/**
 * convert_parse_progress() - the newest "(12.34/100%)" in a text, as 1234; -1 if there is none
 */
int convert_parse_progress(const char *text);
