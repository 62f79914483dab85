/* Results, for people and for programs. */
#pragma once

#include <jansson.h>

#include "vdictl/vdictl.h"

/** output_json() - as it came, on one line; spread out on a terminal */
void output_json(json_t *value);

/** output_result() - what a method answered, as the options say; returns an exit status */
int output_result(const struct vdictl *vdictl, json_t *method, json_t *result);

/** output_takes_file() - does the method answer with something that --output writes? */
bool output_takes_file(json_t *method);

/** output_check() - refuse before the request what could not be written after it */
int output_check(const struct vdictl *vdictl, json_t *method, struct err *err) warn_unused;

/** output_flush() - STATUS_FAILED if what was printed did not arrive, else @status */
int output_flush(int status);
