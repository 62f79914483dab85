#include "vdi-hostd/priv/wire.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
};

int wire_send(int fd, const void *message, size_t size, const int *fds, size_t n_fds)
{
	union control control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)message, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds > WIRE_FDS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (n_fds > 0) {
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)size ? 0 : -1;
}

static size_t take_fds(struct msghdr *msg, int *ret_fds)
{
	size_t n = 0;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		size_t more = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		/* never more than the control buffer holds */
		memcpy(ret_fds + n, CMSG_DATA(cmsg), more * sizeof(int));
		n += more;
	}
	return n;
}

int wire_receive(int fd, void *ret_message, size_t size, int *ret_fds, size_t *ret_n_fds)
{
	union control control;
	struct iovec iov = {.iov_base = ret_message, .iov_len = size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	ssize_t n;

	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	size_t n_fds = take_fds(&msg, ret_fds);
	int fault = 0;
	if (msg.msg_flags & MSG_CTRUNC)
		fault = EPROTO;
	else if ((msg.msg_flags & MSG_TRUNC) || (n > 0 && n != (ssize_t)size))
		fault = EMSGSIZE;
	if (n > 0 && !fault) {
		*ret_n_fds = n_fds;
		return 1;
	}
	mem_close_all(ret_fds, n_fds);
	errno = fault;
	return fault ? -1 : 0;
}
