/*
 * The ISO library: images of discs that desktops have in their CD drives. Each is a name and one
 * file in the store's isos/, read-only and never changed.
 */
#pragma once

#include "vdi-hostd/db/iso.h"
#include "vdi-hostd/image/image.h"

/**
 * struct iso_import - a disc to be taken in
 * @fd:     taken
 * @sha256: what the file has to have, as hex text, or NULL
 */
struct iso_import {
	const char *name;
	int fd;
	const char *owner, *description, *sha256;
};

/**
 * isos_import() - copy a disc's image into the store; @ret_job_id: the job that does it, in bytes
 *
 * The job's bytes count twice: copied, then summed up. What fails or is killed leaves nothing.
 */
int isos_import(struct images *images, const struct iso_import *import, const char **ret_job_id,
		struct err *err) warn_unused;

/** isos_find() - by name or id; borrowed until it is deleted */
const struct db_iso *isos_find(struct images *images, const char *ref, struct err *err);
void isos_each(struct images *images, void (*cb)(void *data, const struct db_iso *row), void *data);

/** isos_refuse_importing() - ERR_BUSY while it is on its way in */
int isos_refuse_importing(const struct db_iso *row, struct err *err) warn_unused;

/**
 * isos_delete() - remove one that is in no drive
 * @in_use: writes the names of the desktops that have it, for a message; how many they are
 */
int isos_delete(struct images *images, const char *ref,
		size_t (*in_use)(void *data, const char *iso_id, char *ret, size_t size),
		void *data, struct err *err) warn_unused;

/** isos_open() - open O_RDONLY for QEMU; @iso_id: of one that is there */
int isos_open(struct images *images, const char *iso_id, int *ret_fd, struct err *err) warn_unused;
