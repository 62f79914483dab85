#include "vdictl/method.h"

#include <string.h>

#include "base/mem.h"
#include "vdictl/text.h"

const char *method_name(json_t *method)
{
	const char *name = json_string_value(json_object_get(method, "name"));
	return name ? name : "";
}

char *method_command(json_t *method)
{
	_cleanup_free_ char *spaced = text_swap(method_name(method), '.', ' ');
	return text_swap(spaced, '_', '-');
}

json_t *method_by_name(json_t *discover, const char *name)
{
	size_t i;
	json_t *method;
	json_array_foreach(json_object_get(discover, "methods"), i, method)
	{
		if (strcmp(method_name(method), name) == 0)
			return method;
	}
	return NULL;
}

/* How many of the words name the method, or 0 if they do not name all of it. */
static int words_naming(json_t *method, int n, char **words)
{
	_cleanup_free_ char *command = method_command(method);
	char *rest = NULL;
	int used = 0;
	for (char *part = strtok_r(command, " ", &rest); part; part = strtok_r(NULL, " ", &rest)) {
		if (used == n)
			return 0;
		_cleanup_free_ char *word = text_swap(words[used], '_', '-');
		if (strcmp(word, part) != 0)
			return 0;
		used++;
	}
	return used;
}

json_t *method_find(json_t *discover, int n, char **words, int *ret_used)
{
	json_t *found = NULL, *method;
	int most = 0;
	size_t i;
	json_array_foreach(json_object_get(discover, "methods"), i, method)
	{
		int used = words_naming(method, n, words);
		if (used > most) {
			most = used;
			found = method;
		}
	}
	if (found)
		*ret_used = most;
	return found;
}

bool method_is_under(json_t *method, int n, char **words)
{
	_cleanup_free_ char *command = method_command(method);
	char *rest = NULL, *part = strtok_r(command, " ", &rest);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *word = text_swap(words[i], '_', '-');
		if (!part || strcmp(word, part) != 0)
			return false;
		part = strtok_r(NULL, " ", &rest);
	}
	return true;
}

bool method_has(json_t *method, const char *flag)
{
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(method, "x-flags"), i, one)
	{
		if (json_is_string(one) && strcmp(json_string_value(one), flag) == 0)
			return true;
	}
	return false;
}

json_t *method_params(json_t *method)
{
	return json_object_get(method, "params");
}

bool method_result_has(json_t *method, const char *property)
{
	json_t *schema = json_object_get(json_object_get(method, "result"), "schema");
	return json_object_get(json_object_get(schema, "properties"), property) != NULL;
}

const char *param_name(json_t *param)
{
	const char *name = json_string_value(json_object_get(param, "name"));
	return name ? name : "";
}

char *param_flag(json_t *param)
{
	_cleanup_free_ char *dashed = text_swap(param_name(param), '_', '-');
	return mem_printf("--%s", dashed);
}

const char *param_type(json_t *param)
{
	json_t *type = json_object_get(json_object_get(param, "schema"), "x-type");
	return json_is_string(type) ? json_string_value(type) : "any";
}

bool param_is_required(json_t *param)
{
	return json_is_true(json_object_get(param, "required"));
}

char *param_short_flag(json_t *method, json_t *param, const char **ret_unit)
{
	static const char *const units[] = {"mib", "gib", "bytes", "ms", "s"};
	const char *type = param_type(param), *unit = NULL;
	if (strcmp(type, "integer") != 0 && strcmp(type, "size") != 0)
		return NULL;
	_cleanup_free_ char *flag = param_flag(param);
	for (size_t i = 0; i < ARRAY_LEN(units) && !unit; i++) {
		_cleanup_free_ char *end = mem_printf("-%s", units[i]);
		if (!text_ends_with(flag, end))
			continue;
		unit = units[i];
		flag[strlen(flag) - strlen(end)] = '\0';
	}
	if (!unit)
		return NULL;
	size_t i;
	json_t *other;
	json_array_foreach(method_params(method), i, other)
	{
		_cleanup_free_ char *taken = param_flag(other);
		if (strcmp(taken, flag) == 0)
			return NULL;
	}
	*ret_unit = unit;
	return TAKE_PTR(flag);
}
