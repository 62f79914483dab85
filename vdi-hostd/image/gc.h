/*
 * Looking after the store as a whole: garbage collection and scrubbing. One of them at a time, and
 * only when somebody asks. docs/decisions/reachability.md says why nothing that is needed can go.
 */
#pragma once

#include "vdi-hostd/image/image.h"

#define IMAGES_GC_MIN_AGE_S 3600

/**
 * struct image_gc - @min_age_s: younger files are left alone, they may be in the making
 */
struct image_gc {
	bool dry_run;
	int64_t min_age_s;
};

/**
 * images_gc() - remove what no row leads to; @ret_job_id: the job that does it, in files
 * Its result: the files (a thousand of them at most), how many they were and their bytes. A crash
 * leaves each file where it was, or in tmp/, which the next start clears.
 */
int images_gc(struct images *images, const struct image_gc *gc, const char **ret_job_id,
	      struct err *err) warn_unused;

/**
 * struct image_scrub - @checksums: read every version from end to end, too
 * @repair: do what cannot make anything worse: modes, files that nobody needs (gc), and a mark on
 *          versions whose file is lost or wrong
 */
struct image_scrub {
	bool checksums, repair;
	int64_t min_age_s;
};

/**
 * images_scrub() - compare files and rows; @ret_job_id: the job that does it
 * Its result: findings {kind, folder, file, subject, detail, repaired}, a thousand at most, and how
 * many they were.
 */
int images_scrub(struct images *images, const struct image_scrub *scrub, const char **ret_job_id,
		 struct err *err) warn_unused;
