#include "vdi-hostd/broker/private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char first_desktop[STR_UUID_LEN + 1] = "11111111-1111-4111-8111-111111111111";
static const char second_desktop[STR_UUID_LEN + 1] = "22222222-2222-4222-8222-222222222222";

static int setup(void **state)
{
	struct broker *broker = mem_new(struct broker);
	broker->ttl_s = 60;
	*state = broker;
	return 0;
}

static int teardown(void **state)
{
	tickets_free(*state);
	free(*state);
	return 0;
}

static void assert_denied(struct broker *broker, const char *token)
{
	struct err err = {0};
	assert_null(ticket_find(broker, token, &err));
	assert_int_equal(err.code, ERR_DENIED);
	assert_true(err.msg[0]);
}

static void found_by_its_token_alone(void **state)
{
	struct broker *broker = *state;
	struct err err;
	char token[TICKET_TOKEN_LEN + 1];
	const struct ticket *ticket = ticket_new(broker, first_desktop);
	assert_int_equal(strlen(ticket->token), TICKET_TOKEN_LEN);
	assert_true(ticket->expires_at > str_now_ms() + 50000);
	assert_ptr_equal(ticket_find(broker, ticket->token, &err), ticket);
	assert_ptr_equal(ticket_find(broker, ticket->token, &err), ticket); /* each channel asks */
	assert_string_equal(ticket->desktop_id, first_desktop);
	memcpy(token, ticket->token, sizeof(token));
	token[0] = token[0] == '0' ? '1' : '0';
	assert_denied(broker, token);
	assert_denied(broker, "");
	assert_denied(broker, first_desktop);
}

static void a_desktop_has_one(void **state)
{
	struct broker *broker = *state;
	struct err err;
	char old[TICKET_TOKEN_LEN + 1];
	const struct ticket *other = ticket_new(broker, second_desktop);
	memcpy(old, ticket_new(broker, first_desktop)->token, sizeof(old));
	const struct ticket *fresh = ticket_new(broker, first_desktop);
	assert_string_not_equal(old, fresh->token);
	assert_denied(broker, old);
	assert_ptr_equal(ticket_find(broker, fresh->token, &err), fresh);
	assert_ptr_equal(ticket_find(broker, other->token, &err), other);
	for (int i = 0; i < 1000; i++)
		ticket_new(broker, first_desktop);
	assert_int_equal(HASH_COUNT(broker->tickets), 2);
}

static void expires(void **state)
{
	struct broker *broker = *state;
	char token[TICKET_TOKEN_LEN + 1];
	broker->ttl_s = 0;
	memcpy(token, ticket_new(broker, first_desktop)->token, sizeof(token));
	assert_denied(broker, token);
	assert_null(broker->tickets); /* forgotten as it was asked for */
	/* those that nobody asks for go with the next that is made */
	ticket_new(broker, first_desktop);
	broker->ttl_s = 60;
	ticket_new(broker, second_desktop);
	assert_int_equal(HASH_COUNT(broker->tickets), 1);
}

#define with_broker(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_broker(found_by_its_token_alone),
		with_broker(a_desktop_has_one),
		with_broker(expires),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
