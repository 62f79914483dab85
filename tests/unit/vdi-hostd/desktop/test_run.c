/* A desktop that has a QEMU: what may be asked of it, what QEMU says, its screen. */
#include <sys/stat.h>

#include "bench.h"

typedef void (*ask_fn)(struct desktop *desktop, desktop_cb cb, void *data);

static void works(struct bench *bench, ask_fn ask, struct desktop *desktop,
		  enum desktop_state state)
{
	int ends = bench->ends;
	ask(desktop, bench_end, bench);
	bench_wait(bench, ends + 1);
	if (!bench->got)
		fail_msg("%s", bench->err.msg);
	assert_int_equal(desktop_state(desktop), state);
}

static void fails(struct bench *bench, ask_fn ask, struct desktop *desktop, enum err_code code)
{
	int ends = bench->ends;
	enum desktop_state before = desktop_state(desktop);
	ask(desktop, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_string_equal(err_code_name(bench->err.code), err_code_name(code));
	assert_int_equal(desktop_state(desktop), before);
}

static void start(struct desktop *desktop, desktop_cb cb, void *data)
{
	desktop_start(desktop, 0, cb, data);
}

static void what_may_be_asked(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	fails(bench, desktop_pause, desktop, ERR_CONFLICT);
	fails(bench, desktop_resume, desktop, ERR_CONFLICT);
	fails(bench, desktop_reset, desktop, ERR_CONFLICT);
	works(bench, desktop_make_ready, desktop, DESKTOP_RUNNING);
	works(bench, desktop_make_ready, desktop, DESKTOP_RUNNING);
	works(bench, desktop_resume, desktop, DESKTOP_RUNNING);
	works(bench, desktop_reset, desktop, DESKTOP_RUNNING);
	works(bench, desktop_pause, desktop, DESKTOP_PAUSED);
	assert_false(bench->guest_runs);
	works(bench, desktop_pause, desktop, DESKTOP_PAUSED);
	works(bench, desktop_reset, desktop, DESKTOP_PAUSED);
	fails(bench, start, desktop, ERR_CONFLICT);
	works(bench, desktop_resume, desktop, DESKTOP_RUNNING);
	assert_true(bench->guest_runs);
	works(bench, desktop_pause, desktop, DESKTOP_PAUSED);
	works(bench, desktop_make_ready, desktop, DESKTOP_RUNNING);
	/* a failed one says so */
	bench_kill(bench);
	bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
	fails(bench, desktop_pause, desktop, ERR_CONFLICT);
	fails(bench, desktop_reset, desktop, ERR_CONFLICT);
	works(bench, desktop_make_ready, desktop, DESKTOP_RUNNING);
}

static void what_qemu_refuses(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench->how = BENCH_REFUSE;
	bench->at = "stop";
	fails(bench, desktop_pause, desktop, ERR_UNAVAILABLE);
	bench->at = "system_reset";
	fails(bench, desktop_reset, desktop, ERR_UNAVAILABLE);
	works(bench, desktop_pause, desktop, DESKTOP_PAUSED);
	bench->at = "cont";
	fails(bench, desktop_resume, desktop, ERR_UNAVAILABLE);
	fails(bench, desktop_make_ready, desktop, ERR_UNAVAILABLE);
}

static void a_monitor_that_is_lost(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_hangup(bench);
	bench_until(bench, !desktop_qmp(desktop));
	/* who asks meanwhile does not keep it from coming back */
	fails(bench, desktop_pause, desktop, ERR_UNAVAILABLE);
	fails(bench, desktop_reset, desktop, ERR_UNAVAILABLE);
	bench->guest_runs = false; /* what happened while nobody listened */
	assert_int_equal(bench_hurry(bench, 100, 1000), 1);
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	assert_true(bench_process_lives(bench));
	works(bench, desktop_resume, desktop, DESKTOP_RUNNING);
}

static void a_monitor_that_talks_rubbish(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_event(bench, "{\"return\": {}, \"id\": 12345}");
	bench_until(bench, !desktop_qmp(desktop));
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "monitor is lost"));
	assert_true(bench_process_lives(bench));
	assert_int_equal(bench_hurry(bench, 100, 1000), 1);
	bench_until(bench, desktop_row(desktop)->state_reason[0] == '\0');
	works(bench, desktop_pause, desktop, DESKTOP_PAUSED);
}

static void a_full_disk_pauses(void **state)
{
	static const char full[] = "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": "
				   "\"stop\", \"nospace\": true, \"reason\": \"x\"}}";
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_event(bench, full);
	bench_event(bench, "{\"event\": \"STOP\"}");
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	bench_turn(bench, 3);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "the image store is full"));
	bench->guest_runs = false;
	bench->disk_is_full = true; /* still */
	fails(bench, desktop_resume, desktop, ERR_LIMIT);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "the image store is full"));
	bench->disk_is_full = false;
	works(bench, desktop_resume, desktop, DESKTOP_RUNNING);
	assert_string_equal(desktop_row(desktop)->state_reason, "");
	bench_event(bench, "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"stop\", "
			   "\"nospace\": false, \"reason\": \"Input/output error\"}}");
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "'Input/output error'"));
	/* in the middle of a stop it changes nothing */
	int ends = bench->ends;
	desktop_stop(desktop, false, 0, bench_end, bench);
	bench_until(bench, strstr(bench->heard, "system_powerdown"));
	bench_event(bench, full);
	bench_turn(bench, 3);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPING);
	bench_kill(bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
}

static void a_full_disk_at_the_start(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	bench->disk_is_full = true;
	works(bench, start, desktop, DESKTOP_PAUSED);
	assert_non_null(strstr(desktop_row(desktop)->state_reason, "the image store is full"));
	bench->disk_is_full = false;
	works(bench, desktop_resume, desktop, DESKTOP_RUNNING);
}

static void events_that_mean_nothing(void **state)
{
	static const char *const events[] = {
		"{\"event\": \"BLOCK_IO_ERROR\"}",
		"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"report\"}}",
		"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": 7}}",
		"{\"event\": \"RESUME\"}",
		"{\"event\": \"SHUTDOWN\"}",
		"{\"event\": \"SPICE_CONNECTED\"}",
		"{\"event\": \"\"}",
		"{\"event\": \"NEWS\", \"data\": {}}",
	};
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		bench_event(bench, events[i]);
	works(bench, desktop_reset, desktop, DESKTOP_RUNNING);
	assert_string_equal(desktop_row(desktop)->state_reason, "");
	assert_non_null(desktop_qmp(desktop));
}

static void stop_and_resume_from_elsewhere(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	bench_event(bench, "{\"event\": \"STOP\"}");
	bench_until(bench, desktop_state(desktop) == DESKTOP_PAUSED);
	bench_event(bench, "{\"event\": \"RESUME\"}");
	bench_until(bench, desktop_state(desktop) == DESKTOP_RUNNING);
	bench_event(bench, "{\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"run\"}}");
	bench_until(bench, strstr(desktop_row(desktop)->state_reason, "panicked"));
}

struct shot {
	int ends, width, height;
	size_t len;
	struct err err;
};

static void on_shot(void *data, const unsigned char *png, size_t len, int width, int height,
		    const struct err *err)
{
	struct shot *shot = data;
	shot->ends++;
	shot->len = len;
	shot->width = width;
	shot->height = height;
	shot->err = err ? *err : (struct err){0};
	assert_true(err ? !png : png != NULL);
}

static void take(struct bench *bench, struct desktop *desktop, struct shot *shot)
{
	shot->ends = 0;
	bench->removed_fds = 0;
	desktop_screenshot(desktop, on_shot, shot);
	bench_until(bench, shot->ends == 1);
}

static void a_picture(void **state)
{
	static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\5\0\0\0\3\x20rest";
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	struct shot shot;
	bench->picture = png;
	bench->picture_len = sizeof(png) - 1;
	take(bench, desktop, &shot);
	assert_int_equal(shot.err.code, 0);
	assert_int_equal(shot.len, sizeof(png) - 1);
	assert_int_equal(shot.width, 1280);
	assert_int_equal(shot.height, 800);
	bench_until(bench, bench->removed_fds == 1);
}

static void pictures_that_are_none(void **state)
{
	static const char lies[][33] = {
		"\x89PNG\r\n\x1a\n",
		"P6 1280 800 255 ..............",
		"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\0\0\3\x20rest",
		"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0\0\0\3\x20rest",
	};
	static const size_t lens[] = {8, 32, 28, 28};
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", NULL);
	struct shot shot = {0};
	desktop_screenshot(desktop, on_shot, &shot);
	assert_int_equal(shot.err.code, ERR_CONFLICT);
	works(bench, start, desktop, DESKTOP_RUNNING);
	take(bench, desktop, &shot); /* nothing is written */
	assert_int_equal(shot.err.code, ERR_CORRUPT);
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		bench->picture = lies[i];
		bench->picture_len = lens[i];
		take(bench, desktop, &shot);
		assert_int_equal(shot.err.code, ERR_CORRUPT);
		bench_until(bench, bench->removed_fds == 1);
	}
	/* larger than any screen: a file of holes costs QEMU nothing */
	bench->picture = NULL;
	bench->at = "screendump";
	bench->how = BENCH_SILENT;
	bench->heard[0] = '\0';
	shot.ends = 0;
	desktop_screenshot(desktop, on_shot, &shot);
	bench_until(bench, strstr(bench->heard, "screendump"));
	assert_int_equal(ftruncate(bench->fdset_fd, (64 << 20) + 1), 0);
	const char *id = strstr(bench->line, "\"id\":");
	char answer[64];
	snprintf(answer, sizeof(answer), "{\"return\": {}, \"id\": %ld}", atol(id + 5));
	bench_event(bench, answer);
	bench_until(bench, shot.ends == 1);
	assert_int_equal(shot.err.code, ERR_CORRUPT);
}

static void qemu_does_not_want_to(void **state)
{
	static const char *const commands[] = {"add-fd", "screendump"};
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	struct shot shot;
	bench->how = BENCH_REFUSE;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		bench->at = commands[i];
		take(bench, desktop, &shot);
		assert_int_equal(shot.err.code, ERR_UNAVAILABLE);
		bench_turn(bench, 5);
		/* what it took before is taken back */
		assert_int_equal(bench->removed_fds, i);
	}
	bench->how = BENCH_DIE;
	take(bench, desktop, &shot);
	assert_int_not_equal(shot.err.code, 0);
	bench_until(bench, desktop_state(desktop) == DESKTOP_FAILED);
}

static void the_daemon_ends_in_a_screenshot(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_run(bench, "d");
	struct shot shot = {0};
	bench->at = "screendump";
	bench->how = BENCH_SILENT;
	desktop_screenshot(desktop, on_shot, &shot);
	bench_until(bench, strstr(bench->heard, "screendump"));
	bench_stop_daemon(bench);
	assert_int_equal(shot.ends, 1);
	assert_int_equal(shot.err.code, ERR_CANCELLED);
	assert_true(bench_process_lives(bench));
}

static void an_update(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = bench_create(bench, "d", "nat");
	struct desktop_update update = {.name = "e", .autostart = -1, .restart = -1};
	struct db_desktop row;
	struct err err;
	bench_create(bench, "taken", NULL);
	assert_int_equal(desktop_update(desktop, &update, &err), 0);
	assert_true(bench_row(bench, "e", &row));
	assert_null(desktops_find(bench->all, "d", &err));
	assert_ptr_equal(desktops_find(bench->all, "e", &err), desktop);
	update.name = "taken";
	assert_int_equal(desktop_update(desktop, &update, &err), -1);
	assert_int_equal(err.code, ERR_EXISTS);
	assert_ptr_equal(desktops_find(bench->all, "e", &err), desktop);
	assert_string_equal(desktops_use_network(bench->all, BENCH_NAT), "e");
	assert_null(desktops_use_network(bench->all, BENCH_USER));
	json_t *json = desktop_to_json(desktop);
	assert_string_equal(json_string_value(json_object_get(json, "name")), "e");
	assert_string_equal(json_string_value(json_object_get(json, "state")), "stopped");
	assert_string_equal(json_string_value(json_object_get(json, "network")), "nat");
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(what_may_be_asked),
		with_bench(what_qemu_refuses),
		with_bench(a_monitor_that_is_lost),
		with_bench(a_monitor_that_talks_rubbish),
		with_bench(a_full_disk_pauses),
		with_bench(a_full_disk_at_the_start),
		with_bench(events_that_mean_nothing),
		with_bench(stop_and_resume_from_elsewhere),
		with_bench(a_picture),
		with_bench(pictures_that_are_none),
		with_bench(qemu_does_not_want_to),
		with_bench(the_daemon_ends_in_a_screenshot),
		with_bench(an_update),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
