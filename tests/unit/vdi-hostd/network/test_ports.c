/* Who listens on the host, with real sockets. */
#include "vdi-hostd/network/ports.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int bound(int family, int type, uint32_t address, uint16_t *ret_port)
{
	struct sockaddr_storage at = {.ss_family = (sa_family_t)family};
	socklen_t len =
		family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	if (family == AF_INET)
		((struct sockaddr_in *)(void *)&at)->sin_addr.s_addr = htonl(address);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	/* the port stands at one place in both */
	*ret_port = ntohs(((struct sockaddr_in *)(void *)&at)->sin_port);
	return fd;
}

static void test_listeners(void **state)
{
	struct err err;
	uint16_t port;
	int fd = bound(AF_INET, SOCK_STREAM, INADDR_ANY, &port);
	/* bound is not listening yet */
	assert_int_equal(ports_check_free(true, 0, port, 1, &err), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(ports_check_free(true, 0, port, 1, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_int_equal(ports_check_free(true, 0x0a000001, port, 1, &err), -1);
	assert_int_equal(ports_check_free(true, 0, port - 1, 2, &err), -1);
	assert_int_equal(ports_check_free(true, 0, port - 1, 1, &err), 0);
	assert_int_equal(ports_check_free(false, 0, port, 1, &err), 0);
	close(fd);
	assert_int_equal(ports_check_free(true, 0, port, 1, &err), 0);

	fd = bound(AF_INET6, SOCK_STREAM, 0, &port);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(ports_check_free(true, 0, port, 1, &err), -1);
	close(fd);

	fd = bound(AF_INET, SOCK_DGRAM, INADDR_ANY, &port);
	assert_int_equal(ports_check_free(false, 0, port, 1, &err), -1);
	assert_int_equal(ports_check_free(true, 0, port, 1, &err), 0);
	close(fd);
}

static void test_loopback_is_nobodys(void **state)
{
	struct err err;
	uint16_t port;
	int fd = bound(AF_INET, SOCK_STREAM, INADDR_LOOPBACK, &port);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(ports_check_free(true, 0, port, 1, &err), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_loopback_is_nobodys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
