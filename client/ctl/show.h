/* What several verbs show: replies as JSON, the table of arenas, a checkpoint in words. */
#pragma once

#include <jansson.h>

#include "print.h"

/* Calls the method and prints the member of its reply as JSON (member NULL: all of it). Returns an
 * exit status. */
int show_raw(const Ctl *ctl, const char *method, const char *parameters, const char *member);
/* The same; takes over the reference to the parameters, NULL for want of memory. */
int show_tree(const Ctl *ctl, const char *method, json_t *parameters, const char *member);
/* The table of all arenas. Returns an exit status. */
int show_arenas(const Ctl *ctl);
/* "4 min ago": into text; "-" for a time that is none. */
#define SHOW_AGE_MAX 64
const char *show_age(char text[static SHOW_AGE_MAX], uint64_t usec);
