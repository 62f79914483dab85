/* Methods as rpc.discover describes them; a method is its JSON object, borrowed. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/** method_find() - the method of "noun verb" or "noun group verb"; @ret_used: how many words */
json_t *method_find(json_t *discover, int n, char **words, int *ret_used);

/** method_by_name() - the method called @name, or NULL */
json_t *method_by_name(json_t *discover, const char *name);

/** method_is_under() - does the method's command begin with these words? */
bool method_is_under(json_t *method, int n, char **words);

/** method_name() - "noun.verb" */
const char *method_name(json_t *method);

/** method_command() - as it is typed, "noun verb"; the caller frees */
char *method_command(json_t *method);

/** method_has() - is it marked "job", "file", "named", "list", "mutates"? */
bool method_has(json_t *method, const char *flag);

/** method_params() - array of {"name", "required", "schema", ...} */
json_t *method_params(json_t *method);

/** method_result_has() - may its result hold this property? */
bool method_result_has(json_t *method, const char *property);

/** param_name(), param_flag() - "memory_mib"; "--memory-mib", which the caller frees */
const char *param_name(json_t *param);
char *param_flag(json_t *param);

/** param_type() - the schema's "x-type" */
const char *param_type(json_t *param);

/** param_is_required() - must it be given? */
bool param_is_required(json_t *param);

/**
 * param_short_flag() - "--memory" for memory_mib: the flag without the unit, or NULL if it has no
 * unit or the name is taken; the caller frees
 * @ret_unit: "mib", "gib", "bytes", "s" or "ms"
 */
char *param_short_flag(json_t *method, json_t *param, const char **ret_unit);
