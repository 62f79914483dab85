/* A daemon's worth of parts around images: a database, jobs and the rootless side of the wire. */
#pragma once

#include "../../storage/help.h"
#include "base/mem.h"
#include "vdi-hostd/image/image.h"

/* does this build obey VDI_CRASH_AT? */
#ifdef VDI_CRASH_POINTS
#define BENCH_CRASH_POINTS true
#else
#define BENCH_CRASH_POINTS false
#endif

struct bench {
	char dir[64];
	const char *tool; /* NULL: the real qemu-img */
	uv_loop_t loop;
	struct db *db;
	struct jobs *jobs;
	struct priv *priv;
	struct images *images;
};

/** bench_open() - everything on the folder @bench->dir, which is the working folder */
void bench_open(struct bench *bench);

/** bench_close() - as the daemon ends: images, jobs, wire, the loop's rest, database */
void bench_close(struct bench *bench);

/** bench_reopen() - a restart */
void bench_reopen(struct bench *bench);

/** bench_new(), bench_free() - setup and teardown of a test */
int bench_new(void **state);
int bench_free(void **state);

/** bench_start() - begin to import a file of the working folder as a published image */
const char *bench_start(struct bench *bench, const char *name, const char *path, struct err *err);

/** bench_wait() - run the loop until a job ends; its row, to be given to db_job_done() */
struct db_job bench_wait(struct bench *bench, const char *job_id);

/** bench_import() - both; the job has to succeed */
const struct db_image *bench_import(struct bench *bench, const char *name, const char *path);

/** bench_refuse() - the import has to fail with @code and @word, and to leave the store as it was
 */
void bench_refuse(struct bench *bench, const struct image_import *import, enum err_code code,
		  const char *word);

/** bench_check_clean() - files are those of the rows, none is in the making */
void bench_check_clean(struct bench *bench);
