/* holdfastctl: the command line tool, on top of libholdfast. main.c reads the options, finds the
 * verb in the table of verbs.c and runs it; the files verb-*.c hold one group of verbs each. */
#pragma once

#include <holdfast.h>
#include <stdio.h>

#include "base/common.h"

/* Exit statuses; they are part of the interface. */
enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1, /* the daemon answered an error, or a file could not be read or written */
    STATUS_USAGE = 64,
    STATUS_UNAVAILABLE = 69, /* no daemon, or none that answers */
    STATUS_DENIED = 77,
};

typedef enum JsonMode {
    JSON_OFF,
    JSON_SHORT,
    JSON_PRETTY,
} JsonMode;

/* Options that only some verbs take, as a verb names them. */
enum {
    OPTION_REVISION = 1 << 0,
    OPTION_IF_REVISION = 1 << 1,
    OPTION_MAX_BYTES = 1 << 2,
    OPTION_MODE = 1 << 3,
    OPTION_GROUP = 1 << 4,
    OPTION_PREFIX = 1 << 5,
    OPTION_KEYS = 1 << 6,
    OPTION_KEY = 1 << 7,
    OPTION_LABEL = 1 << 8,
    OPTION_NO_WAIT = 1 << 9,
    OPTION_ARENA = 1 << 10,
    OPTION_MORE = 1 << 11,
};

typedef struct Options {
    const char *socket; /* NULL: the default */
    JsonMode json;
    bool json_given;
    bool no_legend;
    bool quiet;
    bool help;
    bool version;
    uint64_t timeout_usec; /* UINT64_MAX: none */
    unsigned given;        /* OPTION_..., of what follows */
    bool revision;
    uint64_t if_revision;
    HoldfastArenaOptions arena_options;
    const char *prefix;
    bool keys;
    const char *key;
    const char *label;
    bool no_wait;
    const char *arena;
    bool more;
} Options;

typedef struct Ctl {
    Options options;
    HoldfastConnection *connection; /* NULL for verbs that need no daemon */
    bool terminal;                  /* stdout is one */
    bool colour;                    /* of stdout */
} Ctl;

/* Runs with the arguments behind the verb; returns an exit status, and has then said why. */
typedef int (*VerbFunction)(Ctl *ctl, int count, char **arguments);

typedef struct Verb {
    const char *group; /* heading of --help, where a new one begins */
    const char *name;
    const char *arguments;
    const char *help;
    int minimum;
    int maximum; /* -1: any number */
    unsigned options;
    bool offline; /* needs no daemon */
    VerbFunction run;
} Verb;

/* verbs.c: ended by one without a name. */
extern const Verb verbs[];
const Verb *verb_find(const char *name);

/* options.c: takes the options out of the arguments; what is left is moved to the front of argv
 * (from argv[0] on) and counted in *ret_count. 0, or STATUS_USAGE with the reason told. */
int options_parse(Options *options, int argc, char **argv, int *ret_count);
/* Whether the verb takes all that was given. 0 or STATUS_USAGE. */
int options_check(const Options *options, const Verb *verb);

/* help.c */
void help_print(const Ctl *ctl);
void help_print_verb(const Verb *verb);

/* failure.c */

/* Says `holdfastctl: MESSAGE` and returns the status. */
int failure(int status, const char *format, ...) _printf_(2, 3);
/* Says why a call of the library failed (its positive or negative result) and returns the exit
 * status that goes with it. */
int failure_call(const Ctl *ctl, int r);
/* The message of the error that the daemon answered, with its name behind it in brackets; to be
 * freed. NULL on want of memory. */
char *failure_text(const HoldfastConnection *connection);

/* verb-*.c */
int verb_status(Ctl *ctl, int count, char **arguments);
int verb_arenas(Ctl *ctl, int count, char **arguments);
int verb_create(Ctl *ctl, int count, char **arguments);
int verb_change(Ctl *ctl, int count, char **arguments);
int verb_drop(Ctl *ctl, int count, char **arguments);
int verb_get(Ctl *ctl, int count, char **arguments);
int verb_put(Ctl *ctl, int count, char **arguments);
int verb_delete(Ctl *ctl, int count, char **arguments);
int verb_merge(Ctl *ctl, int count, char **arguments);
int verb_increment(Ctl *ctl, int count, char **arguments);
int verb_list(Ctl *ctl, int count, char **arguments);
int verb_apply(Ctl *ctl, int count, char **arguments);
int verb_import(Ctl *ctl, int count, char **arguments);
int verb_export(Ctl *ctl, int count, char **arguments);
int verb_checkpoint(Ctl *ctl, int count, char **arguments);
int verb_checkpoints(Ctl *ctl, int count, char **arguments);
int verb_cancel(Ctl *ctl, int count, char **arguments);
int verb_verify(Ctl *ctl, int count, char **arguments);
int verb_remove(Ctl *ctl, int count, char **arguments);
int verb_image(Ctl *ctl, int count, char **arguments);
int verb_call(Ctl *ctl, int count, char **arguments);
int verb_introspect(Ctl *ctl, int count, char **arguments);
int verb_reload(Ctl *ctl, int count, char **arguments);
