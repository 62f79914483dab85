/* Text for people's eyes, made harmless for their terminals. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/**
 * text_safe() - a copy in which what could steer a terminal or reorder its text stands as \xNN or
 * \u{NNNN}; the caller frees
 * @lines: let newlines and tabs pass
 */
char *text_safe(const char *s, bool lines);

/** text_width() - characters, not bytes */
size_t text_width(const char *s);

/** text_print_padded() - print, then blanks up to @width */
void text_print_padded(FILE *file, const char *s, size_t width);

/** text_size() - bytes as "1.5 GiB"; the caller frees */
char *text_size(int64_t bytes);

/** text_ends_with() - does @s end with @end? */
bool text_ends_with(const char *s, const char *end);

/** text_swap() - a copy with each @from replaced by @to; the caller frees */
char *text_swap(const char *s, char from, char to);
