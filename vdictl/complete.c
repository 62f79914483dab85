/* Completion: a small script for bash that asks `vdictl __complete WORDS...`. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdictl/client.h"
#include "vdictl/method.h"
#include "vdictl/output.h"
#include "vdictl/text.h"
#include "vdictl/vdictl.h"

static const char bash_script[] =
	"# bash completion for vdictl: source <(vdictl completion bash)\n"
	"_vdictl()\n"
	"{\n"
	"\tlocal IFS=$'\\n'\n"
	"\tCOMPREPLY=($(vdictl __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
	"}\n"
	"complete -o default -F _vdictl vdictl\n";

int command_completion(struct vdictl *vdictl, int argc, char **argv)
{
	struct err err;
	if (argc != 1 || strcmp(argv[0], "bash") != 0) {
		err_set(&err, ERR_INVALID, "say: vdictl completion bash");
		return vdictl_report(vdictl, &err);
	}
	fputs(bash_script, stdout);
	return output_flush(STATUS_DONE);
}

/* A word is offered if it begins as what was typed does, and is plain enough for a shell. */
static void offer(const char *word, const char *typed)
{
	if (strncmp(word, typed, strlen(typed)) == 0 &&
	    word[strspn(word,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] ==
		    '\0')
		puts(word);
}

/* The next word of each command that begins with the words before. */
static void offer_words(json_t *discover, int n, char **words, const char *typed)
{
	size_t i;
	json_t *method;
	_cleanup_free_ char *last = mem_strdup("");
	json_array_foreach(json_object_get(discover, "methods"), i, method)
	{
		if (!method_is_under(method, n, words))
			continue;
		_cleanup_free_ char *command = method_command(method);
		char *rest = NULL, *part = strtok_r(command, " ", &rest);
		for (int skip = 0; part && skip < n; skip++)
			part = strtok_r(NULL, " ", &rest);
		/* a noun's methods stand together */
		if (!part || strcmp(part, last) == 0)
			continue;
		offer(part, typed);
		free(last);
		last = mem_strdup(part);
	}
}

/* The names of the things of a kind, if the daemon lists them. */
static void offer_names(struct vdictl *vdictl, const char *noun, const char *typed)
{
	_cleanup_free_ char *list = mem_printf("%s.list", noun);
	_cleanup_json_ json_t *result = NULL;
	struct err err;
	if (!method_by_name(vdictl->discover, list) ||
	    client_call(vdictl->client, list, NULL, -1, &result, &err) < 0)
		return;
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(result, "items"), i, item)
	{
		json_t *name = json_object_get(item, "name");
		if (!json_is_string(name))
			name = json_object_get(item, "id");
		if (json_is_string(name))
			offer(json_string_value(name), typed);
	}
}

static void offer_flags(json_t *method, const char *typed)
{
	size_t i;
	json_t *param;
	json_array_foreach(method_params(method), i, param)
	{
		const char *unit;
		_cleanup_free_ char *flag = param_flag(param);
		_cleanup_free_ char *shorter = param_short_flag(method, param, &unit);
		offer(flag, typed);
		if (shorter)
			offer(shorter, typed);
		if (strcmp(param_type(param), "boolean") == 0) {
			_cleanup_free_ char *no = mem_printf("--no-%s", flag + 2);
			offer(no, typed);
		}
	}
	if (output_takes_file(method))
		offer("--output", typed);
	offer("--json", typed);
	offer("--help", typed);
}

static void offer_values(struct vdictl *vdictl, json_t *param, const char *typed)
{
	size_t i;
	json_t *value;
	json_array_foreach(json_object_get(json_object_get(param, "schema"), "enum"), i, value)
	{
		if (json_is_string(value))
			offer(json_string_value(value), typed);
	}
	if (strcmp(param_type(param), "ref") == 0)
		offer_names(vdictl, param_name(param), typed);
}

/* The parameter whose value comes after @word, or NULL. */
static json_t *awaiting(json_t *method, const char *word)
{
	size_t i;
	json_t *param;
	json_array_foreach(method_params(method), i, param)
	{
		_cleanup_free_ char *flag = param_flag(param);
		if (strcmp(flag, word) == 0 && strcmp(param_type(param), "boolean") != 0)
			return param;
	}
	return NULL;
}

static void offer_for_method(struct vdictl *vdictl, json_t *method, int argc, char **argv,
			     const char *typed)
{
	json_t *param = argc > 0 ? awaiting(method, argv[argc - 1]) : NULL;
	if (param) {
		offer_values(vdictl, param, typed);
		return;
	}
	if (strncmp(typed, "-", 1) == 0) {
		offer_flags(method, typed);
		return;
	}
	if (argc == 0 && method_has(method, "named")) {
		const char *name = method_name(method);
		_cleanup_free_ char *noun = mem_strndup(name, strcspn(name, "."));
		offer_names(vdictl, noun, typed);
	}
}

int command_complete(struct vdictl *vdictl, int argc, char **argv)
{
	static const char *const own[] = {"call", "watch", "completion", "help"};
	const char *typed = argc > 0 ? argv[argc - 1] : "";
	int n = argc > 0 ? argc - 1 : 0, used = 0;
	struct err err;
	for (size_t i = 0; n == 0 && i < ARRAY_LEN(own); i++)
		offer(own[i], typed);
	/* who presses Tab wants no error messages */
	if (vdictl_discover(vdictl, &err) < 0)
		return output_flush(STATUS_UNREACHABLE);
	json_t *method = method_find(vdictl->discover, n, argv, &used);
	if (method)
		offer_for_method(vdictl, method, n - used, argv + used, typed);
	else
		offer_words(vdictl->discover, n, argv, typed);
	return output_flush(STATUS_DONE);
}
