#include "base/json_fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define STRING_MAX 4096
#define ITEMS_MAX  1024

/* What a type is called: in JSON Schema, in our "x-type", and in documentation. */
static const struct {
	const char *schema, *own, *doc;
} types[] = {
	[JSON_FIELD_STRING] = {"string", "string", "string"},
	[JSON_FIELD_NAME] = {"string", "name", "name"},
	[JSON_FIELD_REF] = {"string", "ref", "name or id"},
	[JSON_FIELD_ENUM] = {"string", "enum", "enum"},
	[JSON_FIELD_INT] = {"integer", "integer", "integer"},
	[JSON_FIELD_BOOL] = {"boolean", "boolean", "boolean"},
	[JSON_FIELD_SIZE] = {"integer", "size", "size"},
	[JSON_FIELD_TIME] = {"string", "time", "time"},
	[JSON_FIELD_OBJECT] = {"object", "object", "object"},
	[JSON_FIELD_ARRAY] = {"array", "array", "array"},
	[JSON_FIELD_STRINGS] = {"array", "strings", "array of strings"},
	[JSON_FIELD_ANY] = {NULL, "any", "any"},
};

_Static_assert(ARRAY_LEN(types) == JSON_FIELD_ANY + 1, "a type lacks its names");

static bool is_nullable(const struct json_field *field)
{
	return field->flags & JSON_FIELD_NULLABLE;
}

static int64_t most_bytes(const struct json_field *field)
{
	return field->max > 0 ? field->max : STRING_MAX;
}

static int64_t most_items(const struct json_field *field)
{
	return field->max > 0 ? field->max : ITEMS_MAX;
}

static void int_range(const struct json_field *field, int64_t *ret_min, int64_t *ret_max)
{
	bool unset = field->min == 0 && field->max == 0;
	*ret_min = field->min;
	*ret_max = unset ? INT64_MAX : field->max;
}

static int wrong_type(const struct json_field *field, const char *wanted, struct err *err)
{
	return err_set_field(err, field->name, "%s must be %s", field->name, wanted);
}

static int check_range(const struct json_field *field, int64_t value, struct err *err)
{
	int64_t min, max;
	int_range(field, &min, &max);
	if (value >= min && value <= max)
		return 0;
	if (max == INT64_MAX)
		return err_set_field(err, field->name, "%s must be at least %" PRId64, field->name,
				     min);
	return err_set_field(err, field->name, "%s must be from %" PRId64 " to %" PRId64,
			     field->name, min, max);
}

/* A size is a number of bytes, or text such as "2G". */
static int read_size(const struct json_field *field, json_t *value, int64_t *ret, struct err *err)
{
	uint64_t bytes;
	if (json_is_integer(value)) {
		*ret = json_integer_value(value);
		return 0;
	}
	if (!json_is_string(value) || str_parse_size(json_string_value(value), &bytes) < 0 ||
	    bytes > INT64_MAX)
		return wrong_type(field, "a size: bytes, or text such as \"512M\" or \"2G\"", err);
	*ret = (int64_t)bytes;
	return 0;
}

static int read_enum(const struct json_field *field, json_t *value, int *ret, struct err *err)
{
	const char *text = json_string_value(value);
	char known[128] = "";
	size_t n = 0;
	for (int i = 0; field->values[i]; i++) {
		if (text && strcmp(field->values[i], text) == 0) {
			*ret = i;
			return 0;
		}
		if (n < sizeof(known))
			n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "",
					      field->values[i]);
	}
	return err_set_field(err, field->name, "%s must be one of: %s", field->name, known);
}

/* A name or an id (which has the form of a name, too); of what has versions also "name:3". */
static bool is_ref(const char *s)
{
	enum { DIGITS_MAX = 9 };
	char name[STR_NAME_MAX + 1];
	size_t len = strcspn(s, ":");
	if (len >= sizeof(name))
		return false;
	memcpy(name, s, len);
	name[len] = '\0';
	if (!str_is_name(name) || !s[len])
		return str_is_name(name);
	size_t digits = strspn(s + len + 1, "0123456789");
	return digits >= 1 && digits <= DIGITS_MAX && s[len + 1 + digits] == '\0';
}

static int check_string(const struct json_field *field, json_t *value, struct err *err)
{
	if (!json_is_string(value))
		return wrong_type(field, "a string", err);
	int64_t len = (int64_t)json_string_length(value);
	if (len < field->min || len > most_bytes(field))
		return err_set_field(err, field->name,
				     "%s must have %" PRId64 " to %" PRId64 " bytes", field->name,
				     field->min, most_bytes(field));
	return 0;
}

static int check_fields(const struct json_field *fields, json_t *obj, unsigned int flags,
			struct err *err);

/* A fault inside names its way: "forward.port". */
static int check_nested(const struct json_field *field, json_t *value, unsigned int flags,
			struct err *err)
{
	if (!field->fields)
		return 0;
	struct err inner = {0};
	if (check_fields(field->fields, value, flags, &inner) == 0)
		return 0;
	char path[2 * ERR_FIELD_MAX];
	snprintf(path, sizeof(path), "%.*s.%s", ERR_FIELD_MAX - 1, field->name, inner.field);
	return err_set_field(err, path, "in %s: %s", field->name, inner.msg);
}

static int check_array(const struct json_field *field, json_t *value, unsigned int flags,
		       struct err *err)
{
	bool strings = field->type == JSON_FIELD_STRINGS;
	if (!json_is_array(value))
		return wrong_type(field, strings ? "an array of strings" : "an array", err);
	if ((int64_t)json_array_size(value) > most_items(field))
		return err_set_field(err, field->name, "%s takes at most %" PRId64 " items",
				     field->name, most_items(field));
	size_t i;
	json_t *item;
	json_array_foreach(value, i, item)
	{
		if (strings && (!json_is_string(item) || json_string_length(item) > STRING_MAX))
			return err_set_field(err, field->name,
					     "each item of %s must be a string of at most %d bytes",
					     field->name, STRING_MAX);
		if (strings || !field->fields)
			continue;
		if (!json_is_object(item))
			return wrong_type(field, "an array of objects", err);
		if (check_nested(field, item, flags, err) < 0)
			return -1;
	}
	return 0;
}

static int check_value(const struct json_field *field, json_t *value, unsigned int flags,
		       struct err *err)
{
	int64_t number = 0;
	int index;

	switch (field->type) {
	case JSON_FIELD_STRING:
	case JSON_FIELD_TIME:
		return check_string(field, value, err);
	case JSON_FIELD_NAME:
		if (!json_is_string(value) || !str_is_name(json_string_value(value)))
			return wrong_type(field,
					  "a name: 1 to 63 of a-z, 0-9 and -, not beginning with -",
					  err);
		return 0;
	case JSON_FIELD_REF:
		if (!json_is_string(value) || !is_ref(json_string_value(value)))
			return wrong_type(field, "a name, a name:version or an id", err);
		return 0;
	case JSON_FIELD_ENUM:
		return read_enum(field, value, &index, err);
	case JSON_FIELD_INT:
		if (!json_is_integer(value))
			return wrong_type(field, "a whole number", err);
		return check_range(field, json_integer_value(value), err);
	case JSON_FIELD_BOOL:
		return json_is_boolean(value) ? 0 : wrong_type(field, "true or false", err);
	case JSON_FIELD_SIZE:
		if (read_size(field, value, &number, err) < 0)
			return -1;
		return check_range(field, number, err);
	case JSON_FIELD_OBJECT:
		if (!json_is_object(value))
			return wrong_type(field, "an object", err);
		return check_nested(field, value, flags, err);
	case JSON_FIELD_ARRAY:
	case JSON_FIELD_STRINGS:
		return check_array(field, value, flags, err);
	case JSON_FIELD_ANY:
		return 0;
	}
	return err_set(err, ERR_INTERNAL, "the field %s has no type", field->name);
}

static const struct json_field *find_field(const struct json_field *fields, const char *name)
{
	for (const struct json_field *field = fields; field->name; field++)
		if (strcmp(field->name, name) == 0)
			return field;
	return NULL;
}

/* The value of a field in @obj, or NULL where it is absent. */
static json_t *present(const struct json_field *field, json_t *obj)
{
	json_t *value = json_object_get(obj, field->name);
	return json_is_null(value) && is_nullable(field) ? NULL : value;
}

static int check_fields(const struct json_field *fields, json_t *obj, unsigned int flags,
			struct err *err)
{
	if (obj && !json_is_object(obj))
		return err_set(err, ERR_INVALID, "an object is wanted here");
	const char *key;
	json_t *value;
	if (!(flags & JSON_FIELDS_OPEN)) {
		json_object_foreach(obj, key, value)
		{
			if (!find_field(fields, key))
				return err_set_field(err, key, "unknown key \"%s\"", key);
		}
	}
	for (const struct json_field *field = fields; field->name; field++) {
		value = present(field, obj);
		if (value) {
			if (check_value(field, value, flags, err) < 0)
				return -1;
		} else if (field->flags & JSON_FIELD_REQUIRED) {
			/* of a required field, null is a value if it may be null */
			if (is_nullable(field) && json_object_get(obj, field->name))
				continue;
			return err_set_field(err, field->name, "%s is missing", field->name);
		}
	}
	return 0;
}

/* @value passed check_value(), or is NULL. */
static void write_value(const struct json_field *field, json_t *value, void *at)
{
	int64_t number = field->def;
	int index = (int)field->def;

	switch (field->type) {
	case JSON_FIELD_STRING:
	case JSON_FIELD_NAME:
	case JSON_FIELD_REF:
	case JSON_FIELD_TIME:
		*(const char **)at = json_string_value(value);
		return;
	case JSON_FIELD_ENUM:
		if (value && read_enum(field, value, &index, NULL) < 0)
			return;
		*(int *)at = index;
		return;
	case JSON_FIELD_INT:
		*(int64_t *)at = value ? json_integer_value(value) : number;
		return;
	case JSON_FIELD_BOOL:
		*(bool *)at = value ? json_is_true(value) : number != 0;
		return;
	case JSON_FIELD_SIZE:
		if (value && read_size(field, value, &number, NULL) < 0)
			return;
		*(int64_t *)at = number;
		return;
	case JSON_FIELD_OBJECT:
	case JSON_FIELD_ARRAY:
	case JSON_FIELD_STRINGS:
	case JSON_FIELD_ANY:
		*(json_t **)at = value;
		return;
	}
}

int json_fields_read(const struct json_field *fields, json_t *obj, void *ret, unsigned int flags,
		     struct err *err)
{
	if (check_fields(fields, obj, flags, err) < 0)
		return -1;
	for (const struct json_field *field = fields; field->name; field++)
		write_value(field, present(field, obj), (char *)ret + field->offset);
	return 0;
}

const char *json_field_type_name(const struct json_field *field)
{
	return types[field->type].doc;
}

static void set_int(json_t *schema, const char *key, int64_t value)
{
	json_object_set_new(schema, key, json_integer(value));
}

static void describe_type(const struct json_field *field, json_t *schema)
{
	const char *type = types[field->type].schema;
	bool text_too = field->type == JSON_FIELD_SIZE;
	json_object_set_new(schema, "x-type", json_string(types[field->type].own));
	if (!type)
		return;
	if (!text_too && !is_nullable(field)) {
		json_object_set_new(schema, "type", json_string(type));
		return;
	}
	json_t *any_of = json_pack("[s]", type);
	if (text_too)
		json_array_append_new(any_of, json_string("string"));
	if (is_nullable(field))
		json_array_append_new(any_of, json_string("null"));
	json_object_set_new(schema, "type", any_of);
}

static void describe_enum(const struct json_field *field, json_t *schema)
{
	json_t *values = json_array();
	for (int i = 0; field->values[i]; i++) {
		json_array_append_new(values, json_string(field->values[i]));
		if (field->def == i && i > 0)
			json_object_set_new(schema, "default", json_string(field->values[i]));
	}
	if (is_nullable(field))
		json_array_append_new(values, json_null());
	json_object_set_new(schema, "enum", values);
}

static void describe_range(const struct json_field *field, json_t *schema)
{
	int64_t min, max;
	int_range(field, &min, &max);
	set_int(schema, "minimum", min);
	if (max != INT64_MAX)
		set_int(schema, "maximum", max);
	if (field->def)
		set_int(schema, "default", field->def);
}

static void describe_bounds(const struct json_field *field, json_t *schema)
{
	switch (field->type) {
	case JSON_FIELD_STRING:
		if (field->min > 0)
			set_int(schema, "minLength", field->min);
		set_int(schema, "maxLength", most_bytes(field));
		return;
	case JSON_FIELD_NAME:
		json_object_set_new(schema, "pattern", json_string("^[a-z0-9][a-z0-9-]{0,62}$"));
		return;
	case JSON_FIELD_REF:
		json_object_set_new(schema, "pattern",
				    json_string("^[a-z0-9][a-z0-9-]{0,62}(:[0-9]{1,9})?$"));
		return;
	case JSON_FIELD_ENUM:
		describe_enum(field, schema);
		return;
	case JSON_FIELD_INT:
	case JSON_FIELD_SIZE:
		describe_range(field, schema);
		return;
	case JSON_FIELD_BOOL:
		if (field->def)
			json_object_set_new(schema, "default", json_true());
		return;
	case JSON_FIELD_TIME:
		json_object_set_new(schema, "format", json_string("date-time"));
		return;
	case JSON_FIELD_OBJECT:
		if (field->fields)
			json_object_update_missing_new(schema, json_fields_schema(field->fields));
		return;
	case JSON_FIELD_ARRAY:
		if (field->fields)
			json_object_set_new(schema, "items", json_fields_schema(field->fields));
		set_int(schema, "maxItems", most_items(field));
		return;
	case JSON_FIELD_STRINGS:
		json_object_set_new(schema, "items", json_pack("{ss}", "type", "string"));
		set_int(schema, "maxItems", most_items(field));
		return;
	case JSON_FIELD_ANY:
		return;
	}
}

json_t *json_field_schema(const struct json_field *field)
{
	json_t *schema = json_object();
	describe_type(field, schema);
	if (field->doc)
		json_object_set_new(schema, "description", json_string(field->doc));
	describe_bounds(field, schema);
	if (field->flags & JSON_FIELD_SECRET)
		json_object_set_new(schema, "writeOnly", json_true());
	return schema;
}

json_t *json_fields_schema(const struct json_field *fields)
{
	json_t *properties = json_object(), *required = json_array();
	for (const struct json_field *field = fields; field && field->name; field++) {
		json_object_set_new(properties, field->name, json_field_schema(field));
		if (field->flags & JSON_FIELD_REQUIRED)
			json_array_append_new(required, json_string(field->name));
	}
	json_t *schema = json_pack("{ss so sb}", "type", "object", "properties", properties,
				   "additionalProperties", 0);
	if (json_array_size(required) > 0)
		json_object_set(schema, "required", required);
	json_decref(required);
	return schema;
}
