#include "fixture.h"

#include "vdi-hostd/db/event.h"

struct heard {
	int n;
	int64_t last;
};

static void hear(void *data, const struct db_event *event)
{
	struct heard *heard = data;
	heard->n++;
	heard->last = event->seq;
}

static int read_one(void *data, const struct db_event *event)
{
	hear(data, event);
	return 0;
}

static int append(struct fixture *f)
{
	json_t *data = json_pack("{s:s}", "name", "x");
	int result = db_event_append(f->db, "desktop", "id", data, &f->err);
	json_decref(data);
	return result;
}

static void told_once_committed(void **state)
{
	struct fixture *f = *state;
	struct heard heard = {0};
	db_event_listen(f->db, hear, &heard);
	assert_works(f, append(f));
	assert_int_equal(heard.n, 1);
	assert_works(f, db_begin(f->db, __func__, &f->err));
	assert_works(f, append(f));
	assert_works(f, append(f));
	assert_works(f, db_meta_set(f->db, "k", "v", &f->err));
	assert_int_equal(heard.n, 1);
	assert_works(f, db_commit(f->db, &f->err));
	assert_int_equal(heard.n, 3);
	assert_int_equal(heard.last, 3);
	assert_works(f, db_begin(f->db, __func__, &f->err));
	assert_works(f, append(f));
	db_rollback(f->db);
	assert_int_equal(heard.n, 3);
	assert_works(f, append(f));
	assert_int_equal(heard.n, 4);
}

static void replayed_in_order_and_pruned(void **state)
{
	struct fixture *f = *state;
	struct heard heard = {0};
	int64_t first;
	assert_works(f, db_event_first(f->db, &first, &f->err));
	assert_int_equal(first, 1);
	for (int i = 0; i < 10; i++)
		assert_works(f, append(f));
	assert_works(f, db_event_since(f->db, 4, 3, read_one, &heard, &f->err));
	assert_int_equal(heard.n, 3);
	assert_int_equal(heard.last, 7);
	assert_works(f, db_event_prune(f->db, 2, &f->err));
	assert_works(f, db_event_first(f->db, &first, &f->err));
	assert_int_equal(first, 9);
	/* a number is never used again, whatever was forgotten */
	assert_works(f, db_event_prune(f->db, 0, &f->err));
	fixture_reopen(f);
	assert_works(f, db_event_first(f->db, &first, &f->err));
	assert_int_equal(first, 11);
	assert_works(f, append(f));
	heard = (struct heard){0};
	assert_works(f, db_event_since(f->db, 0, 100, read_one, &heard, &f->err));
	assert_int_equal(heard.n, 1);
	assert_int_equal(heard.last, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(told_once_committed),
		test_with_db(replayed_in_order_and_pruned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
