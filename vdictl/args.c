#include "vdictl/args.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json_line.h"
#include "base/mem.h"
#include "base/str.h"
#include "vdictl/method.h"
#include "vdictl/text.h"

static int parse_duration(const char *text, int64_t *ret_ms)
{
	static const struct {
		const char *suffix;
		int64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	size_t digits = strspn(text, "0123456789");
	_cleanup_free_ char *number = mem_strndup(text, digits);
	int64_t value;
	if (str_parse_i64(number, &value) < 0)
		return -1;
	const char *suffix = text[digits] ? text + digits : "s";
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (strcmp(units[i].suffix, suffix) != 0)
			continue;
		return __builtin_mul_overflow(value, units[i].ms, ret_ms) ? -1 : 0;
	}
	return -1;
}

int args_parse_amount(const char *text, const char *unit, int64_t *ret, struct err *err)
{
	int64_t amount, of;
	if (strcmp(unit, "s") == 0 || strcmp(unit, "ms") == 0) {
		of = strcmp(unit, "s") == 0 ? 1000 : 1;
		if (parse_duration(text, &amount) < 0)
			return err_set(err, ERR_INVALID,
				       "'%s' is no time: say 90, 90s, 5m, 2h or 1d", text);
	} else {
		uint64_t bytes;
		of = strcmp(unit, "mib") == 0 ? 1 << 20 : strcmp(unit, "gib") == 0 ? 1 << 30 : 1;
		if (str_parse_size(text, &bytes) < 0 || bytes > INT64_MAX)
			return err_set(err, ERR_INVALID, "'%s' is no size: say 512M, 2G or 1.5T",
				       text);
		amount = (int64_t)bytes;
	}
	if (amount % of != 0)
		return err_set(err, ERR_INVALID, "'%s' is no whole number of %s: say %" PRId64 "%s",
			       text, unit, amount < of ? amount : amount / of + 1,
			       strcmp(unit, "gib") == 0   ? "G"
			       : strcmp(unit, "mib") == 0 ? "M"
							  : "s");
	*ret = amount / of;
	return 0;
}

static int parse_bool(const char *text, bool *ret, struct err *err)
{
	bool yes = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
	if (!yes && strcmp(text, "false") != 0 && strcmp(text, "no") != 0)
		return err_set(err, ERR_INVALID, "'%s' is neither true nor false", text);
	*ret = yes;
	return 0;
}

static int parse_json(const char *type, const char *text, json_t **ret, struct err *err)
{
	if (json_line_parse(text, strlen(text), JSON_LINE_DEPTH_MAX, ret, err) == 0)
		return 0;
	if (strcmp(type, "any") != 0)
		return -1;
	/* where anything goes, text need not be quoted */
	*ret = json_string(text);
	return *ret ? 0 : err_set(err, ERR_INVALID, "the text is not UTF-8");
}

/* @unit: the flag came without its unit, and the value may have a suffix; else NULL. */
static int convert(const char *type, const char *unit, const char *text, json_t **ret,
		   struct err *err)
{
	int64_t number;
	bool yes;
	if (unit || strcmp(type, "size") == 0) {
		if (args_parse_amount(text, unit ? unit : "bytes", &number, err) < 0)
			return -1;
		*ret = json_integer(number);
	} else if (strcmp(type, "integer") == 0) {
		if (str_parse_i64(text, &number) < 0)
			return err_set(err, ERR_INVALID, "'%s' is no whole number", text);
		*ret = json_integer(number);
	} else if (strcmp(type, "boolean") == 0) {
		if (parse_bool(text, &yes, err) < 0)
			return -1;
		*ret = json_boolean(yes);
	} else if (strcmp(type, "object") == 0 || strcmp(type, "array") == 0 ||
		   strcmp(type, "any") == 0) {
		return parse_json(type, text, ret, err);
	} else {
		*ret = json_string(text);
		if (!*ret)
			return err_set(err, ERR_INVALID, "the text is not UTF-8");
	}
	return 0;
}

static int set_param(json_t *params, json_t *param, const char *flag, const char *unit,
		     const char *text, struct err *err)
{
	const char *name = param_name(param), *type = param_type(param);
	json_t *value = NULL, *before = json_object_get(params, name);
	if (convert(type, unit, text, &value, err) < 0)
		return err_prefix(err, "%s", flag);
	if (strcmp(type, "strings") == 0) {
		if (!before) {
			before = json_array();
			json_object_set_new(params, name, before);
		}
		json_array_append_new(before, value);
		return 0;
	}
	json_object_set_new(params, name, value);
	if (before)
		return err_set(err, ERR_INVALID, "%s is given twice", flag);
	return 0;
}

/* Which parameter a flag means; @ret_unit: it came without this unit; @ret_no: as --no-flag. */
static json_t *find_param(json_t *method, const char *flag, const char **ret_unit, bool *ret_no)
{
	size_t i;
	json_t *param;
	json_array_foreach(method_params(method), i, param)
	{
		_cleanup_free_ char *full = param_flag(param);
		if (strcmp(full, flag) == 0)
			return param;
		const char *unit;
		_cleanup_free_ char *shorter = param_short_flag(method, param, &unit);
		if (shorter && strcmp(shorter, flag) == 0) {
			*ret_unit = unit;
			return param;
		}
		_cleanup_free_ char *no = mem_printf("--no-%s", full + 2);
		if (strcmp(param_type(param), "boolean") == 0 && strcmp(no, flag) == 0) {
			*ret_no = true;
			return param;
		}
	}
	return NULL;
}

/* One flag at argv[0]; returns how many words it took, or -1. */
static int read_flag(json_t *method, int argc, char **argv, json_t *params, struct err *err)
{
	char *equals = strchr(argv[0], '=');
	_cleanup_free_ char *flag =
		equals ? mem_strndup(argv[0], (size_t)(equals - argv[0])) : mem_strdup(argv[0]);
	const char *unit = NULL, *value = equals ? equals + 1 : NULL;
	bool no = false;
	int used = 1;
	json_t *param = find_param(method, flag, &unit, &no);
	if (!param) {
		_cleanup_free_ char *command = method_command(method);
		return err_set(err, ERR_INVALID,
			       "there is no %s here; 'vdictl %s --help' lists the flags", flag,
			       command);
	}
	if (no && value)
		return err_set(err, ERR_INVALID, "%s takes no value", flag);
	if (!value && strcmp(param_type(param), "boolean") == 0)
		value = no ? "false" : "true";
	if (!value && argc > 1) {
		value = argv[1];
		used = 2;
	}
	if (!value)
		return err_set(err, ERR_INVALID, "%s needs a value", flag);
	return set_param(params, param, flag, unit, value, err) < 0 ? -1 : used;
}

static int read_name(json_t *method, const char *word, json_t *params, struct err *err)
{
	json_t *first = json_array_get(method_params(method), 0);
	_cleanup_free_ char *command = method_command(method);
	if (!method_has(method, "named") || !first)
		return err_set(err, ERR_INVALID, "'vdictl %s' takes flags only, not '%s'", command,
			       word);
	if (json_object_get(params, param_name(first)))
		return err_set(err, ERR_INVALID, "'vdictl %s' takes one name; '%s' is too many",
			       command, word);
	return set_param(params, first, param_name(first), NULL, word, err);
}

static int check_required(json_t *method, json_t *params, struct err *err)
{
	size_t i;
	json_t *param;
	json_array_foreach(method_params(method), i, param)
	{
		if (!param_is_required(param) || json_object_get(params, param_name(param)))
			continue;
		_cleanup_free_ char *flag = param_flag(param), *command = method_command(method);
		bool is_name = i == 0 && method_has(method, "named");
		return err_set(err, ERR_INVALID, "%s is missing; see 'vdictl %s --help'",
			       is_name ? "the name" : flag, command);
	}
	return 0;
}

int args_read(json_t *method, int argc, char **argv, json_t **ret_params, struct err *err)
{
	_cleanup_json_ json_t *params = json_object();
	bool flags = true;
	while (argc > 0) {
		int used = 1;
		if (flags && strcmp(argv[0], "--") == 0)
			flags = false;
		else if (flags && strncmp(argv[0], "--", 2) == 0)
			used = read_flag(method, argc, argv, params, err);
		else if (read_name(method, argv[0], params, err) < 0)
			used = -1;
		if (used < 0)
			return -1;
		argc -= used;
		argv += used;
	}
	if (check_required(method, params, err) < 0)
		return -1;
	*ret_params = TAKE_PTR(params);
	return 0;
}

/* The daemon reads a file from its beginning and a pipe up to its end; it waits for no terminal. */
static int pass_stdin(int *ret_fd, struct err *err)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) < 0)
		return err_set_sys(err, ERR_INVALID, errno, "there is no standard input");
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(err, ERR_INVALID,
			       "the standard input is neither a file nor a pipe: pass one on with "
			       "`... < FILE` or `COMMAND | ...`");
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot pass the standard input on");
	*ret_fd = fd;
	return 0;
}

int args_open_file(const char *path, int *ret_fd, struct err *err)
{
	if (strcmp(path, "-") == 0)
		return pass_stdin(ret_fd, err);
	/* without O_NONBLOCK, a pipe would wait for its writer */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID,
			       "%s is no regular file; pipes, devices and folders cannot be "
			       "passed on (a pipe can, as the standard input: --path -)",
			       path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int pass_stdout(int *ret_fd, struct err *err)
{
	struct stat st;

	if (fstat(STDOUT_FILENO, &st) < 0)
		return err_set_sys(err, ERR_INVALID, errno, "there is no standard output");
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(
			err, ERR_INVALID,
			"the standard output is neither a file nor a pipe: say where to with "
			"`... > FILE` or `... | COMMAND`");
	int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot pass the standard output on");
	*ret_fd = fd;
	return 0;
}

int args_make_file(const char *path, bool force, int *ret_fd, bool *ret_made, struct err *err)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct stat st;
	bool made = false;

	if (strcmp(path, "-") == 0)
		return pass_stdout(ret_fd, err);
	_cleanup_close_ int fd = force ? open(path, flags) : -1;
	if (fd < 0 && (!force || errno == ENOENT)) {
		fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		made = fd >= 0;
	}
	if (fd < 0 && errno == EEXIST)
		return err_set(err, ERR_EXISTS, "there is a %s already; --force replaces it", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write to %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID,
			       "%s is no regular file; what it is for takes the standard output: "
			       "--path - > %s",
			       path, path);
	if (fcntl(fd, F_SETFL, 0) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot write to %s", path);
	*ret_fd = TAKE_FD(fd);
	*ret_made = made;
	return 0;
}
