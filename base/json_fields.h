/*
 * Tables of JSON fields: one table says what an object may hold, reads it into a struct, and
 * describes it as JSON Schema. Used for API parameters and results, and for what QEMU answers.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum json_field_type {
	JSON_FIELD_STRING, /* const char *; min..max bytes (max 0: 4096) */
	JSON_FIELD_NAME,   /* const char *; str_is_name() */
	JSON_FIELD_REF,    /* const char *; a name, name:version or id, wherever a thing is named */
	JSON_FIELD_ENUM,   /* int: the index in `values` */
	JSON_FIELD_INT,    /* int64_t in min..max (both 0: not negative) */
	JSON_FIELD_BOOL,   /* bool */
	JSON_FIELD_SIZE,   /* int64_t bytes in min..max; text with a suffix is taken as well */
	JSON_FIELD_TIME,   /* results only: RFC 3339 text */
	JSON_FIELD_OBJECT, /* json_t *, borrowed; `fields` describes it where set */
	JSON_FIELD_ARRAY,  /* json_t *, borrowed; `fields` describes its items where they are
			      objects;   at most `max` items (0: 1024) */
	JSON_FIELD_STRINGS, /* json_t *, borrowed: array of strings, at most `max` of them */
	JSON_FIELD_ANY,     /* json_t *, borrowed */
};

enum {
	JSON_FIELD_REQUIRED = 1 << 0,
	JSON_FIELD_NULLABLE =
		1 << 1, /* null is taken as absent (parameters), may be null (results) */
	JSON_FIELD_SECRET = 1 << 2, /* never logged, never kept */
};

/**
 * struct json_field - one row; a table ends with an empty row
 * @offset: where in the caller's struct the value goes; not used for results
 * @def:    the value of an absent INT, SIZE, BOOL or ENUM (absent strings and json_t are NULL)
 */
struct json_field {
	const char *name;
	enum json_field_type type;
	unsigned int flags;
	size_t offset;
	int64_t min, max;
	int64_t def;
	const char *const *values; /* ENUM: ends with NULL */
	const struct json_field *fields;
	const char *doc;
};

/**
 * json_fields_read() - check an object against a table and read it into a struct
 * @fields:  the table
 * @obj:     the object; NULL stands for an empty one
 * @ret:     the struct; every member named in the table is written, on success only
 * @flags:   JSON_FIELDS_OPEN lets unknown keys pass (answers of a peer that grows)
 *
 * Strings and json_t in @ret are borrowed from @obj. Errors: ERR_INVALID naming the field: unknown
 * key, missing, wrong type, out of range.
 */
int json_fields_read(const struct json_field *fields, json_t *obj, void *ret, unsigned int flags,
		     struct err *err) warn_unused;

#define JSON_FIELDS_OPEN (1u << 0)

/** json_fields_schema() - the table as a JSON Schema object (draft 7); new reference */
json_t *json_fields_schema(const struct json_field *fields);

/** json_field_schema() - the schema of one row alone; new reference */
json_t *json_field_schema(const struct json_field *field);

/** json_field_type_name() - "string", "integer", ... as documentation shows it */
const char *json_field_type_name(const struct json_field *field);
