#include "base/json_fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants the four above */
#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"

struct inner {
	int64_t port;
};

static const struct json_field inner_fields[] = {
	{"port", JSON_FIELD_INT, JSON_FIELD_REQUIRED, offsetof(struct inner, port), 1, 65535},
	{},
};

static const char *const modes[] = {"graceful", "force", NULL};

struct params {
	const char *name, *image, *text, *when;
	int mode;
	int64_t count, size, plain;
	bool start;
	json_t *policy, *rules, *tags, *any;
	int untouched;
};

#define AT(member) offsetof(struct params, member)

static const struct json_field fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, AT(name), .doc = "what it is called"},
	{"image", JSON_FIELD_REF, JSON_FIELD_NULLABLE, AT(image)},
	{"text", JSON_FIELD_STRING, JSON_FIELD_SECRET, AT(text), .min = 2, .max = 4},
	{"when", JSON_FIELD_TIME, 0, AT(when)},
	{"mode", JSON_FIELD_ENUM, 0, AT(mode), .def = 1, .values = modes},
	{"count", JSON_FIELD_INT, 0, AT(count), .min = -1, .max = 9, .def = 3},
	{"size", JSON_FIELD_SIZE, 0, AT(size), .min = 512, .max = INT64_MAX, .def = 1024},
	{"plain", JSON_FIELD_INT, 0, AT(plain)},
	{"start", JSON_FIELD_BOOL, 0, AT(start), .def = 1},
	{"policy", JSON_FIELD_OBJECT, 0, AT(policy), .fields = inner_fields},
	{"rules", JSON_FIELD_ARRAY, 0, AT(rules), .max = 2, .fields = inner_fields},
	{"tags", JSON_FIELD_STRINGS, 0, AT(tags), .max = 3},
	{"any", JSON_FIELD_ANY, 0, AT(any)},
	{},
};

static int read_text(const char *text, unsigned int flags, struct params *ret, json_t **ret_obj,
		     struct err *err)
{
	*ret_obj = json_loads(text, 0, NULL);
	assert_non_null(*ret_obj);
	return json_fields_read(fields, *ret_obj, ret, flags, err);
}

static void test_all(void **state)
{
	struct params params = {.untouched = 7};
	_cleanup_json_ json_t *obj = NULL;
	assert_int_equal(
		read_text("{\"name\":\"a-1\",\"image\":\"b\",\"text\":\"abcd\",\"when\":\"now\","
			  "\"mode\":\"graceful\",\"count\":-1,\"size\":\"2G\",\"plain\":5,"
			  "\"start\":false,\"policy\":{\"port\":1},\"rules\":[{\"port\":2}],"
			  "\"tags\":[\"x\"],\"any\":null}",
			  0, &params, &obj, NULL),
		0);
	assert_string_equal(params.name, "a-1");
	assert_string_equal(params.image, "b");
	assert_string_equal(params.text, "abcd");
	assert_string_equal(params.when, "now");
	assert_int_equal(params.mode, 0);
	assert_int_equal(params.count, -1);
	assert_true(params.size == 2ll << 30);
	assert_int_equal(params.plain, 5);
	assert_false(params.start);
	assert_ptr_equal(params.policy, json_object_get(obj, "policy"));
	assert_int_equal(json_array_size(params.rules), 1);
	assert_int_equal(json_array_size(params.tags), 1);
	assert_true(json_is_null(params.any));
	assert_int_equal(params.untouched, 7);
}

static void test_defaults(void **state)
{
	struct params params;
	memset(&params, 0x55, sizeof(params));
	_cleanup_json_ json_t *obj = NULL;
	assert_int_equal(read_text("{\"name\":\"a\",\"image\":null}", 0, &params, &obj, NULL), 0);
	assert_null(params.image);
	assert_null(params.text);
	assert_null(params.when);
	assert_int_equal(params.mode, 1);
	assert_int_equal(params.count, 3);
	assert_int_equal(params.size, 1024);
	assert_int_equal(params.plain, 0);
	assert_true(params.start);
	assert_null(params.policy);
	assert_null(params.rules);
	assert_null(params.tags);
	assert_null(params.any);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *field;
	} cases[] = {
		{"{}", "name"},
		{"{\"name\":null}", "name"},
		{"{\"name\":\"A\"}", "name"},
		{"{\"name\":1}", "name"},
		{"{\"name\":\"a\",\"nmae\":1}", "nmae"},
		{"{\"name\":\"a\",\"image\":\"../x\"}", "image"},
		{"{\"name\":\"a\",\"text\":\"x\"}", "text"},
		{"{\"name\":\"a\",\"text\":\"12345\"}", "text"},
		{"{\"name\":\"a\",\"text\":null}", "text"},
		{"{\"name\":\"a\",\"mode\":\"now\"}", "mode"},
		{"{\"name\":\"a\",\"mode\":1}", "mode"},
		{"{\"name\":\"a\",\"count\":-2}", "count"},
		{"{\"name\":\"a\",\"count\":10}", "count"},
		{"{\"name\":\"a\",\"count\":1.0}", "count"},
		{"{\"name\":\"a\",\"count\":\"1\"}", "count"},
		{"{\"name\":\"a\",\"plain\":-1}", "plain"},
		{"{\"name\":\"a\",\"size\":511}", "size"},
		{"{\"name\":\"a\",\"size\":-5}", "size"},
		{"{\"name\":\"a\",\"size\":\"2X\"}", "size"},
		{"{\"name\":\"a\",\"size\":\"16777215T\"}", "size"},
		{"{\"name\":\"a\",\"size\":true}", "size"},
		{"{\"name\":\"a\",\"start\":1}", "start"},
		{"{\"name\":\"a\",\"policy\":[]}", "policy"},
		{"{\"name\":\"a\",\"policy\":{}}", "policy.port"},
		{"{\"name\":\"a\",\"policy\":{\"port\":1,\"x\":1}}", "policy.x"},
		{"{\"name\":\"a\",\"rules\":{}}", "rules"},
		{"{\"name\":\"a\",\"rules\":[1]}", "rules"},
		{"{\"name\":\"a\",\"rules\":[{\"port\":0}]}", "rules.port"},
		{"{\"name\":\"a\",\"rules\":[{\"port\":1},{\"port\":1},{\"port\":1}]}", "rules"},
		{"{\"name\":\"a\",\"tags\":[1]}", "tags"},
		{"{\"name\":\"a\",\"tags\":\"x\"}", "tags"},
		{"{\"name\":\"a\",\"tags\":[\"1\",\"2\",\"3\",\"4\"]}", "tags"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct params params, before;
		memset(&params, 0x55, sizeof(params));
		memcpy(&before, &params, sizeof(params));
		struct err err = {0};
		_cleanup_json_ json_t *obj = NULL;
		assert_int_equal(read_text(cases[i].text, 0, &params, &obj, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.field, cases[i].field);
		assert_true(err.msg[0] != '\0');
		assert_memory_equal(&params, &before, sizeof(params));
	}
}

static void test_refs(void **state)
{
	static const char *const good[] = {"a", "deb-12:1", "a:123456789",
					   "00000000-0000-4000-8000-000000000000"};
	static const char *const bad[] = {"",      ":",    ":1",           "a:",  "a:x", "a:1 ",
					  "a:1:2", "a:-1", "a:1234567890", "A:1", "/a",  "a:1/"};
	struct params params;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		_cleanup_json_ json_t *obj = json_pack("{ss ss}", "name", "a", "image", good[i]);
		assert_int_equal(json_fields_read(fields, obj, &params, 0, NULL), 0);
		assert_string_equal(params.image, good[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		_cleanup_json_ json_t *obj = json_pack("{ss ss}", "name", "a", "image", bad[i]);
		assert_int_equal(json_fields_read(fields, obj, &params, 0, NULL), -1);
	}
	char text[STR_NAME_MAX + 2];
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	_cleanup_json_ json_t *obj = json_pack("{ss ss}", "name", "a", "image", text);
	assert_int_equal(json_fields_read(fields, obj, &params, 0, NULL), -1);
}

static void test_objects_only(void **state)
{
	struct params params;
	struct err err = {0};
	static const struct json_field none[] = {{}};
	assert_int_equal(json_fields_read(fields, NULL, &params, 0, &err), -1);
	assert_string_equal(err.field, "name");
	assert_int_equal(json_fields_read(none, NULL, &params, 0, &err), 0);
	_cleanup_json_ json_t *array = json_array();
	assert_int_equal(json_fields_read(none, array, &params, 0, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
}

static void test_open(void **state)
{
	struct params params;
	_cleanup_json_ json_t *obj = NULL;
	assert_int_equal(read_text("{\"name\":\"a\",\"new\":1,\"policy\":{\"port\":1,\"new\":1}}",
				   JSON_FIELDS_OPEN, &params, &obj, NULL),
			 0);
}

/* A hostile key goes into the message whole or cut between characters, so that JSON takes it. */
static void test_hostile_key(void **state)
{
	for (size_t pad = 0; pad < 4; pad++) {
		char key[600];
		memset(key, 'a', pad);
		for (size_t i = pad; i + 2 < sizeof(key); i += 2)
			memcpy(key + i, "\xc3\xa4", 3);
		_cleanup_json_ json_t *obj = json_pack("{si}", key, 1);
		struct params params;
		struct err err = {0};
		assert_int_equal(json_fields_read(fields, obj, &params, 0, &err), -1);
		_cleanup_json_ json_t *msg = json_string(err.msg), *field = json_string(err.field);
		assert_non_null(msg);
		assert_non_null(field);
	}
}

static void assert_schema(const char *name, const char *wanted)
{
	for (const struct json_field *field = fields; field->name; field++) {
		if (strcmp(field->name, name) != 0)
			continue;
		_cleanup_json_ json_t *schema = json_field_schema(field);
		_cleanup_free_ char *text = json_dumps(schema, JSON_COMPACT);
		assert_string_equal(text, wanted);
		return;
	}
	fail_msg("no field %s", name);
}

static void test_schema(void **state)
{
	assert_schema("name", "{\"x-type\":\"name\",\"type\":\"string\","
			      "\"description\":\"what it is called\","
			      "\"pattern\":\"^[a-z0-9][a-z0-9-]{0,62}$\"}");
	assert_schema("image", "{\"x-type\":\"ref\",\"type\":[\"string\",\"null\"],"
			       "\"pattern\":\"^[a-z0-9][a-z0-9-]{0,62}(:[0-9]{1,9})?$\"}");
	assert_schema("text", "{\"x-type\":\"string\",\"type\":\"string\",\"minLength\":2,"
			      "\"maxLength\":4,\"writeOnly\":true}");
	assert_schema("mode", "{\"x-type\":\"enum\",\"type\":\"string\",\"default\":\"force\","
			      "\"enum\":[\"graceful\",\"force\"]}");
	assert_schema("count", "{\"x-type\":\"integer\",\"type\":\"integer\",\"minimum\":-1,"
			       "\"maximum\":9,\"default\":3}");
	assert_schema("size", "{\"x-type\":\"size\",\"type\":[\"integer\",\"string\"],"
			      "\"minimum\":512,\"default\":1024}");
	assert_schema("start", "{\"x-type\":\"boolean\",\"type\":\"boolean\",\"default\":true}");
	assert_schema("tags", "{\"x-type\":\"strings\",\"type\":\"array\","
			      "\"items\":{\"type\":\"string\"},\"maxItems\":3}");
	assert_schema("any", "{\"x-type\":\"any\"}");
	assert_schema("policy", "{\"x-type\":\"object\",\"type\":\"object\",\"properties\":{"
				"\"port\":{\"x-type\":\"integer\",\"type\":\"integer\","
				"\"minimum\":1,\"maximum\":65535}},"
				"\"additionalProperties\":false,\"required\":[\"port\"]}");

	_cleanup_json_ json_t *whole = json_fields_schema(fields);
	assert_int_equal(json_object_size(json_object_get(whole, "properties")), 13);
	assert_int_equal(json_array_size(json_object_get(whole, "required")), 1);
	_cleanup_json_ json_t *empty = json_fields_schema(NULL);
	assert_int_equal(json_object_size(json_object_get(empty, "properties")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),         cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_refused),     cmocka_unit_test(test_objects_only),
		cmocka_unit_test(test_refs),        cmocka_unit_test(test_open),
		cmocka_unit_test(test_hostile_key), cmocka_unit_test(test_schema),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
