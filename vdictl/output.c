#include "vdictl/output.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "vdictl/method.h"
#include "vdictl/table.h"
#include "vdictl/text.h"

void output_json(json_t *value)
{
	/* JSON escapes only some of what a terminal could obey */
	size_t flags = isatty(STDOUT_FILENO) ? JSON_INDENT(2) | JSON_ENSURE_ASCII : JSON_COMPACT;
	json_dumpf(value, stdout, flags | JSON_ENCODE_ANY);
	putchar('\n');
}

bool output_takes_file(json_t *method)
{
	return method_result_has(method, "png") || method_result_has(method, "file");
}

int output_check(const struct vdictl *vdictl, json_t *method, struct err *err)
{
	_cleanup_free_ char *command = method_command(method);
	if (vdictl->options.output && !output_takes_file(method))
		return err_set(err, ERR_INVALID, "'vdictl %s' has nothing for --output", command);
	if (method_result_has(method, "png") && !vdictl->options.output && !vdictl->options.json &&
	    isatty(STDOUT_FILENO))
		return err_set(err, ERR_INVALID,
			       "a picture is no text for a terminal: add --output FILE");
	return 0;
}

static int write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;
	while (len > 0) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Files for viewers hold passwords; nobody else is to read them, nor what stood there before. */
static int write_file(const char *path, const void *bytes, size_t len, struct err *err)
{
	struct stat st;
	if (!path || strcmp(path, "-") == 0) {
		fwrite(bytes, 1, len, stdout);
		return 0;
	}
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", path);
	if (S_ISREG(st.st_mode) && (fchmod(fd, 0600) < 0 || ftruncate(fd, 0) < 0))
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", path);
	if (write_all(fd, bytes, len) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", path);
	return 0;
}

static int write_png(const char *path, const char *base64, struct err *err)
{
	size_t len = strlen(base64), size;
	_cleanup_free_ unsigned char *bytes = mem_calloc(len / 4 * 3 + 3, 1);
	if (sodium_base642bin(bytes, len / 4 * 3 + 3, base64, len, "\r\n", &size, NULL,
			      sodium_base64_VARIANT_ORIGINAL) < 0)
		return err_set(err, ERR_CORRUPT, "the picture that came is not base64");
	return write_file(path, bytes, size, err);
}

/* Returns 1 if the result was such a one and is written. */
static int write_special(const struct vdictl *vdictl, json_t *result, struct err *err)
{
	const char *png = json_string_value(json_object_get(result, "png"));
	const char *file = json_string_value(json_object_get(result, "file"));
	const char *path = vdictl->options.output;
	if (!png && !file)
		return 0;
	if (vdictl->options.json && !path)
		return 0;
	if (png)
		return write_png(path, png, err) < 0 ? -1 : 1;
	if (path || !isatty(STDOUT_FILENO))
		return write_file(path, file, strlen(file), err) < 0 ? -1 : 1;
	_cleanup_free_ char *safe = text_safe(file, true);
	fputs(safe, stdout);
	return 1;
}

/* A result that is a text, such as a log, is shown as it is. */
static bool print_text(json_t *result)
{
	const char *text = json_string_value(json_object_get(result, "text"));
	if (!text)
		return false;
	_cleanup_free_ char *safe = text_safe(text, true);
	fputs(safe, stdout);
	if (*safe && safe[strlen(safe) - 1] != '\n')
		putchar('\n');
	return true;
}

int output_result(const struct vdictl *vdictl, json_t *method, json_t *result)
{
	struct err err;
	int special = write_special(vdictl, result, &err);
	if (special < 0)
		return vdictl_report(vdictl, &err);
	if (special)
		return output_flush(STATUS_DONE);
	json_t *schema = json_object_get(json_object_get(method, "result"), "schema");
	json_t *items = json_object_get(result, "items");
	if (vdictl->options.json)
		output_json(result);
	else if (method_has(method, "list") && json_is_array(items))
		table_print_list(json_object_get(json_object_get(schema, "properties"), "items"),
				 items, 0);
	else if (!print_text(result))
		table_print_object(result, 0);
	return output_flush(STATUS_DONE);
}

int output_flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "vdictl: cannot write the result: %s\n", strerror(errno));
	return STATUS_FAILED;
}
