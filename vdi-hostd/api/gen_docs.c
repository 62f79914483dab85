/*
 * docs/api.md out of the method tables. usage: gen_docs write|check PREAMBLE API_MD
 * "check" exits 1 when the file is not what "write" would write.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/api/server.h"

#include "base/mem.h"

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static void print_enum(FILE *out, const json_t *values)
{
	size_t i;
	json_t *value;
	json_array_foreach(values, i, value)
	{
		if (json_is_string(value))
			fprintf(out, "%s`%s`", i ? " " : "", json_string_value(value));
	}
}

static bool is_nullable(const json_t *schema)
{
	size_t i;
	json_t *name;
	json_array_foreach(json_object_get(schema, "type"), i, name)
	{
		if (strcmp(json_string_value(name), "null") == 0)
			return true;
	}
	return false;
}

static void print_default(FILE *out, const json_t *value)
{
	if (json_is_string(value))
		fprintf(out, ", default `%s`", json_string_value(value));
	else if (json_is_integer(value))
		fprintf(out, ", default %" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (value)
		fprintf(out, ", default %s", json_is_true(value) ? "true" : "false");
}

static void print_type(FILE *out, const json_t *schema)
{
	const json_t *values = json_object_get(schema, "enum");
	const json_t *min = json_object_get(schema, "minimum");
	const json_t *max = json_object_get(schema, "maximum");
	if (values)
		print_enum(out, values);
	else
		fputs(text_of(schema, "x-type"), out);
	if (max)
		fprintf(out, ", %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT,
			json_integer_value(min), json_integer_value(max));
	else if (json_integer_value(min) > 0)
		fprintf(out, ", at least %" JSON_INTEGER_FORMAT, json_integer_value(min));
	print_default(out, json_object_get(schema, "default"));
	if (is_nullable(schema))
		fputs(", or null", out);
}

static void print_params(FILE *out, const json_t *params)
{
	size_t i;
	json_t *param;
	if (json_array_size(params) == 0)
		return;
	fputs("\n| parameter | type | |\n|---|---|---|\n", out);
	json_array_foreach(params, i, param)
	{
		bool required = json_is_true(json_object_get(param, "required"));
		fprintf(out, "| `%s`%s | ", text_of(param, "name"), required ? " (required)" : "");
		print_type(out, json_object_get(param, "schema"));
		fprintf(out, " | %s |\n", text_of(param, "description"));
	}
}

static void print_result(FILE *out, const json_t *schema, bool is_list)
{
	const char *name;
	json_t *field;
	if (is_list)
		schema = json_object_get(
			json_object_get(json_object_get(schema, "properties"), "items"), "items");
	json_t *fields = json_object_get(schema, "properties");
	if (json_object_size(fields) == 0)
		return;
	fprintf(out, "\n| %s | type | |\n|---|---|---|\n", is_list ? "of each item" : "result");
	json_object_foreach(fields, name, field)
	{
		fprintf(out, "| `%s` | ", name);
		print_type(out, field);
		fprintf(out, " | %s |\n", text_of(field, "description"));
	}
}

static void print_method(FILE *out, const json_t *method)
{
	size_t i;
	json_t *flag;
	bool is_list = false;
	fprintf(out, "\n### %s\n\n%s\n\nRole: `%s`.", text_of(method, "name"),
		text_of(method, "summary"), text_of(method, "x-role"));
	json_array_foreach(json_object_get(method, "x-flags"), i, flag)
	{
		const char *name = json_string_value(flag);
		is_list |= strcmp(name, "list") == 0;
		if (strcmp(name, "named") != 0) /* concerns vdictl alone */
			fprintf(out, " *%s*", name);
	}
	fputs("\n", out);
	print_params(out, json_object_get(method, "params"));
	print_result(out, json_object_get(json_object_get(method, "result"), "schema"), is_list);
}

/* The methods, under a heading for each noun. */
static void print_methods(FILE *out, const json_t *methods)
{
	size_t i;
	json_t *method;
	char noun[64] = "";
	json_array_foreach(methods, i, method)
	{
		const char *name = text_of(method, "name");
		size_t len = strcspn(name, ".");
		if (strncmp(noun, name, len) != 0 || noun[len] != '\0') {
			snprintf(noun, sizeof(noun), "%.*s", (int)len, name);
			fprintf(out, "\n## %s\n", noun);
		}
		print_method(out, method);
	}
}

/* A whole file; NULL if it cannot be read. */
static char *read_file(const char *path, size_t *ret_len)
{
	FILE *in = fopen(path, "re");
	char *text = NULL;
	size_t len = 0, n = 1;
	if (!in)
		return NULL;
	while (n > 0) {
		text = mem_realloc(text, len + 4096, 1);
		n = fread(text + len, 1, 4096, in);
		len += n;
	}
	fclose(in);
	*ret_len = len;
	return text;
}

static int write_file(const char *path, const char *text, size_t len)
{
	FILE *out = fopen(path, "we");
	if (!out)
		return -1;
	size_t written = fwrite(text, 1, len, out);
	return fclose(out) != 0 || written != len ? -1 : 0;
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *text = NULL, *preamble = NULL, *there = NULL;
	size_t len, preamble_len, there_len = 0;
	if (argc != 4) {
		fputs("usage: gen_docs write|check PREAMBLE API_MD\n", stderr);
		return 2;
	}
	preamble = read_file(argv[2], &preamble_len);
	FILE *out = open_memstream(&text, &len);
	if (!preamble || !out) {
		perror(argv[2]);
		return 2;
	}
	json_t *document = api_discover(api_tables);
	fwrite(preamble, 1, preamble_len, out);
	fputs("# Methods\n", out);
	print_methods(out, json_object_get(document, "methods"));
	fclose(out);
	json_decref(document);
	if (strcmp(argv[1], "write") == 0) {
		if (write_file(argv[3], text, len) == 0)
			return 0;
		perror(argv[3]);
		return 2;
	}
	there = read_file(argv[3], &there_len);
	if (there && there_len == len && memcmp(there, text, len) == 0)
		return 0;
	fprintf(stderr, "%s is stale: run `meson compile docs` and commit it\n", argv[3]);
	return 1;
}
