#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "vdi-hostd/desktop/private.h"

/*
 * <runtime>/desktops/<slot>/{qmp,agent}.sock  gone with the host's boot
 * <state>/desktops/<slot>/{qemu,console}.log  kept until the desktop is deleted
 */
static const struct {
	bool runtime;
	const char *name;
} files[] = {
	[DESKTOP_QMP_SOCKET] = {true, "qmp.sock"},
	[DESKTOP_AGENT_SOCKET] = {true, "agent.sock"},
	[DESKTOP_QEMU_LOG] = {false, "qemu.log"},
	[DESKTOP_CONSOLE_LOG] = {false, "console.log"},
};

static void folder(const struct desktop *desktop, bool runtime, char *ret, size_t size)
{
	const struct desktops_env *env = &desktop->all->env;
	snprintf(ret, size, "%s/desktops/%lld", runtime ? env->runtime_dir : env->state_dir,
		 (long long)desktop->row.slot);
}

int desktop_path(const struct desktop *desktop, enum desktop_file file, char *ret, size_t size,
		 struct err *err)
{
	char dir[256];
	folder(desktop, files[file].runtime, dir, sizeof(dir));
	if (str_path_join(ret, size, dir, files[file].name) < 0)
		return err_set(err, ERR_LIMIT,
			       "the path of %s in %s is too long for a socket; choose a shorter "
			       "runtime_dir",
			       files[file].name, dir);
	return 0;
}

int desktop_agent_path(const struct desktop *desktop, char *ret, size_t size, struct err *err)
{
	return desktop_path(desktop, DESKTOP_AGENT_SOCKET, ret, size, err);
}

int desktop_make_dirs(const struct desktop *desktop, struct err *err)
{
	for (int runtime = 0; runtime < 2; runtime++) {
		char dir[256], parent[256];
		folder(desktop, runtime, dir, sizeof(dir));
		snprintf(parent, sizeof(parent), "%s/desktops",
			 runtime ? desktop->all->env.runtime_dir : desktop->all->env.state_dir);
		if ((mkdir(parent, 0700) < 0 && errno != EEXIST) ||
		    (mkdir(dir, 0700) < 0 && errno != EEXIST))
			return err_set_sys(err, err_from_errno(errno), errno,
					   "cannot make the folder %s", dir);
	}
	return 0;
}

static void unlink_files(const struct desktop *desktop, bool runtime)
{
	char path[256];
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (files[i].runtime == runtime &&
		    desktop_path(desktop, (enum desktop_file)i, path, sizeof(path), NULL) == 0)
			unlink(path);
	folder(desktop, runtime, path, sizeof(path));
	rmdir(path);
}

void desktop_unlink_sockets(const struct desktop *desktop)
{
	unlink_files(desktop, true);
}

void desktop_unlink_logs(const struct desktop *desktop)
{
	unlink_files(desktop, false);
}

char *desktop_log_tail(const struct desktop *desktop, enum desktop_file file, size_t max,
		       size_t *ret_len)
{
	char path[256];
	char *text = mem_calloc(max + 1, 1);
	*ret_len = 0;
	if (desktop_path(desktop, file, path, sizeof(path), NULL) < 0)
		return text;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return text;
	off_t from = st.st_size > (off_t)max ? st.st_size - (off_t)max : 0;
	ssize_t n = pread(fd, text, max, from);
	*ret_len = n > 0 ? (size_t)n : 0;
	text[*ret_len] = '\0';
	return text;
}
