/* Commands that are one request: "noun verb ..." and "call". */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json_line.h"
#include "base/mem.h"
#include "vdictl/args.h"
#include "vdictl/client.h"
#include "vdictl/follow.h"
#include "vdictl/method.h"
#include "vdictl/output.h"
#include "vdictl/vdictl.h"

/**
 * struct passed - a file that goes along opened, so that the daemon need not be able to open it
 * @made: its path, where it was not there before: it goes again if nothing comes of it
 */
struct passed {
	int fd;
	bool is_stdout;
	char *made;
};

static void passed_done(struct passed *passed)
{
	mem_closep(&passed->fd);
	free(passed->made);
}

static int take_file(json_t *method, json_t *params, struct passed *ret, struct err *err)
{
	const char *path = json_string_value(json_object_get(params, "path"));
	bool made = false, force = json_is_true(json_object_get(params, "force"));
	if (!method_has(method, "file") || !path)
		return 0;
	if (!method_has(method, "file-out")) {
		if (args_open_file(path, &ret->fd, err) < 0)
			return -1;
	} else {
		if (args_make_file(path, force, &ret->fd, &made, err) < 0)
			return -1;
		ret->is_stdout = strcmp(path, "-") == 0;
		ret->made = made ? mem_strdup(path) : NULL;
	}
	json_object_del(params, "path");
	return 0;
}

static int give_up(struct vdictl *vdictl, struct passed *passed, const struct err *err)
{
	if (passed->made)
		unlink(passed->made);
	return vdictl_report(vdictl, err);
}

/* The whole list: pages are asked for until there are no more. */
static int call_list(struct vdictl *vdictl, const char *name, json_t *params, json_t **ret,
		     struct err *err)
{
	_cleanup_json_ json_t *all = NULL;
	bool one_page = json_object_get(params, "limit") || json_object_get(params, "cursor");
	for (;;) {
		_cleanup_json_ json_t *page = NULL;
		if (client_call(vdictl->client, name, params, -1, &page, err) < 0)
			return -1;
		if (!all)
			all = json_incref(page);
		else
			json_array_extend(json_object_get(all, "items"),
					  json_object_get(page, "items"));
		json_t *next = json_object_get(page, "next");
		if (one_page || !json_is_string(next))
			break;
		json_object_set(params, "cursor", next);
	}
	if (!one_page && json_object_get(all, "next"))
		json_object_set_new(all, "next", json_null());
	*ret = TAKE_PTR(all);
	return 0;
}

static int finish_job(struct vdictl *vdictl, json_t *method, json_t *answer, bool wait,
		      struct passed *passed)
{
	const char *id = json_string_value(json_object_get(answer, "job"));
	_cleanup_json_ json_t *job = NULL;
	struct err err;
	if (!wait || !id) {
		/* what is on its way there is no text */
		if (passed->is_stdout)
			return STATUS_DONE;
		if (vdictl->options.json || !id)
			output_json(answer);
		else
			puts(id);
		return output_flush(STATUS_DONE);
	}
	if (follow_job(vdictl, id, &job, &err) < 0)
		return give_up(vdictl, passed, &err);
	if (passed->is_stdout)
		return STATUS_DONE;
	json_t *result = json_object_get(job, "result");
	return output_result(vdictl, method, vdictl->options.json ? job : result);
}

static int run(struct vdictl *vdictl, json_t *method, json_t *params)
{
	struct err err;
	_cleanup_(passed_done) struct passed passed = {.fd = -1};
	_cleanup_json_ json_t *result = NULL;
	json_t *wait = json_object_get(params, "wait");
	bool is_job = method_has(method, "job"), waits = !wait || json_is_true(wait);
	const char *name = method_name(method);

	if (output_check(vdictl, method, &err) < 0 || take_file(method, params, &passed, &err) < 0)
		return vdictl_report(vdictl, &err);
	if (is_job) /* the waiting is done here, to show how far it is */
		json_object_del(params, "wait");
	int failed = method_has(method, "list")
			     ? call_list(vdictl, name, params, &result, &err)
			     : client_call(vdictl->client, name, params, passed.fd, &result, &err);
	if (failed)
		return give_up(vdictl, &passed, &err);
	return is_job ? finish_job(vdictl, method, result, waits, &passed)
		      : output_result(vdictl, method, result);
}

static int words_before_flags(int argc, char **argv)
{
	int n = 0;
	while (n < argc && strncmp(argv[n], "--", 2) != 0)
		n++;
	return n;
}

static int no_such_command(const struct vdictl *vdictl, int n, char **words)
{
	struct err err;
	size_t i;
	json_t *method;
	json_array_foreach(json_object_get(vdictl->discover, "methods"), i, method)
	{
		if (n != 1 || !method_is_under(method, 1, words))
			continue;
		err_set(&err, ERR_INVALID, "'%s' needs a verb; 'vdictl %s --help' lists them",
			words[0], words[0]);
		return vdictl_report(vdictl, &err);
	}
	err_set(&err, ERR_INVALID, "there is no command '%s%s%s'; 'vdictl help' lists them",
		words[0], n > 1 ? " " : "", n > 1 ? words[1] : "");
	return vdictl_report(vdictl, &err);
}

int command_method(struct vdictl *vdictl, int argc, char **argv)
{
	struct err err;
	int used = 0;
	if (vdictl_discover(vdictl, &err) < 0)
		return vdictl_report(vdictl, &err);
	int n = words_before_flags(argc, argv);
	json_t *method = method_find(vdictl->discover, n, argv, &used);
	if (!method)
		return no_such_command(vdictl, n, argv);
	if (strcmp(method_name(method), "events.subscribe") == 0)
		return command_watch(vdictl, argc - used, argv + used);
	_cleanup_json_ json_t *params = NULL;
	if (args_read(method, argc - used, argv + used, &params, &err) < 0)
		return vdictl_report(vdictl, &err);
	return run(vdictl, method, params);
}

int command_call(struct vdictl *vdictl, int argc, char **argv)
{
	struct err err;
	_cleanup_json_ json_t *params = NULL, *result = NULL;
	if (argc < 1 || argc > 2) {
		err_set(&err, ERR_INVALID, "say: vdictl call METHOD ['{\"key\": \"value\"}']");
		return vdictl_report(vdictl, &err);
	}
	if (argc == 2 &&
	    json_line_parse(argv[1], strlen(argv[1]), JSON_LINE_DEPTH_MAX, &params, &err) < 0) {
		err_prefix(&err, "the parameters");
		return vdictl_report(vdictl, &err);
	}
	if (vdictl_connect(vdictl, &err) < 0 ||
	    client_call(vdictl->client, argv[0], params, -1, &result, &err) < 0)
		return vdictl_report(vdictl, &err);
	output_json(result);
	return output_flush(STATUS_DONE);
}
