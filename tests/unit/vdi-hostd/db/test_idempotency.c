#include "fixture.h"

#include "vdi-hostd/db/idempotency.h"

static int find(struct fixture *f, const char *caller, const char *key, const char *method,
		const char *hash, char **ret)
{
	return db_idempotency_find(f->db, caller, key, method, hash, ret, &f->err);
}

static void first_answer_is_kept(void **state)
{
	struct fixture *f = *state;
	char *answer = NULL;
	assert_fails(f, ERR_NOT_FOUND, find(f, "uid:1", "k", "a.b", "h", &answer));
	assert_works(f, db_idempotency_begin(f->db, "uid:1", "k", "a.b", "h", &f->err));
	assert_fails(f, ERR_EXISTS, db_idempotency_begin(f->db, "uid:1", "k", "a.b", "h", &f->err));
	assert_works(f, find(f, "uid:1", "k", "a.b", "h", &answer));
	assert_null(answer);
	assert_works(f, db_idempotency_finish(f->db, "uid:1", "k", "{\"x\":1}", &f->err));
	fixture_reopen(f);
	assert_works(f, find(f, "uid:1", "k", "a.b", "h", &answer));
	assert_string_equal(answer, "{\"x\":1}");
	free(TAKE_PTR(answer));
	assert_fails(f, ERR_CONFLICT, find(f, "uid:1", "k", "a.b", "other", &answer));
	assert_fails(f, ERR_CONFLICT, find(f, "uid:1", "k", "a.c", "h", &answer));
	assert_fails(f, ERR_NOT_FOUND, find(f, "uid:2", "k", "a.b", "h", &answer));
	assert_null(answer);
	assert_fails(f, ERR_NOT_FOUND, db_idempotency_finish(f->db, "uid:2", "k", "{}", &f->err));
}

static void old_and_unfinished_are_forgotten(void **state)
{
	struct fixture *f = *state;
	char *answer = NULL;
	assert_works(f, db_idempotency_begin(f->db, "uid:1", "k1", "m", "h", &f->err));
	assert_works(f, db_idempotency_begin(f->db, "uid:1", "k2", "m", "h", &f->err));
	assert_works(f, db_idempotency_finish(f->db, "uid:1", "k2", "{}", &f->err));
	assert_works(f, db_idempotency_prune(f->db, str_now_ms() - 10000, false, &f->err));
	assert_works(f, find(f, "uid:1", "k1", "m", "h", &answer));
	assert_works(f, db_idempotency_prune(f->db, str_now_ms() - 10000, true, &f->err));
	assert_fails(f, ERR_NOT_FOUND, find(f, "uid:1", "k1", "m", "h", &answer));
	assert_works(f, db_idempotency_prune(f->db, str_now_ms() + 1, false, &f->err));
	assert_fails(f, ERR_NOT_FOUND, find(f, "uid:1", "k2", "m", "h", &answer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(first_answer_is_kept),
		test_with_db(old_and_unfinished_are_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
