#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "vdi-hostd/image/private.h"

void images_layer_file(const char *desktop_id, char ret[96])
{
	char random[9];

	str_random_hex(random, 4);
	snprintf(ret, 96, "%s-%s.qcow2", desktop_id, random);
}

/* the last digits of the name: of a layer's they hold all that is random in it */
void images_node(const char *file, char ret[QEMU_NODE_MAX + 1])
{
	const char *end = strchr(file, '.');
	size_t at = QEMU_NODE_MAX;

	ret[at] = '\0';
	for (const char *c = end ? end : file + strlen(file); c-- > file && at > 1;)
		if (isdigit((unsigned char)*c) || islower((unsigned char)*c))
			ret[--at] = *c;
	ret[--at] = 'n';
	memmove(ret, ret + at, QEMU_NODE_MAX + 1 - at);
}

int images_overlay_create(struct images *images, const struct db_image *image, const char *file,
			  int64_t virtual_size, struct err *err)
{
	if (images_refuse_importing(image, err) < 0 || images_refuse_broken(images, image, err) < 0)
		return -1;
	if (image->state == DB_IMAGE_RETIRED)
		return err_set(err, ERR_CONFLICT,
			       "image %s:%lld is retired: no new desktop can be made from it",
			       image->name, (long long)image->version);
	return images_overlay_renew(images, image, file, virtual_size, err);
}

int images_overlay_renew(struct images *images, const struct db_image *image, const char *file,
			 int64_t virtual_size, struct err *err)
{
	if (images_refuse_importing(image, err) < 0)
		return -1;
	if (virtual_size < 0)
		return err_set_field(err, "size", "a disk cannot have less than no bytes");
	return store_create_overlay(images->store, file, STORE_IMAGES, image->file,
				    (uint64_t)virtual_size, err);
}

int images_layer_create(struct images *images, const char *file, const char *below,
			int64_t virtual_size, struct err *err)
{
	return store_create_overlay(images->store, file, STORE_OVERLAYS, below,
				    (uint64_t)virtual_size, err);
}

int images_overlay_adopt(struct images *images, const char *file, const char *made, struct err *err)
{
	return store_move(images->store, STORE_TMP, made, STORE_OVERLAYS, file, err);
}

int images_overlay_delete(struct images *images, const char *file, struct err *err)
{
	return store_delete(images->store, STORE_OVERLAYS, file, err);
}

int images_overlay_allocated(struct images *images, const char *file, int64_t *ret, struct err *err)
{
	return store_allocated(images->store, STORE_OVERLAYS, file, ret, err);
}

/* Does each layer stand on what the rows say it may? */
static int check_layers(struct images *images, const struct store_layer *layers, size_t n,
			const char *image_id, struct err *err)
{
	const struct db_image *image = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct store_layer *layer = &layers[i];
		bool ours;
		if (layer->folder == STORE_OVERLAYS) {
			ours = !image && strncmp(layer->file, layers[0].file, STR_UUID_LEN) == 0;
		} else {
			image = image_id[0] ? images_find(images, image_id, NULL) : NULL;
			ours = layer->folder == STORE_IMAGES && image &&
			       strcmp(image->file, layer->file) == 0;
			image_id = image ? image->parent_id : "";
		}
		if (!ours)
			return err_set(err, ERR_CORRUPT,
				       "the disk %.60s leads to %.60s, which is no part of it; "
				       "restore it from a backup or a snapshot",
				       layers[0].file, layer->file);
	}
	return 0;
}

static int measure(struct images *images, const struct store_layer *from, struct image_layer *to,
		   struct err *err)
{
	*to = (struct image_layer){.folder = from->folder, .fd = from->fd};
	memcpy(to->file, from->file, sizeof(to->file));
	images_node(from->file, to->node);
	to->virtual_size = (int64_t)from->header.virtual_size;
	return store_allocated(images->store, from->folder, from->file, &to->allocated, err);
}

static int open_chain(struct images *images, enum store_folder folder, const char *file, int flags,
		      const char *image_id, struct image_layer *ret, size_t *ret_n, struct err *err)
{
	struct store_layer layers[QEMU_CHAIN_MAX];
	struct image_layer found[QEMU_CHAIN_MAX];
	size_t n;

	if (store_open_chain(images->store, folder, file, flags, layers, QEMU_CHAIN_MAX, &n, err) <
	    0)
		return -1;
	int result = check_layers(images, layers, n, image_id, err);
	for (size_t i = 0; i < n && result == 0; i++)
		result = measure(images, &layers[i], &found[i], err);
	if (result < 0) {
		store_close_chain(layers, n);
		return -1;
	}
	memcpy(ret, found, n * sizeof(found[0]));
	*ret_n = n;
	return 0;
}

int images_chain_open(struct images *images, const char *file, const char *image_id,
		      struct image_layer *ret, size_t *ret_n, struct err *err)
{
	return open_chain(images, STORE_OVERLAYS, file, O_RDWR, image_id, ret, ret_n, err);
}

int images_chain_read(struct images *images, const char *file, const char *image_id,
		      struct image_layer *ret, size_t *ret_n, struct err *err)
{
	return open_chain(images, STORE_OVERLAYS, file, O_RDONLY, image_id, ret, ret_n, err);
}

static int read_layer(struct images *images, const char *file, struct store_layer *ret,
		      struct err *err)
{
	_cleanup_close_ int fd = -1;

	*ret = (struct store_layer){.fd = -1, .folder = STORE_OVERLAYS};
	if (str_copy(ret->file, sizeof(ret->file), file) < 0)
		return err_set(err, ERR_CORRUPT, "a file's name is too long");
	if (store_open_file(images->store, STORE_OVERLAYS, file, O_RDONLY, &fd, err) < 0)
		return -1;
	return qcow2_read(fd, QCOW2_ALLOW_BACKING, &ret->header, err);
}

int images_layers(struct images *images, const char *file, struct image_layer *ret, size_t *ret_n,
		  struct err *err)
{
	static const char folder[] = "../overlays/";
	struct store_layer layer;
	char at[128];
	size_t n = 0;

	snprintf(at, sizeof(at), "%s", file);
	while (n < QEMU_CHAIN_MAX) {
		struct err failed;
		if (read_layer(images, at, &layer, &failed) < 0 ||
		    measure(images, &layer, &ret[n], &failed) < 0) {
			if (n > 0 && failed.code == ERR_NOT_FOUND)
				break;
			if (err)
				*err = failed;
			return err_prefix(err, "%.60s", at);
		}
		ret[n++].fd = -1;
		const char *below = layer.header.backing_name;
		if (strncmp(below, folder, strlen(folder)) != 0)
			break;
		below += strlen(folder);
		if (strncmp(below, file, STR_UUID_LEN) != 0 || str_copy(at, sizeof(at), below) < 0)
			return err_set(err, ERR_CORRUPT, "%.60s leads to a file of another's",
				       ret[n - 1].file);
	}
	*ret_n = n;
	return 0;
}

void images_chain_close(struct image_layer *layers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (layers[i].fd >= 0)
			close(TAKE_FD(layers[i].fd));
}

int images_open(struct images *images, const struct db_image *image, struct image_layer *ret,
		size_t *ret_n, struct err *err)
{
	if (images_refuse_importing(image, err) < 0)
		return -1;
	return open_chain(images, STORE_IMAGES, image->file, O_RDONLY, image->id, ret, ret_n, err);
}

int images_chain(struct images *images, const struct db_image *image, struct image_layer *ret,
		 size_t *ret_n, struct err *err)
{
	if (images_open(images, image, ret, ret_n, err) < 0)
		return -1;
	images_chain_close(ret, *ret_n);
	return 0;
}

int images_disk_free(struct images *images, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	return store_space(images->store, ret_free, ret_total, err);
}
