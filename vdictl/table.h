/* Tables and "key: value" for people. */
#pragma once

#include <jansson.h>

/**
 * table_print_list() - a table of objects
 * @schema: of the array, for the order of columns; may be NULL
 * @depth: how far to the right, in steps
 *
 * Columns without a value in any row, and nested ones, are left out; on a terminal also those that
 * do not fit into its width.
 */
void table_print_list(json_t *schema, json_t *items, int depth);

/**
 * table_print_object() - "key: value" lines, nested ones indented; an array of flat objects as a
 * table
 */
void table_print_object(json_t *value, int depth);

/** table_cell() - one value as text without line ends; the caller frees */
char *table_cell(const char *key, json_t *value);
