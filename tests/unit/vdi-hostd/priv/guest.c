#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static int open_at(const struct guest *guest, const char *file, int flags)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", guest->dir, file);
	int fd = open(path, flags | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void make_disks(const struct guest *guest)
{
	char command[512];
	snprintf(command, sizeof(command),
		 "cd %s && qemu-img create -q -f qcow2 base.qcow2 8M && "
		 "qemu-img create -q -f qcow2 -F qcow2 -b /does/not/matter -u top.qcow2 16M",
		 guest->dir);
	assert_int_equal(system(command), 0);
}

static void fill_spec(struct qemu_spec *spec)
{
	*spec = (struct qemu_spec){
		.slot = 7,
		.uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		.name = "test-desktop",
		.memory_mib = 64,
		.vcpus = 2,
		.accel = QEMU_ACCEL_TCG,
		.display = QEMU_DISPLAY_QXL,
		.usb_redir = 4,
		.audio = 1,
		.clipboard = 1,
		.file_transfer = 0,
		.cdrom_fd = QEMU_NO_MEDIUM,
		.n_disks = 1,
		.n_nics = 1,
		.qmp_fd = GUEST_QMP,
		.agent_fd = GUEST_AGENT,
		.log_fd = GUEST_LOG,
		.console_fd = GUEST_CONSOLE,
		.disks = {{.chain_len = 2,
			   .node = {"top", "base"},
			   .format = {QEMU_FILE_QCOW2, QEMU_FILE_QCOW2},
			   .fd = {GUEST_TOP, GUEST_BASE},
			   .boot_index = 1}},
		.nics = {{.mac = {0x52, 0x54, 0, 1, 2, 3}, .link_up = 1}},
	};
}

void guest_setup(struct guest *guest)
{
	char agent[96];
	*guest = (struct guest){.dir = "/tmp/vdi-priv-XXXXXX"};
	assert_non_null(mkdtemp(guest->dir));
	snprintf(guest->qmp_path, sizeof(guest->qmp_path), "%s/qmp", guest->dir);
	snprintf(guest->log_path, sizeof(guest->log_path), "%s/log", guest->dir);
	snprintf(guest->console_path, sizeof(guest->console_path), "%s/console", guest->dir);
	snprintf(agent, sizeof(agent), "%s/agent", guest->dir);
	make_disks(guest);
	guest->fds[GUEST_QMP] = listen_at(guest->qmp_path);
	guest->fds[GUEST_AGENT] = listen_at(agent);
	guest->fds[GUEST_LOG] = open_at(guest, "log", O_CREAT | O_WRONLY | O_APPEND);
	guest->fds[GUEST_CONSOLE] = open_at(guest, "console", O_CREAT | O_WRONLY | O_APPEND);
	guest->fds[GUEST_TOP] = open_at(guest, "top.qcow2", O_RDWR);
	guest->fds[GUEST_BASE] = open_at(guest, "base.qcow2", O_RDONLY);
	guest->req = (struct priv_request){.verb = PRIV_QEMU_SPAWN, .n_fds = GUEST_FDS};
	fill_spec(&guest->req.u.qemu);
}

void guest_teardown(struct guest *guest)
{
	char command[128];
	for (size_t i = 0; i < GUEST_FDS; i++)
		close(guest->fds[i]);
	snprintf(command, sizeof(command), "rm -rf %s", guest->dir);
	assert_int_equal(system(command), 0);
}

static char *read_line(int fd)
{
	size_t n = 0, room = 1 << 16;
	char *line = malloc(room);
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&p, 1, 60000), 1);
		assert_true(n + 1 < room);
		if (read(fd, line + n, 1) != 1)
			fail_msg("QMP ended");
		if (line[n++] == '\n')
			break;
	}
	line[n] = '\0';
	return line;
}

char *guest_qmp(int fd, const char *command)
{
	assert_int_equal(write(fd, command, strlen(command)), strlen(command));
	for (;;) {
		char *line = read_line(fd);
		if (strncmp(line, "{\"return\"", 9) == 0 || strncmp(line, "{\"error\"", 8) == 0)
			return line;
		free(line);
	}
}

int guest_qmp_connect(const struct guest *guest)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", guest->qmp_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	char *greeting = read_line(fd);
	assert_non_null(strstr(greeting, "\"QMP\""));
	free(greeting);
	free(guest_qmp(fd, "{\"execute\":\"qmp_capabilities\"}\n"));
	return fd;
}

const char *guest_status(int pid, const char *key)
{
	static char value[256];
	char path[64], line[512];
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	value[0] = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		size_t n = strlen(key);
		if (strncmp(line, key, n) != 0 || line[n] != ':')
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(value, sizeof(value), "%s", line + n + 1 + strspn(line + n + 1, " \t"));
	}
	if (f)
		fclose(f);
	return value;
}

void guest_await_end(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 60000), 1);
}
