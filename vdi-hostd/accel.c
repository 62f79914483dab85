#include "vdi-hostd/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/mem.h"

#define PROBE_MS     3000
#define PROBE_STATUS (0x31 * 2 + 1)
#define ROM_SIZE     (64 << 10)

extern const unsigned char accel_probe_code[], accel_probe_code_end[];

/* Firmware that is nothing but the probe: its code first, the jump to it at the reset vector. */
static int make_rom(struct err *err)
{
	static const unsigned char jump[] = {0xea, 0x00, 0x00, 0x00, 0xf0}; /* ljmp 0xf000:0 */
	_cleanup_close_ int fd = memfd_create("accel-probe", 0);
	size_t len = (size_t)(accel_probe_code_end - accel_probe_code);
	if (fd < 0 || ftruncate(fd, ROM_SIZE) < 0 ||
	    pwrite(fd, accel_probe_code, len, 0) != (ssize_t)len ||
	    pwrite(fd, jump, sizeof(jump), ROM_SIZE - 16) != (ssize_t)sizeof(jump))
		return err_set_sys(err, ERR_IO, errno, "cannot make the probe guest");
	return TAKE_FD(fd);
}

static int spawn_probe(const char *qemu, int rom, pid_t *ret, struct err *err)
{
	char bios[32], *const environment[] = {NULL};
	snprintf(bios, sizeof(bios), "/proc/self/fd/%d", rom);
	const char *const args[] = {qemu,
				    "-nodefaults",
				    "-no-user-config",
				    "-machine",
				    "q35,accel=kvm",
				    "-m",
				    "16",
				    "-display",
				    "none",
				    "-bios",
				    bios,
				    "-device",
				    "isa-debug-exit,iobase=0xf4",
				    "-no-reboot",
				    NULL};
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	char *argv[ARRAY_LEN(args)];
	memcpy(argv, args, sizeof(argv));
	int failed = posix_spawn(ret, qemu, &actions, NULL, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	if (failed)
		return err_set_sys(err, ERR_NOT_FOUND, failed,
				   "cannot run QEMU at %s; install qemu-system-x86, or set "
				   "qemu_binary in the configuration",
				   qemu);
	return 0;
}

/* Why KVM is of no use here, or "" when the probe guest ran. */
static int probe(const char *qemu, char *ret_why, size_t size, struct err *err)
{
	pid_t pid;
	ret_why[0] = '\0';
	_cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		snprintf(ret_why, size, "/dev/kvm cannot be opened: %s", strerror(errno));
		return 0;
	}
	_cleanup_close_ int rom = make_rom(err);
	if (rom < 0 || spawn_probe(qemu, rom, &pid, err) < 0)
		return -1;
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	bool in_time = pidfd >= 0 && poll(&end, 1, PROBE_MS) == 1;
	if (!in_time)
		kill(pid, SIGKILL);
	int status = 0;
	waitpid(pid, &status, 0);
	if (!in_time)
		snprintf(ret_why, size, "a probe guest under KVM did not come to its end in %d s",
			 PROBE_MS / 1000);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != PROBE_STATUS)
		snprintf(ret_why, size, "a probe guest under KVM failed (status %d)",
			 WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	return 0;
}

int accel_choose(const struct config *config, enum qemu_accel *ret, char *ret_why, size_t why_size,
		 struct err *err)
{
	char why_not[160];
	if (config->accel == CONFIG_ACCEL_TCG) {
		*ret = QEMU_ACCEL_TCG;
		snprintf(ret_why, why_size, "the configuration says tcg");
		return 0;
	}
	if (probe(config->qemu_binary, why_not, sizeof(why_not), err) < 0)
		return -1;
	if (why_not[0] && config->accel == CONFIG_ACCEL_KVM)
		return err_set(err, ERR_UNSUPPORTED,
			       "the configuration says accel = kvm, and %s; set accel = auto, or "
			       "mend KVM on this host",
			       why_not);
	*ret = why_not[0] ? QEMU_ACCEL_TCG : QEMU_ACCEL_KVM;
	snprintf(ret_why, why_size, "%s", why_not[0] ? why_not : "a probe guest ran under KVM");
	return 0;
}
