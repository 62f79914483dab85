#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static char program_name[32] = "vdi-hostd";
static enum log_level least_level = LOG_LEVEL_INFO;
static bool for_journal;

void log_open(const char *program, enum log_level least)
{
	snprintf(program_name, sizeof(program_name), "%s", program);
	least_level = least;
	for_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (level > least_level)
		return;
	char text[LINE_MAX_BYTES];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);

	/* each byte may become \xNN */
	char line[LINE_MAX_BYTES * 4 + 64];
	size_t n = for_journal ? (size_t)snprintf(line, 64, "<%d>", (int)level)
			       : (size_t)snprintf(line, 64, "%s: ", program_name);
	for (const char *c = text; *c; c++) {
		unsigned char byte = (unsigned char)*c;
		if (byte < 0x20 || byte == 0x7f)
			n += (size_t)snprintf(line + n, 5, "\\x%02x", byte);
		else
			line[n++] = *c;
	}
	line[n++] = '\n';
	/* a log that cannot be written has nowhere to be reported */
	ssize_t ignored = write(STDERR_FILENO, line, n);
	(void)ignored;
}
