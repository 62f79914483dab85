/* Each test in a network namespace of its own; what it makes goes with it. */
#pragma once

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "base/mem.h"
#include "netcfg/netcfg.h"

#define NETNS_SKIP       77
#define NETNS_OUTPUT_MAX (1 << 20)

static inline int netns_setup(void **state)
{
	struct err err;
	struct netcfg *netcfg;
	if (unshare(CLONE_NEWNET) < 0 || netcfg_open(&netcfg, &err) < 0)
		return -1;
	*state = netcfg;
	return 0;
}

static inline int netns_teardown(void **state)
{
	netcfg_close(*state);
	return 0;
}

#define netns_test(f) cmocka_unit_test_setup_teardown(f, netns_setup, netns_teardown)

/* Leaves the test program where namespaces cannot be had. */
static inline void netns_require(void)
{
	if (unshare(CLONE_NEWNET) == 0)
		return;
	printf("skipped: no network namespace of our own (not root)\n");
	exit(NETNS_SKIP);
}

/* A command's output; the test fails where it fails. Owned by the caller. */
static inline char *netns_output(const char *command)
{
	char *text = mem_calloc(1, NETNS_OUTPUT_MAX);
	FILE *in = popen(command, "re");
	assert_non_null(in);
	size_t n = fread(text, 1, NETNS_OUTPUT_MAX - 1, in);
	text[n] = '\0';
	int rc = pclose(in);
	if (rc != 0)
		fail_msg("%s: status %d", command, rc);
	return text;
}

static inline void netns_run(const char *command)
{
	free(netns_output(command));
}

static inline bool netns_shows(const char *command, const char *text)
{
	_cleanup_free_ char *out = netns_output(command);
	return strstr(out, text) != NULL;
}

static inline struct in_addr netns_ip(const char *text)
{
	struct in_addr ret;
	assert_int_equal(inet_pton(AF_INET, text, &ret), 1);
	return ret;
}

static inline struct netcfg_addr netns_addr(const char *text)
{
	struct netcfg_addr ret;
	assert_int_equal(netcfg_addr_parse(text, &ret, NULL), 0);
	return ret;
}

#define assert_ok(call)                                                                            \
	do {                                                                                       \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, err.msg);                                        \
	} while (0)

#define assert_err(call, want)                                                                     \
	do {                                                                                       \
		err.code = 0;                                                                      \
		assert_int_equal((call), -1);                                                      \
		if (err.code != (want))                                                            \
			fail_msg("%s: %s: %s", #call, err_code_name(err.code), err.msg);           \
	} while (0)
