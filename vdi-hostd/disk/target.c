#include "vdi-hostd/disk/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/priv/landlock.h"

static int fail(struct err *err, const char *name)
{
	return err_set_sys(err, err_from_errno(errno), errno, "cannot write to %.100s", name);
}

/* the folder of a path, and its last part */
static int split(struct export_target *target, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');

	if (path[0] != '/')
		return err_set_field(err, "path", "the path must begin with a slash");
	if (str_copy(target->name, sizeof(target->name), slash + 1) < 0 || !target->name[0] ||
	    strcmp(target->name, ".") == 0 || strcmp(target->name, "..") == 0)
		return err_set_field(err, "path", "the path must name a file");
	_cleanup_free_ char *dir = mem_strndup(path, (size_t)(slash - path) + 1);
	target->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return target->dir_fd < 0 ? fail(err, dir) : 0;
}

/* a file that nobody sees, or where the file system has no such, one with another name */
static int make_file(struct export_target *target, struct err *err)
{
	target->fd = openat(target->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (target->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		char random[17];
		str_random_hex(random, 8);
		snprintf(target->part, sizeof(target->part), ".vdi-export-%s", random);
		target->fd = openat(target->dir_fd, target->part,
				    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	return target->fd < 0 ? fail(err, target->name) : 0;
}

int export_target_path(struct export_target *ret, const char *path, bool force, struct err *err)
{
	struct export_target target = EXPORT_TARGET_NONE;
	struct stat st;

	target.force = force;
	if (split(&target, path, err) < 0)
		return -1;
	bool there = fstatat(target.dir_fd, target.name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && (!force || !S_ISREG(st.st_mode))) {
		err_set(err, ERR_EXISTS, "there is %.100s already%s", path,
			S_ISREG(st.st_mode) ? "; name another, or say force" : "");
		export_target_close(&target);
		return -1;
	}
	if (make_file(&target, err) < 0) {
		export_target_close(&target);
		return -1;
	}
	*ret = target;
	return 0;
}

static int check_fd(int fd, struct err *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0)
		return err_set_sys(err, ERR_INVALID, errno, "the descriptor cannot be used");
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(err, ERR_UNSUPPORTED,
			       "an export goes to a file or a pipe, and this is neither");
	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_RDONLY)
		return err_set(err, ERR_DENIED, "the descriptor is not open for writing");
	if (S_ISREG(st.st_mode) && (flags & O_APPEND))
		return err_set(err, ERR_UNSUPPORTED,
			       "an export is written from the beginning of a file, and this one "
			       "is open to append to; name it by --path, or use > in place of >>");
	return 0;
}

int export_target_fd(struct export_target *ret, int fd, struct err *err)
{
	struct export_target target = EXPORT_TARGET_NONE;

	target.fd = fd;
	if (check_fd(fd, err) < 0) {
		export_target_close(&target);
		return -1;
	}
	*ret = target;
	return 0;
}

bool export_target_is_direct(const struct export_target *target, bool rootless)
{
	struct stat st;
	char link[32];

	if (fstat(target->fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (fcntl(target->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return false;
	/* as somebody else, it takes an override of the file's mode, which it has with Landlock */
	if (!rootless)
		return landlock_is_there();
	snprintf(link, sizeof(link), "/proc/self/fd/%d", target->fd);
	_cleanup_close_ int fd = open(link, O_RDWR | O_CLOEXEC);
	return fd >= 0;
}

static int link_as(struct export_target *target, const char *name)
{
	char link[32];

	if (target->part[0])
		return linkat(target->dir_fd, target->part, target->dir_fd, name, 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", target->fd);
	return linkat(AT_FDCWD, link, target->dir_fd, name, AT_SYMLINK_FOLLOW);
}

static int show(struct export_target *target)
{
	char random[17], other[64];

	if (!target->force)
		return link_as(target, target->name);
	/* a link replaces nothing, a rename does */
	str_random_hex(random, 8);
	snprintf(other, sizeof(other), ".vdi-export-%s", random);
	if (link_as(target, other) < 0)
		return -1;
	if (renameat(target->dir_fd, other, target->dir_fd, target->name) < 0) {
		int why = errno;
		unlinkat(target->dir_fd, other, 0);
		errno = why;
		return -1;
	}
	return 0;
}

int export_target_settle(struct export_target *target, struct err *err)
{
	if (target->dir_fd >= 0 && (show(target) < 0 || fsync(target->dir_fd) < 0))
		return fail(err, target->name);
	return 0;
}

void export_target_close(struct export_target *target)
{
	if (target->part[0])
		unlinkat(target->dir_fd, target->part, 0);
	target->part[0] = '\0';
	if (target->fd >= 0)
		close(TAKE_FD(target->fd));
	if (target->dir_fd >= 0)
		close(TAKE_FD(target->dir_fd));
}
