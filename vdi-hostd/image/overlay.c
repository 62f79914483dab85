#include <fcntl.h>
#include <string.h>

#include "vdi-hostd/image/private.h"

int images_overlay_create(struct images *images, const struct db_image *image, const char *file,
			  int64_t virtual_size, struct err *err)
{
	if (images_refuse_importing(image, err) < 0)
		return -1;
	if (image->state == DB_IMAGE_RETIRED)
		return err_set(err, ERR_CONFLICT,
			       "image %s:%lld is retired: no new desktop can be made from it",
			       image->name, (long long)image->version);
	if (virtual_size < 0)
		return err_set_field(err, "size", "a disk cannot have less than no bytes");
	return store_create_overlay(images->store, file, image->file, (uint64_t)virtual_size, err);
}

int images_overlay_delete(struct images *images, const char *file, struct err *err)
{
	return store_delete(images->store, STORE_OVERLAYS, file, err);
}

int images_overlay_allocated(struct images *images, const char *file, int64_t *ret, struct err *err)
{
	return store_allocated(images->store, STORE_OVERLAYS, file, ret, err);
}

int images_chain_open(struct images *images, const char *overlay, int *ret_fds,
		      uint8_t *ret_formats, size_t *ret_n, struct err *err)
{
	struct store_layer layers[QEMU_CHAIN_MAX];
	size_t n;

	if (store_open_chain(images->store, STORE_OVERLAYS, overlay, O_RDWR, layers, QEMU_CHAIN_MAX,
			     &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		ret_fds[i] = layers[i].fd;
		ret_formats[i] = QEMU_FILE_QCOW2;
	}
	*ret_n = n;
	return 0;
}

int images_chain(struct images *images, const struct db_image *image, struct image_layer *ret,
		 size_t *ret_n, struct err *err)
{
	struct store_layer layers[QEMU_CHAIN_MAX];
	struct image_layer found[QEMU_CHAIN_MAX];
	size_t n;

	if (images_refuse_importing(image, err) < 0)
		return -1;
	if (store_open_chain(images->store, STORE_IMAGES, image->file, O_RDONLY, layers,
			     QEMU_CHAIN_MAX, &n, err) < 0)
		return -1;
	int result = 0;
	for (size_t i = 0; i < n && result == 0; i++) {
		memcpy(found[i].file, layers[i].file, sizeof(found[i].file));
		found[i].virtual_size = (int64_t)layers[i].header.virtual_size;
		result = store_allocated(images->store, layers[i].folder, layers[i].file,
					 &found[i].allocated, err);
	}
	store_close_chain(layers, n);
	if (result == 0) {
		memcpy(ret, found, n * sizeof(found[0]));
		*ret_n = n;
	}
	return result;
}

int images_disk_free(struct images *images, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	return store_space(images->store, ret_free, ret_total, err);
}
