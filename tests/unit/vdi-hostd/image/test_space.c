/* Levels of the store's room, what is refused below them, and how often they are told of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench.h"
#include "vdi-hostd/db/event.h"

#define GIB (1ll << 30)

static void test_levels(void **state)
{
	static const struct images_space_limits percent = {10, 5, 1024}, none = {0};
	static const struct {
		enum images_space was;
		int64_t free_mib, total_gib;
		enum images_space level;
	} rows[] = {
		{IMAGES_SPACE_OK, 102400, 1000, IMAGES_SPACE_OK},
		{IMAGES_SPACE_OK, 102399, 1000, IMAGES_SPACE_LOW},
		{IMAGES_SPACE_OK, 51199, 1000, IMAGES_SPACE_CRITICAL},
		/* it is left with a tenth more */
		{IMAGES_SPACE_LOW, 112639, 1000, IMAGES_SPACE_LOW},
		{IMAGES_SPACE_LOW, 112640, 1000, IMAGES_SPACE_OK},
		{IMAGES_SPACE_CRITICAL, 56319, 1000, IMAGES_SPACE_CRITICAL},
		{IMAGES_SPACE_CRITICAL, 56320, 1000, IMAGES_SPACE_LOW},
		{IMAGES_SPACE_CRITICAL, 102400, 1000, IMAGES_SPACE_LOW},
		{IMAGES_SPACE_CRITICAL, 112640, 1000, IMAGES_SPACE_OK},
		/* a small store has the floor */
		{IMAGES_SPACE_OK, 2048, 4, IMAGES_SPACE_OK},
		{IMAGES_SPACE_OK, 2047, 4, IMAGES_SPACE_LOW},
		{IMAGES_SPACE_OK, 1023, 4, IMAGES_SPACE_CRITICAL},
		{IMAGES_SPACE_OK, 0, 0, IMAGES_SPACE_CRITICAL},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t free_bytes = rows[i].free_mib << 20, total = rows[i].total_gib * GIB;
		assert_int_equal(images_space_level(&percent, rows[i].was, free_bytes, total),
				 rows[i].level);
		assert_int_equal(images_space_level(&none, rows[i].was, free_bytes, total),
				 IMAGES_SPACE_OK);
	}
}

struct heard {
	int n;
	char last[128];
};

static void hear(void *data, const struct db_event *event)
{
	struct heard *heard = data;

	if (strcmp(event->topic, "host") != 0)
		return;
	heard->n++;
	snprintf(heard->last, sizeof(heard->last), "%s", event->data);
}

static void turn(struct bench *bench)
{
	for (int i = 0; i < 3; i++)
		uv_run(&bench->loop, UV_RUN_NOWAIT);
}

/* A store on this host's own disk: the limits are what moves. */
static void test_told_once(void **state)
{
	static const struct images_space_limits all = {0, 0, 1 << 24}, none = {0};
	struct bench *bench = *state;
	struct heard heard = {0};
	struct err err;

	assert_int_equal(images_space(bench->images), IMAGES_SPACE_OK); /* nobody watches */
	assert_int_equal(images_space_check(bench->images, "x", &err), 0);
	for (int restart = 0; restart < 2; restart++) {
		db_event_listen(bench->db, hear, &heard);
		images_space_watch(bench->images, &all);
		turn(bench);
		assert_int_equal(images_space(bench->images), IMAGES_SPACE_CRITICAL);
		assert_int_equal(images_space_check(bench->images, "x cannot be done", &err), -1);
		assert_int_equal(err.code, ERR_LIMIT);
		assert_non_null(strstr(err.msg, "x cannot be done: "));
		assert_non_null(strstr(err.msg, "MiB more"));
		assert_non_null(strstr(err.msg, "vdictl image gc"));
		assert_int_equal(heard.n, 1);
		assert_non_null(strstr(heard.last, "space_critical"));
		bench_reopen(bench);
	}
	db_event_listen(bench->db, hear, &heard);
	images_space_watch(bench->images, &none);
	turn(bench);
	assert_int_equal(heard.n, 2);
	assert_non_null(strstr(heard.last, "space_ok"));
	assert_int_equal(images_space_check(bench->images, "x", &err), 0);
}

static void test_no_import(void **state)
{
	static const struct images_space_limits all = {0, 0, 1 << 24};
	struct bench *bench = *state;
	struct err err;

	assert_int_equal(help_run("truncate -s 1M disk.raw"), 0);
	images_space_watch(bench->images, &all);
	assert_null(bench_start(bench, "img", "disk.raw", &err));
	assert_int_equal(err.code, ERR_LIMIT);
	bench_check_clean(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)
		cmocka_unit_test(test_levels),
		TEST(test_told_once),
		TEST(test_no_import),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
