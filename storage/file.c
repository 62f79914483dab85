#include "storage/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

#define RESERVE_MAX (UINT64_C(1) << 30)

bool storage_name_ok(const char *name)
{
	static const char first[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	size_t len = strnlen(name, STORAGE_FILE_NAME_MAX + 1);

	if (len == 0 || len > STORAGE_FILE_NAME_MAX || !strchr(first, name[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (name[i] != '.' && !strchr(first, name[i]))
			return false;
	return true;
}

/* the kernel may have to ask a userspace file system for more than the type; do not let it */
static int read_mode(int fd, mode_t *ret)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) < 0)
		return -1;
	*ret = stx.stx_mode;
	return 0;
}

static int check_mode(mode_t mode, struct err *err)
{
	const char *what = "no regular file";

	if (S_ISREG(mode))
		return 0;
	if (S_ISLNK(mode))
		what = "a symbolic link; name the file that it points to";
	else if (S_ISDIR(mode))
		what = "a directory";
	else if (S_ISFIFO(mode))
		what = "a FIFO (named pipe)";
	else if (S_ISSOCK(mode))
		what = "a socket";
	else if (S_ISBLK(mode))
		what = "a block device; copy it into a file first";
	else if (S_ISCHR(mode))
		what = "a character device";
	return err_set(err, ERR_UNSUPPORTED, "an image must be a regular file, but this is %s",
		       what);
}

int storage_open(int dir_fd, const char *path, int flags, int *ret_fd, struct err *err)
{
	char link[32];
	mode_t mode;

	/* an O_PATH descriptor shows what is there without opening it, and pins it */
	_cleanup_close_ int pin = openat(dir_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (pin < 0 || read_mode(pin, &mode) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot open %.128s", path);
	if (check_mode(mode, err) < 0)
		return err_prefix(err, "%.64s", path);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", pin);
	int fd = open(link, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot open %.128s", path);
	/* it was for the open alone (a lease may hold that up); io_uring would take it to heart */
	if (fcntl(fd, F_SETFL, flags) < 0) {
		err_set_sys(err, ERR_IO, errno, "cannot open %.128s", path);
		close(fd);
		return -1;
	}
	*ret_fd = fd;
	return 0;
}

static int check_open(int fd, bool or_pipe, mode_t *ret, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || read_mode(fd, ret) < 0)
		return err_set_sys(err, ERR_INVALID, errno, "the descriptor cannot be used");
	if (!(or_pipe && S_ISFIFO(*ret)) && check_mode(*ret, err) < 0)
		return -1;
	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY)
		return err_set(err, ERR_DENIED, "the descriptor is not open for reading");
	return 0;
}

int storage_check_fd(int fd, struct err *err)
{
	mode_t mode;

	return check_open(fd, false, &mode, err);
}

int storage_check_input(int fd, bool *ret_is_pipe, struct err *err)
{
	mode_t mode;

	if (check_open(fd, true, &mode, err) < 0)
		return -1;
	*ret_is_pipe = S_ISFIFO(mode);
	return 0;
}

int storage_pread(int fd, void *buf, size_t size, uint64_t offset, struct err *err)
{
	char *at = buf;

	if (offset > INT64_MAX - size)
		return err_set(err, ERR_CORRUPT, "the image is corrupt: it points past any file");
	while (size > 0) {
		ssize_t n = pread(fd, at, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set_sys(err, ERR_IO, errno, "cannot read the image");
		if (n == 0)
			return err_set(err, ERR_CORRUPT,
				       "the image is truncated: it ends at byte %llu",
				       (unsigned long long)offset);
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int storage_pwrite(int fd, const void *buf, size_t size, uint64_t offset, struct err *err)
{
	const char *at = buf;

	while (size > 0) {
		ssize_t n = pwrite(fd, at, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set_sys(err, errno == ENOSPC ? ERR_LIMIT : ERR_IO, errno,
					   "cannot write to the store");
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int storage_file_size(int fd, uint64_t *ret, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot look at the file");
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int read_space(int fd, struct statvfs *ret, struct err *err)
{
	if (fstatvfs(fd, ret) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot tell the free space");
	return 0;
}

int storage_usual_reserve(int fd, uint64_t *ret, struct err *err)
{
	struct statvfs st;

	if (read_space(fd, &st, err) < 0)
		return -1;
	uint64_t part = (uint64_t)st.f_blocks * st.f_frsize / 64;
	*ret = part < RESERVE_MAX ? part : RESERVE_MAX;
	return 0;
}

int storage_check_room(int fd, uint64_t reserve, struct err *err)
{
	struct statvfs st;

	if (read_space(fd, &st, err) < 0)
		return -1;
	if ((uint64_t)st.f_bavail * st.f_frsize >= reserve)
		return 0;
	return err_set(err, ERR_LIMIT,
		       "the store is nearly full: less than %llu bytes are free; make room",
		       (unsigned long long)reserve);
}
