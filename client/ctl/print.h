/* What is printed on stdout: JSON values, tables, and progress on stderr. */
#pragma once

#include "ctl.h"

/* How a value is printed where nobody said: pretty on a terminal, on one line in a pipe. */
JsonMode print_mode(const Ctl *ctl);
/* Prints JSON text token for token, laid out as mode says, and a newline. */
void print_json(const Ctl *ctl, const char *json, size_t size, JsonMode mode);
/* A JSON string of these characters; no newline. */
void print_string(FILE *out, const char *characters, size_t size);
/* An entry as a JSON line, as export and list -j write them; its arena first unless that is NULL,
 * its revision last where wanted. */
void print_entry(const char *arena, const HoldfastItem *entry, bool revision);
/* The characters, with control characters replaced where they go to a terminal. */
void print_plain(const Ctl *ctl, const char *characters, size_t size);
/* Whether stdout still takes what is printed; 0 or -EIO: to stop what is long. */
int print_check(void);
/* The one word or the other, for so many. */
static inline const char *print_plural(uint64_t number, const char *one, const char *many)
{
    return number == 1 ? one : many;
}
/* "Tue 2026-11-24 05:57:28 UTC": of a time since the epoch. */
#define PRINT_TIME_MAX 64
const char *print_time(char text[static PRINT_TIME_MAX], uint64_t usec);

/* The member of that name of a reply that is an object. False where there is none. */
bool print_member(const char *reply, size_t size, const char *name, HoldfastText *ret);

/* --- tables */

typedef struct Table Table;

typedef struct Column {
    const char *name;
    bool right; /* aligned */
} Column;

/* A table of these columns; 0 or -ENOMEM. */
int table_new(const Ctl *ctl, const Column *columns, size_t count, Table **ret);
/* Prints it (unless NULL), with the legend if wanted, and frees it. 0 or a negative errno. */
int table_finish(Table *table);
/* Begins a row; table_set fills its cells, all copied. A failure shows at table_finish. */
void table_row(Table *table);
void table_set(Table *table, size_t column, const char *text);

/* --- progress, on stderr where that is a terminal and -q was not given */

typedef struct Progress {
    bool shown;
    const char *label;
    uint64_t started_usec;
    uint64_t last_usec;
    bool drawn;
} Progress;

void progress_begin(Progress *progress, const Ctl *ctl, const char *label);
/* total: 0 where it is not known. detail: what stands behind the bar. Draws at most ten times a
 * second. */
void progress_update(Progress *progress, uint64_t done, uint64_t total, const char *detail);
/* Whether progress_update would draw now: so that details are made only then. */
bool progress_due(const Progress *progress);
/* Since progress_begin. */
uint64_t progress_elapsed(const Progress *progress);
/* Wipes the line. */
void progress_end(Progress *progress);
/* Lines and columns of the terminal at fd; 24 and 80 where it is none. */
void terminal_size(int fd, unsigned *ret_lines, unsigned *ret_columns);
