/* Hosts behind veths: a network namespace each, with sockets opened from the test itself. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/netcfg/netns.h"

#define GUEST_WAIT_MS     500 /* what is closed is silent, so this costs time */
#define GUEST_PATIENCE_MS 10000

struct guest {
	int ns;
	char name[16];
};

static inline int ns_here(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* Run a command inside. */
static inline void guest_run(const struct guest *guest, const char *command)
{
	_cleanup_close_ int here = ns_here();
	assert_int_equal(setns(guest->ns, CLONE_NEWNET), 0);
	const int rc = system(command);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	if (rc != 0)
		fail_msg("%s: in %s: status %d", command, guest->name, rc);
}

/* A host with no link but lo. */
static inline struct guest guest_new(const char *name)
{
	struct guest guest;
	snprintf(guest.name, sizeof(guest.name), "%s", name);
	_cleanup_close_ int here = ns_here();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	guest.ns = ns_here();
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	guest_run(&guest, "ip link set lo up");
	return guest;
}

/* A link between here (@outer) and eth0 in the guest, with these addresses ("" for none). */
static inline void guest_link(const struct guest *guest, const char *outer, const char *mac,
			      const char *address4, const char *address6)
{
	char command[512];
	snprintf(command, sizeof(command),
		 "ip link add %s type veth peer name inner0 address %s && "
		 "ip link set inner0 netns /proc/%d/fd/%d && ip link set %s up",
		 outer, mac, (int)getpid(), guest->ns, outer);
	netns_run(command);
	snprintf(command, sizeof(command),
		 "ip link set inner0 name eth0; f=/proc/sys/net/ipv6/conf/eth0/accept_dad; "
		 "[ ! -e $f ] || echo 0 > $f; ip link set eth0 up");
	guest_run(guest, command);
	if (*address4) {
		snprintf(command, sizeof(command), "ip addr add %s dev eth0", address4);
		guest_run(guest, command);
	}
	if (*address6) {
		snprintf(command, sizeof(command), "ip addr add %s dev eth0 nodad", address6);
		guest_run(guest, command);
	}
}

static inline void guest_done(struct guest *guest)
{
	close(guest->ns);
}

static inline socklen_t endpoint_of(const char *address, unsigned int port,
				    struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;
	memset(ret, 0, sizeof(*ret));
	if (strchr(address, ':')) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		assert_int_equal(inet_pton(AF_INET6, address, &v6->sin6_addr), 1);
		return sizeof(*v6);
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons((uint16_t)port);
	assert_int_equal(inet_pton(AF_INET, address, &v4->sin_addr), 1);
	return sizeof(*v4);
}

/* @guest: NULL: here */
static inline int guest_socket(const struct guest *guest, int family, int type)
{
	_cleanup_close_ int here = ns_here();
	if (guest)
		assert_int_equal(setns(guest->ns, CLONE_NEWNET), 0);
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	if (guest)
		assert_int_equal(setns(here, CLONE_NEWNET), 0);
	return fd;
}

/* A socket that listens (or, for UDP, waits) on this port of all addresses. */
static inline int guest_serves(const struct guest *guest, int type, unsigned int port)
{
	struct sockaddr_storage own;
	const socklen_t n = endpoint_of("::", port, &own);
	int fd = guest_socket(guest, AF_INET6, type);
	const int on = 1;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&own, n), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	return fd;
}

/* A connection that stands, or -1 when nobody answers in time. Owned by the caller. */
static inline int guest_connects_within(const struct guest *guest, const char *address,
					unsigned int port, int ms)
{
	struct sockaddr_storage there;
	const socklen_t n = endpoint_of(address, port, &there);
	int fd = guest_socket(guest, there.ss_family, SOCK_STREAM);
	int error = 0;
	socklen_t size = sizeof(error);
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	if (connect(fd, (struct sockaddr *)&there, n) == 0)
		return fd;
	if (errno == EINPROGRESS && poll(&ready, 1, ms) == 1 &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0)
		return fd;
	close(fd);
	return -1;
}

/* The same of one that is not refused. */
static inline int guest_connects(const struct guest *guest, const char *address, unsigned int port)
{
	return guest_connects_within(guest, address, port, GUEST_PATIENCE_MS);
}

static inline bool reaches_within(const struct guest *guest, const char *address, unsigned int port,
				  int ms)
{
	int fd = guest_connects_within(guest, address, port, ms);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Is it open? What is not is silent, and is waited for no longer than it has to be. */
static inline bool guest_reaches(const struct guest *guest, const char *address, unsigned int port)
{
	return reaches_within(guest, address, port, GUEST_WAIT_MS);
}

/* It is, with some patience: the kernel takes up to a second to see that a link has come up, and as
 * long to ask for a neighbour, or to send, once more. */
static inline bool guest_reaches_soon(const struct guest *guest, const char *address,
				      unsigned int port)
{
	for (int i = 0; i < 10; i++) {
		if (reaches_within(guest, address, port, 5 * GUEST_WAIT_MS))
			return true;
		poll(NULL, 0, GUEST_WAIT_MS);
	}
	return false;
}

/* Who is it, as the one that listens sees it? "" when there is nobody. */
static inline void guest_accepts(int listener, char ret[INET6_ADDRSTRLEN])
{
	struct sockaddr_in6 peer = {0};
	socklen_t size = sizeof(peer);
	struct pollfd ready = {.fd = listener, .events = POLLIN};
	ret[0] = '\0';
	if (poll(&ready, 1, GUEST_WAIT_MS) != 1)
		return;
	int fd = accept(listener, (struct sockaddr *)&peer, &size);
	if (fd < 0)
		return;
	if (IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr))
		inet_ntop(AF_INET, &peer.sin6_addr.s6_addr[12], ret, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &peer.sin6_addr, ret, INET6_ADDRSTRLEN);
	close(fd);
}

/* A datagram to @address arrives at @server, and its answer comes back. */
static inline bool guest_exchanges(const struct guest *guest, const char *address,
				   unsigned int port, int server)
{
	struct sockaddr_storage there, peer;
	const socklen_t n = endpoint_of(address, port, &there);
	_cleanup_close_ int fd = guest_socket(guest, there.ss_family, SOCK_DGRAM);
	socklen_t size = sizeof(peer);
	char word[8];
	struct pollfd ready = {.fd = server, .events = POLLIN};
	if (sendto(fd, "ask", 3, 0, (struct sockaddr *)&there, n) != 3 ||
	    poll(&ready, 1, GUEST_PATIENCE_MS) != 1 ||
	    recvfrom(server, word, sizeof(word), 0, (struct sockaddr *)&peer, &size) != 3 ||
	    sendto(server, "answer", 6, 0, (struct sockaddr *)&peer, size) != 6)
		return false;
	ready.fd = fd;
	return poll(&ready, 1, GUEST_PATIENCE_MS) == 1 && recv(fd, word, sizeof(word), 0) == 6;
}
