/* "help": what there is, as the daemon describes it. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdictl/method.h"
#include "vdictl/output.h"
#include "vdictl/text.h"
#include "vdictl/vdictl.h"

static const char usage[] =
	"usage: vdictl [--socket PATH] [--json] NOUN VERB [NAME] [--flag value ...]\n"
	"       vdictl call METHOD ['{...}']   send raw parameters\n"
	"       vdictl watch [TOPIC ...]       print events as they happen\n"
	"       vdictl completion bash         print a script for completion\n"
	"       vdictl help [NOUN [VERB]]      what there is\n"
	"\n"
	"  --json          print the result as it came\n"
	"  --output FILE   write a picture or a viewer's file there\n"
	"  --socket PATH   another control socket; so does VDI_SOCKET\n"
	"  --version       print the version of vdictl\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 denied, 5 conflict or busy,\n"
	"6 daemon not reachable.\n";

static const char *summary(json_t *method)
{
	const char *text = json_string_value(json_object_get(method, "summary"));
	return text ? text : "";
}

/* The methods whose commands begin with these words, one a line; returns how many. */
static size_t list_methods(json_t *discover, int n, char **words)
{
	size_t i, width = 0, found = 0;
	json_t *method;
	json_array_foreach(json_object_get(discover, "methods"), i, method)
	{
		_cleanup_free_ char *command = method_command(method);
		if (text_width(command) > width)
			width = text_width(command);
	}
	json_array_foreach(json_object_get(discover, "methods"), i, method)
	{
		if (!method_is_under(method, n, words))
			continue;
		_cleanup_free_ char *command = method_command(method);
		_cleanup_free_ char *safe = text_safe(command, false);
		_cleanup_free_ char *about = text_safe(summary(method), false);
		fputs("  ", stdout);
		text_print_padded(stdout, safe, width + 2);
		puts(about);
		found++;
	}
	return found;
}

static void print_values(json_t *values)
{
	size_t i;
	json_t *value;
	fputs(" (", stdout);
	json_array_foreach(values, i, value)
	{
		_cleanup_free_ char *safe =
			text_safe(json_is_string(value) ? json_string_value(value) : "null", false);
		printf("%s%s", i ? ", " : "", safe);
	}
	putchar(')');
}

static void print_range(json_t *schema)
{
	json_t *min = json_object_get(schema, "minimum"), *max = json_object_get(schema, "maximum");
	if (json_is_integer(max))
		printf(" (%" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT ")",
		       json_integer_value(min), json_integer_value(max));
	else if (json_integer_value(min) != 0)
		printf(" (%" JSON_INTEGER_FORMAT " or more)", json_integer_value(min));
}

static void print_default(json_t *schema)
{
	json_t *value = json_object_get(schema, "default");
	if (!value)
		return;
	_cleanup_free_ char *json = json_dumps(value, JSON_ENCODE_ANY);
	_cleanup_free_ char *safe = text_safe(json, false);
	printf("; default %s", safe);
}

static void print_param(json_t *method, json_t *param, bool is_name)
{
	const char *unit, *type = param_type(param);
	json_t *schema = json_object_get(param, "schema");
	const char *doc = json_string_value(json_object_get(param, "description"));
	_cleanup_free_ char *flag = param_flag(param), *safe_flag = text_safe(flag, false);
	_cleanup_free_ char *shorter = param_short_flag(method, param, &unit);
	_cleanup_free_ char *about = text_safe(doc ? doc : "", false);
	bool is_bool = strcmp(type, "boolean") == 0;

	if (is_name)
		printf("  NAME, or %s %s", safe_flag, type);
	else if (is_bool)
		printf("  %s, --no-%s", safe_flag, safe_flag + 2);
	else
		printf("  %s %s", safe_flag, type);
	if (shorter)
		printf(", %s %s", shorter,
		       text_ends_with(unit, "ib") || *unit == 'b' ? "2G" : "5m");
	if (json_object_get(schema, "enum"))
		print_values(json_object_get(schema, "enum"));
	else
		print_range(schema);
	print_default(schema);
	if (param_is_required(param))
		fputs("; required", stdout);
	printf("\n        %s\n", about);
}

static void print_method(json_t *method)
{
	_cleanup_free_ char *command = method_command(method), *safe = text_safe(command, false);
	_cleanup_free_ char *about = text_safe(summary(method), false);
	bool named = method_has(method, "named");
	const char *role = json_string_value(json_object_get(method, "x-role"));
	json_t *params = method_params(method), *param;
	size_t i;

	printf("usage: vdictl %s%s%s\n\n%s\n", safe, named ? " NAME" : "",
	       json_array_size(params) > named ? " [--flag value ...]" : "", about);
	if (role) {
		_cleanup_free_ char *safe_role = text_safe(role, false);
		printf("For the role %s and above.\n", safe_role);
	}
	if (json_array_size(params) > 0)
		putchar('\n');
	json_array_foreach(params, i, param) print_param(method, param, named && i == 0);
	if (output_takes_file(method))
		puts("  --output FILE\n        write it there");
}

/* Nouns and their verbs. */
static void print_all(json_t *discover)
{
	puts("\nCommands:");
	list_methods(discover, 0, NULL);
	puts("\n'vdictl NOUN --help' and 'vdictl NOUN VERB --help' say more.");
}

int command_help(struct vdictl *vdictl, int argc, char **argv)
{
	struct err err;
	int used = 0, n = 0;
	while (n < argc && strncmp(argv[n], "--", 2) != 0)
		n++;
	if (n == 0)
		fputs(usage, stdout);
	if (vdictl_discover(vdictl, &err) < 0) {
		fflush(stdout);
		return vdictl_report(vdictl, &err);
	}
	json_t *method = method_find(vdictl->discover, n, argv, &used);
	if (n == 0) {
		print_all(vdictl->discover);
	} else if (method) {
		print_method(method);
	} else if (list_methods(vdictl->discover, n, argv) == 0) {
		err_set(&err, ERR_INVALID, "there is no command '%s'; 'vdictl help' lists them",
			argv[0]);
		return vdictl_report(vdictl, &err);
	}
	return output_flush(STATUS_DONE);
}
