#include "vdictl/text.h"

#include <string.h>

#include "base/mem.h"

/* One character of UTF-8; a byte that begins none counts as itself. */
static size_t decode(const unsigned char *s, uint32_t *ret)
{
	size_t more = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc0 ? 1 : 0;
	uint32_t c = s[0] & (more ? 0x3f >> more : 0xff);
	for (size_t i = 1; i <= more; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			*ret = s[0];
			return 1;
		}
		c = c << 6 | (s[i] & 0x3f);
	}
	*ret = c;
	return more + 1;
}

static bool is_harmless(uint32_t c, size_t bytes, bool lines)
{
	if (lines && (c == '\n' || c == '\t'))
		return true;
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (bytes == 1 && c >= 0x80))
		return false;
	/* those that turn the direction of what follows */
	return !(c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
		 (c >= 0x2066 && c <= 0x2069));
}

char *text_safe(const char *s, bool lines)
{
	/* a byte becomes \xNN at the most, a character of several \u{NNNN} */
	char *ret = mem_calloc(strlen(s) + 1, 4), *out = ret;
	while (*s) {
		uint32_t c;
		size_t bytes = decode((const unsigned char *)s, &c);
		if (is_harmless(c, bytes, lines)) {
			memcpy(out, s, bytes);
			out += bytes;
		} else {
			out += sprintf(out, c < 0x100 ? "\\x%02x" : "\\u{%x}", c);
		}
		s += bytes;
	}
	*out = '\0';
	return ret;
}

size_t text_width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		if (((unsigned char)*s & 0xc0) != 0x80)
			n++;
	return n;
}

void text_print_padded(FILE *file, const char *s, size_t width)
{
	fputs(s, file);
	for (size_t n = text_width(s); n < width; n++)
		fputc(' ', file);
}

char *text_size(int64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
		value /= 1024;
		unit++;
	}
	return mem_printf(unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

bool text_ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), tail = strlen(end);
	return len > tail && strcmp(s + len - tail, end) == 0;
}

char *text_swap(const char *s, char from, char to)
{
	char *ret = mem_strdup(s);
	for (char *c = ret; *c; c++)
		if (*c == from)
			*c = to;
	return ret;
}
