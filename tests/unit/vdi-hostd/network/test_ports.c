/* Ports of the host: how they are written, and who listens on them, with real sockets. */
#include "vdi-hostd/network/ports.h"

#include <arpa/inet.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vdi-hostd/network/network.h"

static void test_written(void **state)
{
	static const struct {
		const char *text;
		int64_t first, last;
	} good[] = {{"1", 1, 1},
		    {"65535", 65535, 65535},
		    {"8000-8010", 8000, 8010},
		    {"1-65535", 1, 65535}};
	static const char *const bad[] = {"",
					  "0",
					  "65536",
					  "-1",
					  "1-",
					  "-",
					  "1-2-3",
					  "2-1",
					  "x",
					  "1x",
					  "1-x",
					  "1 - 2",
					  " 1",
					  "0-5",
					  "+1",
					  "1.5",
					  "0x10",
					  "1-65536",
					  "99999999999999999999"};
	int64_t first, last;
	struct err err;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(networks_parse_ports(good[i].text, &first, &last, &err), 0);
		assert_int_equal(first, good[i].first);
		assert_int_equal(last, good[i].last);
		json_t *json = networks_ports_to_json(first, last);
		assert_string_equal(json_string_value(json), good[i].text);
		json_decref(json);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		first = last = 77;
		if (networks_parse_ports(bad[i], &first, &last, &err) == 0)
			fail_msg("'%s' is taken for ports", bad[i]);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.field, "ports");
		assert_int_equal(first, 77);
		assert_int_equal(last, 77);
	}
	json_t *none = networks_ports_to_json(0, 0);
	assert_true(json_is_null(none));
	json_decref(none);
}

/* A socket on @address, on a port that was free; one of TCP listens. */
static int bound(int type, const char *address, bool v6only, uint16_t *ret_port)
{
	const int family = strchr(address, ':') ? AF_INET6 : AF_INET, only = v6only;
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr *at = family == AF_INET ? (void *)&v4 : (void *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(inet_pton(family, address,
				   family == AF_INET ? (void *)&v4.sin_addr : &v6.sin6_addr),
			 1);
	if (family == AF_INET6)
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)), 0);
	assert_int_equal(bind(fd, at, len), 0);
	assert_int_equal(getsockname(fd, at, &len), 0);
	*ret_port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

enum { V4 = 1, V6 = 2, BOTH = V4 | V6 };

static bool is_free(bool tcp, int families, const char *host, unsigned int first, unsigned int last)
{
	struct err err;
	struct ports ports = {.tcp = tcp,
			      .ipv4 = families & V4,
			      .ipv6 = families & V6,
			      .first = (uint16_t)first,
			      .last = (uint16_t)last};
	if (host)
		assert_int_equal(netcfg_addr_parse(host, &ports.host, &err), 0);
	if (ports_check_free(&ports, &err) == 0)
		return true;
	assert_int_equal(err.code, ERR_CONFLICT);
	return false;
}

static void test_ranges(void **state)
{
	uint16_t port;
	int fd = bound(SOCK_STREAM, "0.0.0.0", false, &port);
	assert_false(is_free(true, V4, NULL, port, port));
	assert_false(is_free(true, V4, NULL, port - 1, port));
	assert_false(is_free(true, V4, NULL, port, port + 1));
	assert_true(is_free(true, V4, NULL, port - 1, port - 1));
	assert_true(is_free(true, V4, NULL, port + 1, port + 1));
	assert_true(is_free(false, V4, NULL, port, port));
	close(fd);
	assert_true(is_free(true, V4, NULL, port, port));
}

/* Bound is not listening yet, and connected is no more. */
static void test_states(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_ANY)}};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	const unsigned int port = ntohs(at.sin_port);
	assert_true(is_free(true, BOTH, NULL, port, port));
	assert_int_equal(listen(fd, 1), 0);
	assert_false(is_free(true, BOTH, NULL, port, port));
	close(fd);
}

static void test_who_takes_what(void **state)
{
	static const struct {
		const char *listener;
		bool v6only;
		int taken;
	} rows[] = {
		{"0.0.0.0", false, V4},
		/* whether it takes IPv4 as well cannot be seen */
		{"::", false, BOTH},
		{"::", true, BOTH},
		{"::ffff:0.0.0.0", false, V4},
		/* of nobody's but the host's own */
		{"127.0.0.1", false, 0},
		{"::1", true, 0},
		{"::ffff:127.0.0.1", false, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int tcp = 0; tcp < 2; tcp++) {
			uint16_t port;
			int fd = bound(tcp ? SOCK_STREAM : SOCK_DGRAM, rows[i].listener,
				       rows[i].v6only, &port);
			for (int families = V4; families <= BOTH; families++)
				assert_int_equal(is_free(tcp, families, NULL, port, port),
						 (families & rows[i].taken) == 0);
			assert_int_equal(is_free(tcp, V4, "10.0.0.1", port, port),
					 (V4 & rows[i].taken) == 0);
			assert_int_equal(is_free(tcp, V6, "fd00::1", port, port),
					 (V6 & rows[i].taken) == 0);
			assert_true(is_free(!tcp, BOTH, NULL, port, port));
			close(fd);
		}
}

static void test_single_addresses(void **state)
{
	uint16_t port;
	if (unshare(CLONE_NEWNET) < 0)
		skip();
	assert_int_equal(system("ip link set lo up && ip addr add 10.0.0.1/32 dev lo &&"
				" ip addr add fd00::1/128 dev lo nodad"),
			 0);
	static const char *const v4[] = {"10.0.0.1", "::ffff:10.0.0.1"};
	for (size_t i = 0; i < ARRAY_LEN(v4); i++) {
		int fd = bound(SOCK_STREAM, v4[i], false, &port);
		assert_false(is_free(true, V4, "10.0.0.1", port, port));
		assert_true(is_free(true, V4, "10.0.0.2", port, port));
		assert_false(is_free(true, BOTH, NULL, port, port));
		assert_true(is_free(true, V6, NULL, port, port));
		assert_true(is_free(true, V6, "fd00::1", port, port));
		close(fd);
	}
	int fd = bound(SOCK_DGRAM, "fd00::1", false, &port);
	assert_false(is_free(false, V6, "fd00::1", port, port));
	assert_true(is_free(false, V6, "fd00::2", port, port));
	assert_false(is_free(false, BOTH, NULL, port, port));
	assert_true(is_free(false, V4, NULL, port, port));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_who_takes_what),
		/* last: it leaves the host's namespace */
		cmocka_unit_test(test_single_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
