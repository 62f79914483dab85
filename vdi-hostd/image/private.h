/* What the files of this folder share. */
#pragma once

#include "storage/store.h"
#include "vdi-hostd/image/image.h"

struct import;
struct iso;
struct iso_run;
struct space;
struct upkeep;
struct verify;
struct verify_schedule;

/* struct image_roots - who says that files are in use though no row names them */
struct image_roots {
	void (*each)(void *data,
		     void (*emit)(void *out, enum store_folder folder, const char *file),
		     void *out);
	void *data;
};

/* struct image - a row, as the database has it */
struct image {
	struct db_image row;
	struct image *prev, *next;
};

struct images {
	uv_loop_t *loop;
	struct db *db;
	struct jobs *jobs;
	struct priv *priv;
	struct store *store;
	struct image *list; /* by name and version as far as the database said, new ones last */
	struct import *imports;
	struct iso *isos;
	struct iso_run *iso_runs;
	size_t holds;        /* of others, who are still at work on files of the store */
	struct space *space; /* NULL: nobody watches it */
	struct image_roots roots[8];
	size_t n_roots;
	struct upkeep *upkeeps; /* gc, scrub and usage under way */
	struct verify *verifies;
	struct verify_schedule *schedule; /* NULL: none */
	bool closing;
};

/** images_add(), images_remove() - keep the list; the row is copied */
struct image *images_add(struct images *images, const struct db_image *row);
void images_remove(struct images *images, struct image *image);

/** images_by_id() - or NULL */
struct image *images_by_id(struct images *images, const char *id);

/** images_tell() - log a change and write its event */
void images_tell(struct images *images, const struct db_image *row, const char *what);

/** images_set_broken() - what a look at its file found: "" or what is wrong; its row and an event
 */
int images_set_broken(struct images *images, struct image *image, const char *broken,
		      struct err *err) warn_unused;

/** images_refuse_importing() - ERR_BUSY while an image is being imported */
int images_refuse_importing(const struct db_image *row, struct err *err) warn_unused;

/** images_release() - free everything once closing and nothing is under way */
void images_release(struct images *images);

/** images_space_unwatch() - before the end */
void images_space_unwatch(struct images *images);

/** imports_cancel() - end all that run; their jobs are settled in this call */
void imports_cancel(struct images *images);

/** isos_load() - the rows; what an interrupted import or delete left is removed */
int isos_load(struct images *images, struct err *err) warn_unused;
void isos_unload(struct images *images);

/** isos_cancel() - as imports_cancel() */
void isos_cancel(struct images *images);
/** verifies_cancel() - the same for those, and no more of them by the clock */
void verifies_cancel(struct images *images);

/** upkeeps_cancel() - the same for gc, scrub and usage */
void upkeeps_cancel(struct images *images);
