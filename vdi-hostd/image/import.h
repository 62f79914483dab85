/* What the files of an import share: import.c the plan, import_source.c what was handed over,
 * import_target.c what becomes of it. */
#pragma once

#include "base/plan.h"
#include "storage/bulk.h"
#include "storage/format.h"
#include "storage/intake.h"
#include "vdi-hostd/image/private.h"
#include "vdi-hostd/image/tool.h"

/* the pieces of work in which a large file moves have no end that could be told beforehand */
#define IMPORT_LONG_MS (UINT64_C(14) * 60 * 60 * 1000)

/*
 * struct import - one under way. Pieces of work run at the same time where they do not need each
 * other; a step ends when all of them have, and so does an undo: then nothing points here any more.
 *
 * Progress counts the bytes of the source once for each time that they are gone through: when they
 * are taken in (where that is needed), converted and verified.
 */
struct import {
	struct images *images;
	struct image *image; /* once its row is there */
	struct job *job;     /* NULL once it was settled */
	struct plan *plan;
	struct db_image row;
	enum storage_format format; /* as asked for */
	bool publish;
	char expected[BULK_SHA256_LEN + 1];
	char source_file[64], target_file[64]; /* in tmp/ */
	int passed, copy, target;              /* descriptors; @copy is -1 where none is needed */
	bool pipe, packed;                     /* @passed is no file that could be read as it is */
	bool take;                             /* into a file of our own first */
	struct storage_source found;
	uv_work_t check;
	bool checking;
	struct intake *intake;
	struct bulk *bulk, *sync;
	struct image_tool *tool;
	struct err failed; /* the first piece of work of this step that did */
	bool stuck; /* a file could not be removed: its row has to stay until the next start */
	void (*waiting)(struct plan *plan, void *ctx); /* an undo, for the end of the work */
	uint64_t size, base, total; /* bytes: of one pass; done before this one; in all */
	uint64_t told;
	struct import *prev, *next;
};

/** import_source_fd() - what is read from now on */
int import_source_fd(const struct import *import);

/** import_begin_pass() - the source is gone through again; import_report() - how far */
void import_begin_pass(struct import *import);
void import_report(struct import *import, uint64_t done, uint64_t total);

/** import_part_done() - a piece of work has ended and its pointer is NULL: the step ends with the
 * last one; where one failed, the others are called off */
void import_part_done(struct import *import, const struct err *err);

/** import_is_busy() - in an undo: is there work to end first? @undo is called again when it has */
bool import_is_busy(struct import *import, void (*undo)(struct plan *plan, void *ctx));

/** import_stop_work() - the undo of a step that leaves nothing */
void import_stop_work(struct plan *plan, void *ctx);

/* the steps: import_source.c */
void import_check_source(struct plan *plan, void *ctx);
void import_copy_source(struct plan *plan, void *ctx);
void import_drop_copy(struct plan *plan, void *ctx);

/** import_compare() - is it the file that was meant? */
int import_compare(const struct import *import, const char *sha256, struct err *err) warn_unused;

/* and import_target.c */
void import_convert(struct plan *plan, void *ctx);
void import_verify(struct plan *plan, void *ctx);
void import_drop_target(struct plan *plan, void *ctx);
