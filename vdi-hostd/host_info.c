#include "vdi-hostd/host_info.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "vdi-hostd/accel.h"

#define VERSION_MS 5000

/* The probe costs up to seconds where KVM hangs: its verdict holds until the next boot. */
int host_info_choose_accel(struct host_info *info, struct db *db, const struct config *config,
			   struct err *err)
{
	char boot_id[STR_UUID_LEN + 1], kept[512], verdict[512];
	if (proc_boot_id(boot_id, err) < 0)
		return -1;
	snprintf(verdict, sizeof(verdict), "%s %d %s ", boot_id, (int)config->accel,
		 config->qemu_binary);
	size_t len = strlen(verdict);
	if (db_meta_get(db, "accel", kept, sizeof(kept), NULL) == 0 &&
	    strncmp(kept, verdict, len) == 0 && (kept[len] == '1' || kept[len] == '2')) {
		info->accel = kept[len] == '1' ? QEMU_ACCEL_TCG : QEMU_ACCEL_KVM;
		snprintf(info->accel_why, sizeof(info->accel_why), "%.250s", kept + len + 2);
		return 0;
	}
	if (accel_choose(config, &info->accel, info->accel_why, sizeof(info->accel_why), err) < 0)
		return -1;
	snprintf(verdict + len, sizeof(verdict) - len, "%d %s", (int)info->accel, info->accel_why);
	/* a verdict that cannot be kept is found anew: a full disk is no reason not to start */
	(void)!db_meta_set(db, "accel", verdict, NULL);
	return 0;
}

static pid_t spawn_version(const char *binary, int output)
{
	pid_t pid;
	char path[128], option[] = "--version";
	char *const argv[] = {path, option, NULL}, *const environment[] = {NULL};
	posix_spawn_file_actions_t actions;
	snprintf(path, sizeof(path), "%s", binary);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	int failed = posix_spawn(&pid, binary, &actions, NULL, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	return failed ? -1 : pid;
}

void host_info_find_qemu_version(struct host_info *info, const char *binary)
{
	int ends[2];
	char text[256] = "";
	info->qemu_version[0] = '\0';
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	pid_t pid = spawn_version(binary, ends[1]);
	close(ends[1]);
	/* one that hangs must not keep the desktops that run without their daemon */
	struct pollfd output = {.fd = ends[0], .events = POLLIN};
	ssize_t n = 0;
	if (pid > 0 && poll(&output, 1, VERSION_MS) > 0)
		n = read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "QEMU emulator version %63s", info->qemu_version) != 1)
		info->qemu_version[0] = '\0';
}
