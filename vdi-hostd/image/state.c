/* The memory of desktops that stand still: files of states/. */
#include <fcntl.h>

#include "vdi-hostd/image/private.h"

int images_state_create(struct images *images, const char *file, int *ret_fd, struct err *err)
{
	/* what an interrupted attempt left */
	if (store_delete(images->store, STORE_TMP, file, err) < 0)
		return -1;
	return store_create_tmp(images->store, file, 0600, ret_fd, err);
}

int images_state_keep(struct images *images, const char *file, struct err *err)
{
	return store_move(images->store, STORE_TMP, file, STORE_STATES, file, err);
}

int images_state_open(struct images *images, const char *file, int *ret_fd, struct err *err)
{
	return store_open_file(images->store, STORE_STATES, file, O_RDONLY, ret_fd, err);
}

int images_state_delete(struct images *images, const char *file, struct err *err)
{
	if (store_delete(images->store, STORE_TMP, file, err) < 0)
		return -1;
	return store_delete(images->store, STORE_STATES, file, err);
}

int images_state_allocated(struct images *images, const char *file, int64_t *ret, struct err *err)
{
	return store_allocated(images->store, STORE_STATES, file, ret, err);
}
