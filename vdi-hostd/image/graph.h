/*
 * The files of the store and who needs them. Roots are the files that rows name, whatever state a
 * row is in, and those that other parts say they are using; edges are the backing names in headers,
 * read by our own hand. What no root leads to is unreachable.
 */
#pragma once

#include <uthash.h>

#include "vdi-hostd/db/file.h"
#include "vdi-hostd/image/image.h"

/**
 * struct graph_file - one file, there or only named
 * @named:     by a row, or by a source of roots
 * @settled:   a row says that it has to be there
 * @kind, @id, @name, @owner, @image_id: of the first row that names it (struct db_file)
 * @reachable: named, or below one that is
 * @uses:      how many reachable files stand right on it
 * @below:     what it stands on, or NULL
 * @problem:   why its header cannot be followed, or NULL
 */
struct graph_file {
	char key[160]; /* "images/FILE" */
	enum store_folder folder;
	const char *file; /* in @key */
	bool named, settled, reachable, there, regular;
	enum db_file_kind kind;
	char id[STR_UUID_LEN + 1], image_id[STR_UUID_LEN + 1];
	char owner[STR_NAME_MAX + 1];
	char name[2 * STR_NAME_MAX + 8];
	unsigned int mode;
	int64_t allocated, changed_ms;
	size_t uses;
	struct graph_file *below;
	char *problem;
	struct graph_file *todo; /* while headers are read */
	UT_hash_handle hh;
};

struct graph {
	struct graph_file *files;
};

void graph_free(struct graph *graph);
struct graph_file *graph_find(const struct graph *graph, enum store_folder folder,
			      const char *file);

struct graph_walk;

/**
 * graph_walk() - look at the whole store, on the thread pool
 * @progress: files whose headers were read; may be NULL
 * @done:     exactly once; @graph is the callee's, NULL on failure. Not inside this call.
 */
int graph_walk(struct images *images, void (*progress)(void *data, int64_t files),
	       void (*done)(void *data, struct graph *graph, const struct err *err), void *data,
	       struct graph_walk **ret, struct err *err) warn_unused;

/** graph_walk_cancel() - done() follows with ERR_CANCELLED */
void graph_walk_cancel(struct graph_walk *walk);

/** graph_of_names() - the roots alone, as they are now: what may not be removed this moment */
int graph_of_names(struct images *images, struct graph **ret, struct err *err) warn_unused;

/**
 * images_add_roots() - files that are in use though no row names them (yet): asked whenever
 * reachability counts
 * @each: calls @emit for each, on the loop's thread
 */
void images_add_roots(struct images *images,
		      void (*each)(void *data,
				   void (*emit)(void *out, enum store_folder folder,
						const char *file),
				   void *out),
		      void *data);
