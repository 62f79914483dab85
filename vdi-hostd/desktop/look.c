/* What can be seen of a desktop from outside: screen, console, counters. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define SCREENSHOT_MAX         (64u << 20)
#define SCREENSHOT_DEADLINE_MS 10000
#define SCREEN_SIDE_MAX        32767

/*
 * QEMU writes the picture into a memory file that it was handed: it can open no file of its own,
 * and what it wrote is bounded and checked before it is passed on.
 */
struct screenshot {
	struct desktop *desktop;
	int fd;
	int64_t fdset;
	desktop_screenshot_cb cb;
	void *data;
};

static void screenshot_end(struct screenshot *shot, const unsigned char *png, size_t len, int width,
			   int height, const struct err *err)
{
	shot->cb(shot->data, png, len, width, height, err);
	close(shot->fd);
	free(shot);
}

static uint32_t big_endian(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

/* PNG: eight bytes of signature, then IHDR with width and height (RFC 2083, 11.2.2) */
static void on_dumped(void *data, json_t *result, const struct err *err)
{
	static const unsigned char signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	struct screenshot *shot = data;
	struct err failed;
	struct stat st;
	/* also after a failure: else each would leave QEMU a descriptor more */
	if (shot->desktop->qmp)
		qmp_execute(shot->desktop->qmp, "remove-fd",
			    json_pack("{s:I}", "fdset-id", (json_int_t)shot->fdset), 0, NULL, NULL);
	if (err) {
		screenshot_end(shot, NULL, 0, 0, 0, err);
		return;
	}
	if (fstat(shot->fd, &st) < 0 || st.st_size < 24 || st.st_size > (off_t)SCREENSHOT_MAX) {
		err_set(&failed, ERR_CORRUPT, "QEMU's picture of the screen has an odd size");
		screenshot_end(shot, NULL, 0, 0, 0, &failed);
		return;
	}
	size_t len = (size_t)st.st_size;
	_cleanup_free_ unsigned char *png = mem_calloc(len, 1);
	if (pread(shot->fd, png, len, 0) != (ssize_t)len ||
	    memcmp(png, signature, sizeof(signature)) != 0) {
		err_set(&failed, ERR_CORRUPT, "QEMU's picture of the screen is no PNG");
		screenshot_end(shot, NULL, 0, 0, 0, &failed);
		return;
	}
	uint32_t width = big_endian(png + 16), height = big_endian(png + 20);
	if (width < 1 || width > SCREEN_SIDE_MAX || height < 1 || height > SCREEN_SIDE_MAX) {
		err_set(&failed, ERR_CORRUPT, "QEMU's picture says that the screen is %u x %u",
			width, height);
		screenshot_end(shot, NULL, 0, 0, 0, &failed);
		return;
	}
	screenshot_end(shot, png, len, (int)width, (int)height, NULL);
}

static void on_fd_added(void *data, json_t *result, const struct err *err)
{
	struct screenshot *shot = data;
	if (err) {
		screenshot_end(shot, NULL, 0, 0, 0, err);
		return;
	}
	char path[64];
	shot->fdset = json_integer_value(json_object_get(result, "fdset-id"));
	snprintf(path, sizeof(path), "/dev/fdset/%lld", (long long)shot->fdset);
	qmp_execute(shot->desktop->qmp, "screendump",
		    json_pack("{s:s, s:s}", "filename", path, "format", "png"),
		    SCREENSHOT_DEADLINE_MS, on_dumped, shot);
}

void desktop_screenshot(struct desktop *desktop, desktop_screenshot_cb cb, void *data)
{
	struct err err;
	if (!desktop->qmp || desktop->park != PARK_NONE) {
		err_set(&err, ERR_CONFLICT, "desktop '%s' is %s: it has no screen",
			desktop->row.name, desktop_state_names[desktop->state]);
		cb(data, NULL, 0, 0, 0, &err);
		return;
	}
	_cleanup_close_ int fd = memfd_create("screenshot", MFD_CLOEXEC);
	/* QEMU opens a descriptor of a set only with the very access mode it was opened with */
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	_cleanup_close_ int write_fd = fd < 0 ? -1 : open(path, O_WRONLY | O_CLOEXEC);
	if (write_fd < 0) {
		err_set_sys(&err, err_from_errno(errno), errno, "cannot make a memory file");
		cb(data, NULL, 0, 0, 0, &err);
		return;
	}
	struct screenshot *shot = mem_new(struct screenshot);
	shot->desktop = desktop;
	shot->fd = TAKE_FD(fd);
	shot->cb = cb;
	shot->data = data;
	qmp_execute_fd(desktop->qmp, "add-fd", NULL, write_fd, 0, on_fd_added, shot);
}

int desktop_console_log(struct desktop *desktop, size_t max, char **ret, size_t *ret_len,
			struct err *err)
{
	*ret = desktop_log_tail(desktop, DESKTOP_CONSOLE_LOG, max, ret_len);
	return 0;
}

json_t *desktop_stats(struct desktop *desktop, struct err *err)
{
	struct proc_stat stat = {0};
	const struct db_disk *disks = desktop->row.disks;
	int64_t allocated = 0, data = 0;
	if (images_overlay_allocated(desktop->all->env.images, disks[DB_DISK_SYSTEM].file,
				     &allocated, err) < 0 ||
	    (disks[DB_DISK_DATA].file[0] &&
	     images_overlay_allocated(desktop->all->env.images, disks[DB_DISK_DATA].file, &data,
				      err) < 0))
		return NULL;
	if (desktop->row.pid && proc_stat_read((pid_t)desktop->row.pid, &stat, NULL) < 0)
		stat = (struct proc_stat){0};
	int64_t up_ms = desktop_has_guest(desktop) ? str_now_ms() - desktop->row.started_at : 0;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "name", desktop->row.name,
			 "state", desktop_state_names[desktop->state], "cpu_ms",
			 (json_int_t)stat.cpu_ms, "memory_bytes", (json_int_t)stat.rss_bytes,
			 "memory_mib", (json_int_t)desktop->row.memory_mib, "disk_bytes",
			 (json_int_t)disks[DB_DISK_SYSTEM].bytes, "disk_allocated_bytes",
			 (json_int_t)(allocated + data), "uptime_s", (json_int_t)(up_ms / 1000));
}
