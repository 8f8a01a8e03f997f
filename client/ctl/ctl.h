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
    OPTION_ONCE = 1 << 12,
    OPTION_INTERVAL = 1 << 13,
};

typedef struct Options {
    const char *socket; /* NULL: the default */
    JsonMode json;
    bool json_given;
    bool no_legend;
    bool no_pager;
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
    bool once;
    uint64_t interval_usec;
} Options;

typedef struct OptionSpec {
    const char *name;     /* NULL: it has a letter alone */
    char letter;          /* '\0': none */
    const char *argument; /* what --help calls its value; NULL: it takes none */
    unsigned flag;        /* OPTION_...; 0: every verb takes it */
    const char *help;
    int (*parse)(Options *options, const char *value);
} OptionSpec;

typedef struct Ctl {
    Options options;
    HoldfastConnection *connection; /* NULL for verbs that need no daemon */
    bool terminal;                  /* stdout is one, or a pager that writes to one */
    bool colour;                    /* of stdout */
    int screen;                     /* descriptor to ask for the terminal's size */
    pid_t pager;                    /* 0: none */
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
    bool paged;   /* prints what may be longer than a screen, for people to read */
    VerbFunction run;
} Verb;

/* verbs.c: ended by one without a name. */
extern const Verb verbs[];
const Verb *verb_find(const char *name);
/* "put ARENA KEY [JSON|-]": into text. */
#define VERB_USAGE_MAX 64
const char *verb_usage(const Verb *verb, char text[static VERB_USAGE_MAX]);

/* main.c: connects to the daemon that the options name, with their timeout; says nothing. 0 or a
 * negative errno. */
int connect_quietly(Ctl *ctl);

/* options.c: the table of options, in the order of --help, ended by one without a parser. */
extern const OptionSpec option_specs[];
/* Takes the options out of the arguments; what is left is moved to the front of argv
 * (from argv[0] on) and counted in *ret_count. 0, or STATUS_USAGE with the reason told. */
int options_parse(Options *options, int argc, char **argv, int *ret_count);
/* Whether the verb takes all that was given. 0 or STATUS_USAGE. */
int options_check(const Options *options, const Verb *verb);

/* help.c */
void help_print(const Ctl *ctl);
void help_print_verb(const Ctl *ctl, const Verb *verb);

/* pager.c */

/* Where stdout is a terminal and nobody said otherwise: from now on stdout goes to a pager. Where
 * there is none, nothing changes. */
void pager_open(Ctl *ctl);
/* To be called when stdout is closed: waits until whoever reads there has seen enough. */
void pager_wait(Ctl *ctl);

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
int verb_top(Ctl *ctl, int count, char **arguments);
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
int verb_metrics(Ctl *ctl, int count, char **arguments);
int verb_reload(Ctl *ctl, int count, char **arguments);
