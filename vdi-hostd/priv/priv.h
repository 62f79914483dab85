/*
 * The unprivileged side of the wire, and the fork that makes the two halves.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "vdi-hostd/priv/proto.h"

/**
 * struct priv_config - what the privileged half knows; copied into it before the fork, constant
 * after
 * @uid, @gid:   the unprivileged half's
 * @uid_base:    first of the range of QEMU's own uids; the gid is the same number
 * @tool_uid:    qemu-img's
 * @vhost:       may vhost-net be used?
 * @runtime_dir: where networks/<slot>/ (dnsmasq's files) stand
 */
struct priv_config {
	uid_t uid;
	gid_t gid;
	uid_t uid_base;
	uid_t tool_uid;
	bool vhost;
	char runtime_dir[128];
	char qemu_binary[128];
	char qemu_img_binary[128];
	char dnsmasq_binary[128];
};

struct priv;

/**
 * priv_fork() - split a process started as root in two; call before any thread or loop exists
 *
 * In the parent: becomes the privileged half and never returns; it ends when the other half does,
 * with the same exit status (128 + the signal that ended it). SIGTERM, SIGHUP and SIGINT that it
 * gets go on to the other half. In the child: drops to @config's uid and gid with no capabilities
 * and no group but the one that /dev/kvm belongs to, and returns the wire. Should either half be
 * killed, the other ends; the processes that were spawned go on.
 *
 * The pid that a supervisor watches is the parent's, while sd_notify(3) messages come from the
 * child (NotifyAccess=all).
 */
int priv_fork(const struct priv_config *config, int *ret_fd, struct err *err) warn_unused;

/**
 * priv_open() - the client's side of the wire in the loop
 * @fd: from priv_fork(), or -1 for rootless mode: then verbs that need no privilege (PROBE, QEMU_*,
 * IMG_*, REAP) are done in this process, the rest get ERR_UNSUPPORTED
 * @lost: the privileged half is gone; the daemon has to end
 */
int priv_open(uv_loop_t *loop, int fd, const struct priv_config *config, void (*lost)(void *data),
	      void *data, struct priv **ret, struct err *err) warn_unused;

/**
 * priv_reply_cb - @fds are the reply's, borrowed: dup(2) or set to -1 to keep one
 * @err: NULL on success
 */
typedef void (*priv_reply_cb)(void *data, const struct priv_reply *reply, int *fds,
			      const struct err *err);

/**
 * priv_call() - send one request
 * @req: copied
 * @fds: @n_fds descriptors, sent along; the caller keeps its own
 * @cb:  fires exactly once, never inside this call; may be NULL
 */
void priv_call(struct priv *priv, const struct priv_request *req, const int *fds, size_t n_fds,
	       priv_reply_cb cb, void *data);

/** priv_is_rootless() - is there no privileged half? */
bool priv_is_rootless(const struct priv *priv);

/** priv_close() - pending calls get ERR_CANCELLED inside this call; NULL is fine */
void priv_close(struct priv *priv);
