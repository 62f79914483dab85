/* What the files of the ISO library share. */
#pragma once

#include "vdi-hostd/image/iso.h"
#include "vdi-hostd/image/private.h"

/** struct iso - a row, as the database has it */
struct iso {
	struct db_iso row;
	struct iso *prev, *next;
};

/** isos_add(), isos_forget() - keep the list; the row is copied */
struct iso *isos_add(struct images *images, const struct db_iso *row);
void isos_forget(struct images *images, struct iso *iso);
/** isos_tell() - log a change and write its event */
void isos_tell(struct images *images, const struct db_iso *row, const char *what);
