/*
 * What a guest prints and QEMU complains goes to files that QEMU appends to: a guest could fill the
 * disk with them. The kernel says when one grows (inotify, so nothing wakes up while nobody
 * prints), and one that has grown large keeps its end only.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define LOG_SIZE_MAX (4 << 20)
#define LOG_KEPT     (256 << 10)
#define LOOK_MS      1000 /* at most so often, however much is printed */

struct logs {
	struct desktop *desktop;
	uv_fs_event_t changed;
	uv_timer_t look;
	int open_handles;
};

/*
 * QEMU has the file open for appending: it writes on behind whatever is there. A line that it
 * writes in between may be lost, and no more.
 */
static void shorten(const struct desktop *desktop, enum desktop_file file)
{
	char path[256];
	size_t len;
	struct stat st;
	if (desktop_path(desktop, file, path, sizeof(path), NULL) < 0)
		return;
	_cleanup_close_ int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= LOG_SIZE_MAX)
		return;
	_cleanup_free_ char *kept = desktop_log_tail(desktop, file, LOG_KEPT, &len);
	if (ftruncate(fd, 0) < 0 || write(fd, kept, len) != (ssize_t)len)
		log_warn("desktop %s: its log %s cannot be shortened", desktop->row.name, path);
}

static void on_look(uv_timer_t *timer)
{
	struct logs *logs = timer->data;
	shorten(logs->desktop, DESKTOP_CONSOLE_LOG);
	shorten(logs->desktop, DESKTOP_QEMU_LOG);
}

static void on_changed(uv_fs_event_t *handle, const char *name, int events, int status)
{
	struct logs *logs = handle->data;
	if (!uv_is_active((uv_handle_t *)&logs->look))
		uv_timer_start(&logs->look, on_look, LOOK_MS, 0);
}

void desktop_logs_watch(struct desktop *desktop)
{
	char path[256];
	desktop_logs_unwatch(desktop);
	if (desktop_path(desktop, DESKTOP_CONSOLE_LOG, path, sizeof(path), NULL) < 0)
		return;
	*strrchr(path, '/') = '\0';
	struct logs *logs = mem_new(struct logs);
	logs->desktop = desktop;
	logs->open_handles = 2;
	uv_fs_event_init(desktop->all->env.loop, &logs->changed);
	uv_timer_init(desktop->all->env.loop, &logs->look);
	logs->changed.data = logs;
	logs->look.data = logs;
	desktop->logs = logs;
	int failed = uv_fs_event_start(&logs->changed, on_changed, path, 0);
	if (failed)
		log_warn("desktop %s: its logs grow unwatched: %s", desktop->row.name,
			 uv_strerror(failed));
}

static void on_closed(uv_handle_t *handle)
{
	struct logs *logs = handle->data;
	if (--logs->open_handles == 0)
		free(logs);
}

void desktop_logs_unwatch(struct desktop *desktop)
{
	struct logs *logs = TAKE_PTR(desktop->logs);
	if (!logs)
		return;
	uv_close((uv_handle_t *)&logs->changed, on_closed);
	uv_close((uv_handle_t *)&logs->look, on_closed);
}
