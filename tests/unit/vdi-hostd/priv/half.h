/* The privileged half as the tests have it: in a process of its own, at the end of a wire. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vdi-hostd/priv/priv.h"

#define HALF_DAEMON_UID 300000
#define HALF_TOOL_UID   300001

/** struct half - its network is its own, too, where that can be */
struct half {
	pid_t pid;
	int fd;
	char runtime_dir[64];
	bool own_net;
};

void half_open(struct half *half);

/** half_assert_orderly() - the wire ends, and so does it */
void half_assert_orderly(struct half *half);

/** half_assert_aborted() - it ended by itself, without an answer */
void half_assert_aborted(struct half *half);

/** half_ask() - a request that is answered; @ret_fd: the first descriptor of the answer, or -1 */
struct priv_reply half_ask(struct half *half, const struct priv_request *req, const int *fds,
			   size_t n_fds, int *ret_fd);

/** half_run() - a command in its network; as system(3) */
int half_run(const struct half *half, const char *command);
