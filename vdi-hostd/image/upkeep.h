/* Inside of image/ only: what gc and scrub share. */
#pragma once

#include "vdi-hostd/image/gc.h"
#include "vdi-hostd/image/graph.h"
#include "vdi-hostd/image/private.h"

#define UPKEEP_LIST_MAX 1000

struct bulk;
struct sweep;

/**
 * struct upkeep - a gc or a scrub under way
 * @go_on: once the graph is there
 * At most one of @walk, @sweep and @bulk works at a time; when it ends and @cancelled is set, the
 * whole ends.
 */
struct upkeep {
	struct images *images;
	struct job *job; /* NULL once it was settled */
	struct graph_walk *walk;
	struct graph *graph;
	struct sweep *sweep;
	struct bulk *bulk;
	void (*go_on)(struct upkeep *upkeep);
	bool cancelled;
	struct image_gc gc;
	struct image_scrub scrub;
	json_t *list;         /* files, or findings */
	int64_t found, bytes; /* all of them, whether they are in the list or not */
	/* scrub */
	char (*ids)[STR_UUID_LEN + 1]; /* versions whose checksums are still to be compared */
	size_t n_ids, at_id;
	int fd;
	struct upkeep *prev, *next;
};

/** upkeep_start() - @upkeep is taken, also on failure */
int upkeep_start(struct upkeep *upkeep, const char *kind, const char *unit, const char **ret_job_id,
		 struct err *err) warn_unused;
/** upkeep_end() - settle the job and free; @result is stolen, NULL with an @err */
void upkeep_end(struct upkeep *upkeep, json_t *result, const struct err *err);

/** upkeep_is_garbage() - nobody needs it, it is ours, and it is old enough */
bool upkeep_is_garbage(const struct graph_file *file, int64_t min_age_s);

/**
 * sweep_start() - remove the garbage of a graph, each file only if nobody names it at that moment
 * @removed: each file, as it goes
 * @done:    exactly once, not inside this call; the sweep is gone after it
 */
struct sweep *sweep_start(struct upkeep *upkeep, int64_t min_age_s,
			  void (*removed)(struct upkeep *upkeep, const struct graph_file *file),
			  void (*done)(struct upkeep *upkeep, const struct err *err));
