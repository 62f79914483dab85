#include "vdictl/table.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "vdictl/text.h"

#define COLUMNS_MAX 64
#define GAP         2

static char *number_text(const char *key, json_t *value)
{
	if (json_is_real(value))
		return mem_printf("%.2f", json_real_value(value));
	if (text_ends_with(key, "_bytes"))
		return text_size(json_integer_value(value));
	return mem_printf("%lld", (long long)json_integer_value(value));
}

/* Scalars stand side by side; what nests deeper stays JSON. */
static char *array_text(json_t *array)
{
	char *ret = mem_strdup("");
	size_t i;
	json_t *item;
	json_array_foreach(array, i, item)
	{
		_cleanup_free_ char *before = ret, *cell = table_cell("", item);
		ret = mem_printf("%s%s%s", before, i ? ", " : "", cell);
	}
	if (*ret)
		return ret;
	free(ret);
	return mem_strdup("-");
}

char *table_cell(const char *key, json_t *value)
{
	if (json_is_null(value) || !value)
		return mem_strdup("-");
	if (json_is_boolean(value))
		return mem_strdup(json_is_true(value) ? "yes" : "no");
	if (json_is_string(value)) {
		char *safe = text_safe(json_string_value(value), false);
		if (*safe)
			return safe;
		free(safe);
		return mem_strdup("-");
	}
	if (json_is_number(value))
		return number_text(key, value);
	if (json_is_array(value))
		return array_text(value);
	_cleanup_free_ char *json = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	return text_safe(json ? json : "?", false);
}

struct table {
	int indent;
	const char *keys[COLUMNS_MAX];
	size_t widths[COLUMNS_MAX];
	size_t n;
};

static bool is_empty(json_t *value)
{
	return !value || json_is_null(value) ||
	       (json_is_string(value) && json_string_length(value) == 0);
}

static bool nests(json_t *value)
{
	return json_is_object(value) ||
	       (json_is_array(value) && json_is_object(json_array_get(value, 0)));
}

/* Worth a column: somewhere a value, nowhere an object. */
static bool is_wanted(const char *key, json_t *items)
{
	bool some = false;
	size_t i;
	json_t *item;
	json_array_foreach(items, i, item)
	{
		json_t *value = json_object_get(item, key);
		if (nests(value))
			return false;
		some = some || !is_empty(value);
	}
	return some;
}

static char *heading(const char *key)
{
	size_t len = strlen(key);
	char *ret = mem_strndup(key, text_ends_with(key, "_bytes") ? len - strlen("_bytes") : len);
	for (char *c = ret; *c; c++)
		*c = *c == '_' ? ' ' : (char)toupper((unsigned char)*c);
	char *safe = text_safe(ret, false);
	free(ret);
	return safe;
}

static void choose_columns(struct table *table, json_t *schema, json_t *items)
{
	json_t *properties = json_object_get(json_object_get(schema, "items"), "properties");
	json_t *order = json_object_size(properties) ? properties : json_array_get(items, 0);
	bool named = is_wanted("name", items);
	const char *key;
	json_t *ignored;
	json_object_foreach(order, key, ignored)
	{
		if (table->n == COLUMNS_MAX || (named && strcmp(key, "id") == 0))
			continue;
		if (is_wanted(key, items))
			table->keys[table->n++] = key;
	}
}

static void measure(struct table *table, json_t *items)
{
	for (size_t c = 0; c < table->n; c++) {
		_cleanup_free_ char *head = heading(table->keys[c]);
		table->widths[c] = text_width(head);
		size_t i;
		json_t *item;
		json_array_foreach(items, i, item)
		{
			_cleanup_free_ char *cell =
				table_cell(table->keys[c], json_object_get(item, table->keys[c]));
			size_t width = text_width(cell);
			if (width > table->widths[c])
				table->widths[c] = width;
		}
	}
}

static void fit_terminal(struct table *table)
{
	struct winsize size;
	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ||
	    size.ws_col == 0)
		return;
	size_t width = (size_t)table->indent, n = 0;
	for (; n < table->n; n++) {
		width += table->widths[n] + (n ? GAP : 0);
		if (n > 0 && width > size.ws_col)
			break;
	}
	table->n = n;
}

static void print_cell(const struct table *table, size_t column, const char *text)
{
	bool last = column + 1 == table->n;
	if (column == 0)
		printf("%*s", table->indent, "");
	text_print_padded(stdout, text, last ? 0 : table->widths[column] + GAP);
	if (last)
		putchar('\n');
}

/* a table would leave out what nests deeper */
static bool is_flat(json_t *items)
{
	size_t i;
	json_t *item, *value;
	const char *key;
	json_array_foreach(items, i, item)
	{
		if (!json_is_object(item))
			return false;
		json_object_foreach(item, key, value)
		{
			if (nests(value))
				return false;
		}
	}
	return true;
}

void table_print_list(json_t *schema, json_t *items, int depth)
{
	struct table table = {.indent = 2 * depth};
	choose_columns(&table, schema, items);
	measure(&table, items);
	fit_terminal(&table);
	if (json_array_size(items) == 0)
		return;
	for (size_t c = 0; c < table.n; c++) {
		_cleanup_free_ char *head = heading(table.keys[c]);
		print_cell(&table, c, head);
	}
	size_t i;
	json_t *item;
	json_array_foreach(items, i, item)
	{
		for (size_t c = 0; c < table.n; c++) {
			_cleanup_free_ char *cell =
				table_cell(table.keys[c], json_object_get(item, table.keys[c]));
			print_cell(&table, c, cell);
		}
	}
}

static void print_member(const char *key, json_t *value, int depth)
{
	_cleanup_free_ char *safe = text_safe(key, false);
	printf("%*s%s:", 2 * depth, "", safe);
	if (json_is_object(value) && json_object_size(value) > 0) {
		putchar('\n');
		table_print_object(value, depth + 1);
		return;
	}
	if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
		putchar('\n');
		if (is_flat(value)) {
			table_print_list(NULL, value, depth + 1);
			return;
		}
		size_t i;
		json_t *item;
		json_array_foreach(value, i, item)
		{
			_cleanup_free_ char *line = table_cell("", item);
			printf("%*s%s\n", 2 * depth + 2, "", line);
		}
		return;
	}
	_cleanup_free_ char *cell = table_cell(key, value);
	printf(" %s\n", cell);
}

void table_print_object(json_t *value, int depth)
{
	const char *key;
	json_t *member;
	if (!json_is_object(value)) {
		_cleanup_free_ char *cell = table_cell("", value);
		if (!json_is_null(value))
			printf("%s\n", cell);
		return;
	}
	json_object_foreach(value, key, member) print_member(key, member, depth);
}
