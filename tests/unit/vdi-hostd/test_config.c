#include "vdi-hostd/config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static struct config defaults(void)
{
	struct config config;
	struct err err;
	assert_int_equal(config_defaults(&config, false, &err), 0);
	return config;
}

static int parse(struct config *config, const char *text, struct err *err)
{
	return config_parse(config, "test.conf", text, strlen(text), err);
}

static void test_defaults(void **state)
{
	struct config config = defaults();
	assert_string_equal(config.state_dir, "/var/lib/vdi-hostd");
	assert_string_equal(config.socket, "/run/vdi-hostd/control.sock");
	assert_string_equal(config.spice_listen, "127.0.0.1");
	assert_int_equal(config.spice_port, 5900);
	assert_int_equal(config.accel, CONFIG_ACCEL_AUTO);
	assert_true(config.uid_base > 65535);
	assert_true(config.uid_base + 65535 <= INT32_MAX);
	/* the defaults pass their own checks */
	assert_int_equal(parse(&config, "", NULL), 0);
}

static void test_rootless(void **state)
{
	struct config config;
	struct err err;
	setenv("XDG_STATE_HOME", "/s", 1);
	setenv("XDG_RUNTIME_DIR", "/r", 1);
	assert_int_equal(config_defaults(&config, true, &err), 0);
	assert_string_equal(config.state_dir, "/s/vdi-hostd");
	assert_string_equal(config.runtime_dir, "/r/vdi-hostd");
	assert_string_equal(config.socket, "/r/vdi-hostd/control.sock");
	assert_int_equal(config.uid_base, geteuid());
	assert_int_equal(parse(&config, "", NULL), 0);

	setenv("XDG_STATE_HOME", "relative", 1);
	unsetenv("XDG_RUNTIME_DIR");
	setenv("HOME", "/h", 1);
	assert_int_equal(config_defaults(&config, true, &err), 0);
	assert_string_equal(config.state_dir, "/h/.local/state/vdi-hostd");
	assert_int_equal(strncmp(config.runtime_dir, "/run/user/", 10), 0);

	char longest[300];
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	setenv("XDG_RUNTIME_DIR", longest, 1);
	assert_int_equal(config_defaults(&config, true, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
}

static void test_all_keys(void **state)
{
	struct config config = defaults();
	struct err err = {0};
	const char *text = "\xef\xbb\xbf# a comment\n"
			   "[daemon]\n"
			   "state_dir = /a/state ; another\n"
			   "runtime_dir=/a/run\r\n"
			   "socket: /a/sock\n"
			   "user = alice\n"
			   "group = staff_1\n"
			   "debug = yes\n"
			   "\n"
			   "[qemu]\n"
			   "qemu_binary = /a/qemu\n"
			   "qemu_img_binary = /a/img\n"
			   "accel = tcg\n"
			   "uid_base = 300000\n"
			   "tool_uid = 299999\n"
			   "[desktops]\n"
			   "memory_reserve_mib = 0\n"
			   "start_timeout_s = 5\n"
			   "stop_timeout_s = 6\n"
			   "[store]\n"
			   "space_low_percent = 90\n"
			   "space_critical_percent = 89\n"
			   "space_critical_mib = 88\n"
			   "[network]\n"
			   "dnsmasq_binary = /a/dnsmasq\n"
			   "vhost = off\n"
			   "[spice]\n"
			   "spice_listen = ::1\n"
			   "spice_port = 65535\n"
			   "spice_public_host = host.example\n"
			   "ticket_ttl_s = 7";
	if (parse(&config, text, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(config.state_dir, "/a/state");
	assert_string_equal(config.runtime_dir, "/a/run");
	assert_string_equal(config.socket, "/a/sock");
	assert_string_equal(config.user, "alice");
	assert_string_equal(config.group, "staff_1");
	assert_true(config.debug);
	assert_string_equal(config.qemu_binary, "/a/qemu");
	assert_string_equal(config.qemu_img_binary, "/a/img");
	assert_int_equal(config.accel, CONFIG_ACCEL_TCG);
	assert_int_equal(config.uid_base, 300000);
	assert_int_equal(config.tool_uid, 299999);
	assert_int_equal(config.memory_reserve_mib, 0);
	assert_int_equal(config.start_timeout_s, 5);
	assert_int_equal(config.stop_timeout_s, 6);
	assert_int_equal(config.space_low_percent, 90);
	assert_int_equal(config.space_critical_percent, 89);
	assert_int_equal(config.space_critical_mib, 88);
	assert_string_equal(config.dnsmasq_binary, "/a/dnsmasq");
	assert_false(config.vhost);
	assert_string_equal(config.spice_listen, "::1");
	assert_int_equal(config.spice_port, 65535);
	assert_string_equal(config.spice_public_host, "host.example");
	assert_int_equal(config.ticket_ttl_s, 7);

	struct config again = defaults();
	assert_int_equal(
		parse(&again, "[daemon]\nstate_dir=/a/very/long/path/that/leaves/a/tail\n", NULL),
		0);
	assert_int_equal(parse(&again, text, NULL), 0);
	assert_memory_equal(&config, &again, sizeof(config));
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{"key = 1\n", "test.conf:1: 'key' stands before any [section]"},
		{"[daemon]\n[wrong]\nkey = 1\n", "test.conf:3: there is no section [wrong]"},
		{"[daemon]\n\n\nwrong = 1\n", "test.conf:4: there is no key 'wrong' in [daemon]"},
		{"[spice]\nuser = x\n", "test.conf:2: there is no key 'user' in [spice]"},
		{"[daemon]\nuser = x\nuser = y\n", "test.conf:3: user is set a second time"},
		{"[daemon]\nuser = x\n y\n", "test.conf:3: user is set a second time"},
		{"[daemon]\nnonsense\n", "test.conf:2: neither '[section]' nor 'key = value'"},
		{"[daemon\n", "test.conf:1: neither '[section]' nor 'key = value'"},
		{"[daemon]\nstate_dir = relative\n",
		 "test.conf:2: state_dir must be an absolute path"},
		{"[daemon]\nstate_dir =\n", "test.conf:2: state_dir must be an absolute path"},
		{"[daemon]\nstate_dir = /a\tb\n",
		 "test.conf:2: state_dir must be an absolute path"},
		{"[daemon]\nuser = -x\n", "test.conf:2: user must be the name of an account"},
		{"[daemon]\nuser = a b\n", "test.conf:2: user must be the name of an account"},
		{"[daemon]\ndebug = maybe\n", "test.conf:2: debug must be true or false"},
		{"[qemu]\naccel = xen\n", "test.conf:2: accel must be auto, kvm or tcg"},
		{"[spice]\nspice_port = 65536\n",
		 "test.conf:2: spice_port must be a number from 0 to 65535"},
		{"[spice]\nspice_port = -1\n",
		 "test.conf:2: spice_port must be a number from 0 to 65535"},
		{"[spice]\nspice_port = 59 00\n",
		 "test.conf:2: spice_port must be a number from 0 to 65535"},
		{"[spice]\nspice_listen = localhost\n",
		 "test.conf:2: spice_listen must be an IPv4 or IPv6 address"},
		{"[spice]\nspice_public_host = a/b\n",
		 "test.conf:2: spice_public_host must be a host name or an address"},
		{"[qemu]\nuid_base = 0\n",
		 "test.conf:2: uid_base must be a number from 1 to 2147418112"},
		{"[qemu]\nuid_base = 300000\ntool_uid = 300001\n",
		 "test.conf: tool_uid lies in the desktops' range, uid_base to uid_base + 65535"},
		{"[store]\nspace_low_percent = 4\n",
		 "test.conf: space_critical_percent is more than space_low_percent"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct config config = defaults(), before = config;
		struct err err = {0};
		assert_int_equal(parse(&config, rows[i].text, &err), -1);
		assert_string_equal(err.msg, rows[i].message);
		assert_memory_equal(&config, &before, sizeof(config));
	}
}

static void test_odd_bytes(void **state)
{
	static const char nul[] = "[daemon]\nuser = a\0b\n";
	struct config config = defaults();
	struct err err;
	char line[400];

	assert_int_equal(config_parse(&config, "x", nul, sizeof(nul) - 1, &err), -1);
	assert_string_equal(err.msg, "x:2: the line has a NUL byte in it");
	memset(line, '#', sizeof(line));
	assert_int_equal(config_parse(&config, "x", line, sizeof(line), &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	/* what fits the line may still not fit the field */
	snprintf(line, sizeof(line), "[daemon]\nuser = %0*d\n", 100, 0);
	assert_int_equal(parse(&config, line, &err), -1);
	assert_string_equal(err.msg, "test.conf:2: user is longer than 63 bytes");
}

static void test_load(void **state)
{
	char path[] = "/tmp/vdi-config-XXXXXX", message[256];
	struct config config = defaults();
	struct err err;
	int fd = mkstemp(path);

	assert_int_equal(write(fd, "[spice]\nspice_port = 5\n", 23), 23);
	assert_int_equal(config_load(&config, path, &err), 0);
	assert_int_equal(config.spice_port, 5);
	assert_int_equal(write(fd, "oops = 1\n", 9), 9);
	assert_int_equal(config_load(&config, path, &err), -1);
	snprintf(message, sizeof(message), "%s:3: there is no key 'oops' in [spice]", path);
	assert_string_equal(err.msg, message);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(config_load(&config, path, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	close(fd);
	unlink(path);
	assert_int_equal(config_load(&config, path, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(config_load(&config, "/tmp", &err), -1);
	assert_int_equal(err.code, ERR_IO);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(config_load(&config, path, &err), 0); /* empty, and no waiting */
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),  cmocka_unit_test(test_rootless),
		cmocka_unit_test(test_all_keys),  cmocka_unit_test(test_refused),
		cmocka_unit_test(test_odd_bytes), cmocka_unit_test(test_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
