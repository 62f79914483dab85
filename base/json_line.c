#include "base/json_line.h"

#include <stdbool.h>
#include <string.h>

/* The deepest nesting in the raw text; counting stops once it is over @most. */
static unsigned int text_depth(const char *text, size_t len, unsigned int most)
{
	unsigned int depth = 0, deepest = 0;
	bool in_string = false;
	for (size_t i = 0; i < len && deepest <= most; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > deepest)
				deepest = depth;
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return deepest;
}

/* The parser quotes what it read; only printable ASCII of it goes on into a message. */
static void make_printable(char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s >= 0x7f)
			*s = '?';
}

int json_line_parse(const char *text, size_t len, unsigned int depth, json_t **ret, struct err *err)
{
	if (text_depth(text, len, depth) > depth)
		return err_set(err, ERR_INVALID, "the JSON text nests deeper than %u levels",
			       depth);
	/* jansson lets a NUL pass that follows a number */
	if (len > 0 && memchr(text, '\0', len))
		return err_set(err, ERR_INVALID, "not a JSON text: it has a NUL byte in it");
	json_error_t fault;
	json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
	if (!value) {
		make_printable(fault.text);
		return err_set(err, ERR_INVALID, "not a JSON text: %s (at byte %d)", fault.text,
			       fault.position);
	}
	*ret = value;
	return 0;
}
