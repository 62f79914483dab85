/* Versions of images that others make: their rows, before and after. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/image/private.h"
#include "vdi-hostd/image/quota.h"

int images_making(struct images *images, struct db_image *row, struct err *err)
{
	str_uuid_new(row->id);
	snprintf(row->file, sizeof(row->file), "%s.qcow2", row->id);
	row->state = DB_IMAGE_IMPORTING;
	row->created_at = str_now_ms();
	if (db_image_next_version(images->db, row->name, &row->version, err) < 0 ||
	    db_image_insert(images->db, row, err) < 0)
		return -1;
	images_add(images, row);
	return 0;
}

int images_made(struct images *images, struct db_image *row, bool publish, struct err *err)
{
	struct image *image = images_by_id(images, row->id);
	struct db_image made = *row;

	made.state = publish ? DB_IMAGE_PUBLISHED : DB_IMAGE_DRAFT;
	made.published_at = publish ? str_now_ms() : 0;
	if (!image)
		return err_set(err, ERR_NOT_FOUND, "image '%s' is gone", row->name);
	if (store_allocated(images->store, STORE_IMAGES, made.file, &made.file_size, err) < 0 ||
	    images_quota_charge_check(images, made.owner, made.file_size, err) < 0 ||
	    db_image_update(images->db, &made, err) < 0)
		return -1;
	image->row = *row = made;
	images_tell(images, row, publish ? "published" : "draft");
	return 0;
}

void images_unmake(struct images *images, const struct db_image *row)
{
	struct image *image = images_by_id(images, row->id);

	/* a row that stays for now is found IMPORTING at the next start, and goes then */
	if (image && store_delete(images->store, STORE_IMAGES, row->file, NULL) == 0 &&
	    db_image_delete(images->db, row->id, NULL) == 0)
		images_remove(images, image);
}
