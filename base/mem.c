#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

void *mem_calloc(size_t n, size_t size)
{
	return must(calloc(n ? n : 1, size ? size : 1));
}

void *mem_realloc(void *p, size_t n, size_t size)
{
	if (size && n > SIZE_MAX / size)
		abort();
	size_t bytes = n * size;
	return must(realloc(p, bytes > 0 ? bytes : 1));
}

char *mem_strdup(const char *s)
{
	return must(strdup(s));
}

char *mem_strndup(const char *s, size_t n)
{
	return must(strndup(s, n));
}

char *mem_printf(const char *fmt, ...)
{
	char *ret = NULL;
	va_list args;
	va_start(args, fmt);
	if (vasprintf(&ret, fmt, args) < 0)
		abort();
	va_end(args);
	return ret;
}
