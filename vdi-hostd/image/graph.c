#include "vdi-hostd/image/graph.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "storage/scan.h"
#include "vdi-hostd/image/private.h"

#define PIECE 256 /* headers that are read before a thread is given back */

static const enum store_folder folders[] = {STORE_IMAGES,  STORE_OVERLAYS, STORE_ISOS,
					    STORE_BACKUPS, STORE_STATES,   STORE_TMP};

struct graph_walk {
	uv_work_t work;
	struct images *images;
	struct graph *graph;
	struct graph_file *todo;
	int64_t read;
	bool scanned;
	atomic_bool cancelled;
	struct err err;
	void (*progress)(void *data, int64_t files);
	void (*done)(void *data, struct graph *graph, const struct err *err);
	void *data;
};

void graph_free(struct graph *graph)
{
	struct graph_file *file, *next;

	if (!graph)
		return;
	HASH_ITER (hh, graph->files, file, next) {
		HASH_DEL(graph->files, file);
		free(file->problem);
		free(file);
	}
	free(graph);
}

static void make_key(enum store_folder folder, const char *file, char ret[160])
{
	snprintf(ret, 160, "%s/%.140s", store_folder_name(folder), file);
}

struct graph_file *graph_find(const struct graph *graph, enum store_folder folder, const char *file)
{
	struct graph_file *found = NULL;
	char key[160];

	make_key(folder, file, key);
	HASH_FIND_STR(graph->files, key, found);
	return found;
}

static struct graph_file *add(struct graph *graph, enum store_folder folder, const char *name)
{
	struct graph_file *file = graph_find(graph, folder, name);

	if (file)
		return file;
	file = mem_new(struct graph_file);
	file->folder = folder;
	make_key(folder, name, file->key);
	file->file = strchr(file->key, '/') + 1;
	HASH_ADD_STR(graph->files, key, file);
	return file;
}

/* ---- roots ---- */

void images_add_roots(struct images *images,
		      void (*each)(void *data,
				   void (*emit)(void *out, enum store_folder folder,
						const char *file),
				   void *out),
		      void *data)
{
	if (images->n_roots == ARRAY_LEN(images->roots))
		abort(); /* one part too many: the array has to grow */
	images->roots[images->n_roots++] = (struct image_roots){each, data};
}

static void emit_root(void *out, enum store_folder folder, const char *file)
{
	add(out, folder, file)->named = true;
}

static int add_row(void *data, const struct db_file *row)
{
	static const enum store_folder places[] = {
		[DB_FILE_IN_IMAGES] = STORE_IMAGES, [DB_FILE_IN_OVERLAYS] = STORE_OVERLAYS,
		[DB_FILE_IN_ISOS] = STORE_ISOS,     [DB_FILE_IN_BACKUPS] = STORE_BACKUPS,
		[DB_FILE_IN_STATES] = STORE_STATES,
	};
	struct graph_file *file = add(data, places[row->folder], row->file);

	/* a file may be in two rows: a desktop's and its snapshot's while that is made */
	file->settled = file->settled || row->settled;
	if (file->named)
		return 0;
	file->named = true;
	file->kind = row->kind;
	snprintf(file->id, sizeof(file->id), "%s", row->id);
	snprintf(file->image_id, sizeof(file->image_id), "%s", row->image_id);
	snprintf(file->owner, sizeof(file->owner), "%s", row->owner);
	snprintf(file->name, sizeof(file->name), "%s", row->name);
	return 0;
}

int graph_of_names(struct images *images, struct graph **ret, struct err *err)
{
	struct graph *graph = mem_new(struct graph);

	if (db_file_each(images->db, add_row, graph, err) < 0) {
		graph_free(graph);
		return -1;
	}
	for (size_t i = 0; i < images->n_roots; i++)
		images->roots[i].each(images->roots[i].data, emit_root, graph);
	*ret = graph;
	return 0;
}

/* ---- edges: on the thread pool ---- */

static int add_file(void *data, const struct scan_file *found)
{
	struct graph_walk *walk = data;
	struct graph_file *file = add(walk->graph, found->folder, found->file);

	file->there = true;
	file->regular = found->regular;
	file->mode = found->mode;
	file->allocated = found->allocated;
	file->changed_ms = found->changed_ms;
	return atomic_load(&walk->cancelled) ? -1 : 0;
}

static void reach(struct graph_walk *walk, struct graph_file *file)
{
	if (file->reachable)
		return;
	file->reachable = true;
	if (!file->there || (file->folder != STORE_IMAGES && file->folder != STORE_OVERLAYS &&
			     file->folder != STORE_BACKUPS))
		return;
	file->todo = walk->todo;
	walk->todo = file;
}

static int scan(struct graph_walk *walk, struct err *err)
{
	struct graph_file *file, *next;

	walk->scanned = true;
	for (size_t i = 0; i < ARRAY_LEN(folders); i++)
		if (scan_folder(walk->images->store, folders[i], add_file, walk, err) < 0)
			return -1;
	HASH_ITER (hh, walk->graph->files, file, next) {
		if (file->named)
			reach(walk, file);
	}
	return 0;
}

/*
 * What stands below a file that cannot be read is not known. Of a desktop's, all that bear its
 * name are kept; versions of images are named by their rows anyway, as backups are.
 */
static void keep_kin(struct graph_walk *walk, const struct graph_file *lost)
{
	struct graph_file *file, *next;

	HASH_ITER (hh, walk->graph->files, file, next) {
		if (file->folder == lost->folder &&
		    strncmp(file->file, lost->file, STR_UUID_LEN) == 0)
			reach(walk, file);
	}
}

static void read_header(struct graph_walk *walk, struct graph_file *file)
{
	enum store_folder folder = file->folder;
	char below[128];
	struct err err;

	walk->read++;
	if (!file->regular)
		err_set(&err, ERR_CORRUPT, "this is no regular file");
	else if (store_read_backing(walk->images->store, file->folder, file->file, &folder, below,
				    &err) == 0)
		err.code = 0;
	if (err.code) {
		file->problem = mem_strdup(err.msg);
		keep_kin(walk, file);
	} else if (below[0]) {
		file->below = add(walk->graph, folder, below);
		file->below->uses++;
		reach(walk, file->below);
	}
}

static void run(uv_work_t *work)
{
	struct graph_walk *walk = container_of(work, struct graph_walk, work);

	if (!walk->scanned && scan(walk, &walk->err) < 0) {
		if (walk->err.code == 0)
			err_set(&walk->err, ERR_CANCELLED, "the work was cancelled");
		return;
	}
	for (int i = 0; i < PIECE && walk->todo && !atomic_load(&walk->cancelled); i++) {
		struct graph_file *file = walk->todo;
		walk->todo = file->todo;
		read_header(walk, file);
	}
}

static void ran(uv_work_t *work, int status)
{
	struct graph_walk *walk = container_of(work, struct graph_walk, work);

	if (atomic_load(&walk->cancelled))
		err_set(&walk->err, ERR_CANCELLED, "the work was cancelled");
	if (walk->err.code == 0 && walk->progress)
		walk->progress(walk->data, walk->read);
	if (walk->err.code == 0 && walk->todo) {
		uv_queue_work(walk->images->loop, &walk->work, run, ran);
		return;
	}
	struct images *images = walk->images;
	if (walk->err.code != 0)
		graph_free(TAKE_PTR(walk->graph));
	walk->done(walk->data, walk->graph, walk->err.code ? &walk->err : NULL);
	free(walk);
	images_unhold(images);
}

int graph_walk(struct images *images, void (*progress)(void *data, int64_t files),
	       void (*done)(void *data, struct graph *graph, const struct err *err), void *data,
	       struct graph_walk **ret, struct err *err)
{
	struct graph_walk *walk = mem_new(struct graph_walk);

	if (graph_of_names(images, &walk->graph, err) < 0) {
		free(walk);
		return -1;
	}
	walk->images = images;
	walk->progress = progress;
	walk->done = done;
	walk->data = data;
	images_hold(images);
	uv_queue_work(images->loop, &walk->work, run, ran);
	*ret = walk;
	return 0;
}

void graph_walk_cancel(struct graph_walk *walk)
{
	atomic_store(&walk->cancelled, true);
}
