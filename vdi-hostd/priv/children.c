#include "vdi-hostd/priv/children.h"

#include <string.h>
#include <sys/wait.h>

#include "base/mem.h"

static void forget(struct children *children, size_t i)
{
	children->n_ended -= children->row[i].ended;
	children->n--;
	memmove(&children->row[i], &children->row[i + 1],
		(children->n - i) * sizeof(children->row[0]));
}

void children_add(struct children *children, pid_t pid, uint64_t start_time)
{
	if (children->n == children->room) {
		children->room = children->room ? children->room * 2 : 16;
		children->row =
			mem_realloc(children->row, children->room, sizeof(children->row[0]));
	}
	children->row[children->n++] = (struct child){.pid = pid, .start_time = start_time};
}

static void forget_oldest_ended(struct children *children)
{
	for (size_t i = 0; i < children->n; i++) {
		if (!children->row[i].ended)
			continue;
		forget(children, i);
		return;
	}
}

void children_collect(struct children *children)
{
	for (size_t i = 0; i < children->n; i++) {
		struct child *child = &children->row[i];
		int status = -1;
		if (child->ended || waitpid(child->pid, &status, WNOHANG) == 0)
			continue;
		/* should another have waited for it, its status stays unknown */
		child->wait_status = status;
		child->ended = true;
		children->n_ended++;
	}
	while (children->n_ended > CHILDREN_ENDED_MAX)
		forget_oldest_ended(children);
}

int children_reap(struct children *children, pid_t pid, uint64_t start_time, int *ret_wait_status,
		  struct err *err)
{
	children_collect(children);
	for (size_t i = 0; i < children->n; i++) {
		const struct child *child = &children->row[i];
		if (child->pid != pid || child->start_time != start_time)
			continue;
		if (!child->ended)
			return err_set(err, ERR_BUSY, "process %d still runs", (int)pid);
		*ret_wait_status = child->wait_status;
		forget(children, i);
		return 0;
	}
	*ret_wait_status = -1;
	return 0;
}

void children_done(struct children *children)
{
	free(children->row);
	*children = (struct children){0};
}
