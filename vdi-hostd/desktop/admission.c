#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/desktop/private.h"

/* QEMU's own need beside the guest's memory: code, SPICE, video memory, translation buffers. */
#define OVERHEAD_MIB 160

static int memory_available_mib(int64_t *ret, struct err *err)
{
	char text[4096];
	_cleanup_close_ int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return err_set_sys(err, ERR_IO, errno, "cannot read /proc/meminfo");
	text[n] = '\0';
	const char *line = strstr(text, "MemAvailable:");
	int64_t kib;
	if (!line || sscanf(line, "MemAvailable: %" SCNd64, &kib) != 1)
		return err_set(err, ERR_UNSUPPORTED, "/proc/meminfo has no MemAvailable");
	*ret = kib / 1024;
	return 0;
}

/*
 * What running guests were promised and have not touched yet is not free, though the kernel shows
 * it so.
 */
static int64_t promised_mib(struct desktops *all)
{
	int64_t sum = 0;
	for (struct desktop *d = all->by_id; d; d = d->by_id.next) {
		struct proc_stat stat;
		/* the memory of a guest that is parked is not touched */
		if (d->state != DESKTOP_STARTING && !desktop_has_guest(d))
			continue;
		int64_t left = d->row.memory_mib + OVERHEAD_MIB;
		if (d->row.pid && proc_stat_read((pid_t)d->row.pid, &stat, NULL) == 0)
			left -= (int64_t)(stat.rss_bytes >> 20);
		sum += left > 0 ? left : 0;
	}
	return sum;
}

int desktop_admit(struct desktop *desktop, struct err *err)
{
	struct desktops *all = desktop->all;
	char what[STR_NAME_MAX + 64];
	int64_t available;
	snprintf(what, sizeof(what), "desktop '%s' cannot be started", desktop->row.name);
	if (images_space_check(all->env.images, what, err) < 0)
		return -1;
	if (memory_available_mib(&available, err) < 0)
		return -1;
	/* its own promise is counted: it is starting */
	int64_t room = available - all->env.memory_reserve_mib - promised_mib(all);
	if (room >= 0)
		return 0;
	return err_set(err, ERR_LIMIT,
		       "desktop '%s' needs %" PRId64 " MiB and the host lacks %" PRId64
		       " of them; stop another desktop, or give this one less memory",
		       desktop->row.name, desktop->row.memory_mib + OVERHEAD_MIB, -room);
}
