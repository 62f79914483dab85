#include "vdi-hostd/image/verify.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "base/mem.h"
#include "storage/bulk.h"
#include "vdi-hostd/image/private.h"

/* by the clock: 32 MiB, then a rest; a hundred MiB a second at most */
#define PAUSE_MS 300

/* a clock that is set, or a host that slept: look again after this at the latest */
#define LOOK_AGAIN_MS (INT64_C(12) * 60 * 60 * 1000)

struct verify {
	struct images *images;
	char id[STR_UUID_LEN + 1];
	struct job *job; /* NULL once it was settled */
	struct bulk *bulk;
	int fd;
	bool scheduled;
	struct verify *prev, *next;
};

struct verify_schedule {
	struct images *images;
	int64_t interval_ms;
	uv_timer_t timer;
};

static void look_for_due(uv_timer_t *timer);

/* ---- what was found ---- */

int images_refuse_broken(struct images *images, const struct db_image *row, struct err *err)
{
	for (size_t i = 0; row && i < QEMU_CHAIN_MAX; i++) {
		if (row->broken[0])
			return err_set(err, ERR_CORRUPT,
				       "image %s:%lld is broken: %.80s; put its file back from a "
				       "backup and run `vdictl image verify %s:%lld`, or use "
				       "another version",
				       row->name, (long long)row->version, row->broken, row->name,
				       (long long)row->version);
		const struct image *parent = images_by_id(images, row->parent_id);
		row = parent ? &parent->row : NULL;
	}
	return 0;
}

int images_set_broken(struct images *images, struct image *image, const char *broken,
		      struct err *err)
{
	struct db_image row = image->row;
	bool was = row.broken[0];

	row.verified_at = str_now_ms();
	snprintf(row.broken, sizeof(row.broken), "%.127s", broken);
	if (db_image_update(images->db, &row, err) < 0)
		return -1;
	image->row = row;
	if (broken[0])
		log_err("image %s:%lld is broken: %s", row.name, (long long)row.version, broken);
	if (broken[0])
		images_tell(images, &row, "broken");
	else if (was)
		images_tell(images, &row, "whole");
	return 0;
}

/* ---- one run ---- */

static void verify_free(struct verify *verify)
{
	struct images *images = verify->images;

	DL_DELETE(images->verifies, verify);
	mem_closep(&verify->fd);
	if (verify->scheduled && images->schedule)
		uv_timer_start(&images->schedule->timer, look_for_due, 0, 0);
	free(verify);
	images_release(images);
}

static void settle(struct verify *verify, const struct db_image *row, const struct err *err)
{
	struct job *job = TAKE_PTR(verify->job);

	if (job && err)
		job_fail(job, err);
	else if (job)
		job_done(job,
			 json_pack("{s:s, s:s, s:I, s:s}", "image", row->id, "name", row->name,
				   "version", (json_int_t)row->version, "sha256", row->sha256));
	verify_free(verify);
}

static void on_summed(void *data, const char *sha256, const struct err *err)
{
	struct verify *verify = data;
	struct images *images = verify->images;
	struct image *image = images_by_id(images, verify->id);
	struct err failed = {0};
	char broken[sizeof(image->row.broken)] = "";

	verify->bulk = NULL;
	if (!image)
		err_set(&failed, ERR_NOT_FOUND, "the image was deleted while it was verified");
	else if (err && err->code == ERR_CANCELLED)
		failed = *err;
	else if (err)
		snprintf(broken, sizeof(broken), "%.127s", err->msg);
	else if (strcmp(sha256, image->row.sha256) != 0)
		snprintf(broken, sizeof(broken),
			 "its file was changed: the checksum is another than at its import");
	if (failed.code == 0 && images_set_broken(images, image, broken, &failed) == 0 && broken[0])
		(void)!images_refuse_broken(images, &image->row, &failed);
	settle(verify, image ? &image->row : NULL, failed.code ? &failed : NULL);
}

static void on_progress(void *data, uint64_t done, uint64_t total)
{
	struct verify *verify = data;

	if (verify->job)
		job_progress(verify->job, (int64_t)done, (int64_t)total);
}

static const struct bulk_ops sum_ops = {on_progress, on_summed};

static void cancel(void *data)
{
	struct verify *verify = data;

	bulk_cancel(verify->bulk);
}

/* the chain and the mode first: they cost nothing */
static int open_file(struct images *images, struct image *image, int *ret_fd, struct err *err)
{
	struct image_layer layers[QEMU_CHAIN_MAX];
	struct err found;
	size_t n;

	if (images_chain(images, &image->row, layers, &n, &found) == 0 &&
	    store_open_file(images->store, STORE_IMAGES, image->row.file, O_RDONLY, ret_fd,
			    &found) == 0)
		return 0;
	/* no file, or one that leads astray; anything else says nothing of the image */
	if (found.code != ERR_NOT_FOUND && found.code != ERR_CORRUPT &&
	    found.code != ERR_UNSUPPORTED && found.code != ERR_LIMIT) {
		if (err)
			*err = found;
		return -1;
	}
	if (images_set_broken(images, image, found.msg, err) < 0)
		return -1;
	return images_refuse_broken(images, &image->row, err);
}

static int refuse(struct images *images, const struct db_image *row, struct err *err)
{
	struct verify *verify;

	if (images_refuse_importing(row, err) < 0)
		return -1;
	if (row->sha256[0] == '\0')
		return err_set(err, ERR_UNSUPPORTED,
			       "image %s:%lld cannot be verified: no checksum was recorded when it "
			       "was made",
			       row->name, (long long)row->version);
	DL_FOREACH (images->verifies, verify)
		if (strcmp(verify->id, row->id) == 0)
			return err_set(err, ERR_BUSY,
				       "image %s:%lld is being verified already; `vdictl job list` "
				       "shows how far it is",
				       row->name, (long long)row->version);
	return 0;
}

static int start(struct images *images, struct image *image, bool scheduled,
		 const char **ret_job_id, struct err *err)
{
	_cleanup_close_ int fd = -1;

	if (refuse(images, &image->row, err) < 0 || open_file(images, image, &fd, err) < 0)
		return -1;
	struct verify *verify = mem_new(struct verify);
	*verify = (struct verify){.images = images, .fd = fd, .scheduled = scheduled};
	memcpy(verify->id, image->row.id, sizeof(verify->id));
	if (job_start(images->jobs, "image.verify", image->row.id, "bytes", cancel, verify,
		      &verify->job, err) < 0) {
		free(verify);
		return -1;
	}
	(void)TAKE_FD(fd);
	DL_APPEND(images->verifies, verify);
	verify->bulk = bulk_sha256(images->loop, verify->fd, &sum_ops, verify);
	if (scheduled)
		bulk_throttle(verify->bulk, PAUSE_MS);
	if (ret_job_id)
		*ret_job_id = job_id(verify->job);
	return 0;
}

int images_verify(struct images *images, const char *ref, const char **ret_job_id, struct err *err)
{
	const struct db_image *row = images_find(images, ref, err);

	if (!row)
		return -1;
	return start(images, images_by_id(images, row->id), false, ret_job_id, err);
}

/* ---- by the clock ---- */

static int64_t due_at(const struct verify_schedule *schedule, const struct db_image *row)
{
	int64_t last = row->verified_at > row->created_at ? row->verified_at : row->created_at;

	return last + schedule->interval_ms;
}

static struct image *find_next(const struct verify_schedule *schedule)
{
	struct image *next = NULL, *image;

	DL_FOREACH (schedule->images->list, image)
		if (image->row.state != DB_IMAGE_IMPORTING && image->row.sha256[0] &&
		    (!next || due_at(schedule, &image->row) < due_at(schedule, &next->row)))
			next = image;
	return next;
}

static void look_for_due(uv_timer_t *timer)
{
	struct verify_schedule *schedule = timer->data;
	struct image *next = find_next(schedule);
	int64_t wait = next ? due_at(schedule, &next->row) - str_now_ms() : LOOK_AGAIN_MS;
	struct err err;

	if (wait <= 0) {
		if (start(schedule->images, next, true, NULL, &err) == 0)
			return; /* its end brings us back */
		log_warn("image %s:%lld is not verified now: %s", next->row.name,
			 (long long)next->row.version, err.msg);
		/* one without a file was settled at once */
		wait = err.code == ERR_CORRUPT ? PAUSE_MS : LOOK_AGAIN_MS;
	}
	uv_timer_start(timer, look_for_due, (uint64_t)(wait < LOOK_AGAIN_MS ? wait : LOOK_AGAIN_MS),
		       0);
}

void images_verify_every(struct images *images, int64_t interval_ms)
{
	if (interval_ms <= 0)
		return;
	struct verify_schedule *schedule = mem_new(struct verify_schedule);
	schedule->images = images;
	schedule->interval_ms = interval_ms;
	uv_timer_init(images->loop, &schedule->timer);
	schedule->timer.data = schedule;
	images->schedule = schedule;
	look_for_due(&schedule->timer);
}

static void free_schedule(uv_handle_t *timer)
{
	free(timer->data);
}

void verifies_cancel(struct images *images)
{
	struct verify *verify;
	struct err err;

	if (images->schedule)
		uv_close((uv_handle_t *)&TAKE_PTR(images->schedule)->timer, free_schedule);
	err_set(&err, ERR_CANCELLED, "the daemon was stopped; verify the image again");
	DL_FOREACH (images->verifies, verify) {
		if (verify->job)
			job_fail(TAKE_PTR(verify->job), &err);
		bulk_cancel(verify->bulk);
	}
}
