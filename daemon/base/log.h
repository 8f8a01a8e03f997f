/* The log: one line an event, to stderr with a priority prefix (sd-daemon(3)), or to the journal
 * with fields. Upper layers log, once, with the object's name and what happens now; lower layers
 * return errors. */
#pragma once

#include <sys/types.h>
#include <syslog.h>

#include "base/common.h"

/* Chooses the target: the journal where $JOURNAL_STREAM says that stderr is connected to it, else
 * stderr. Also the only global state there is: the target and the level. */
void log_setup(int level);
void log_set_level(int level);

/* One message. priority: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG of syslog(3). Keeps
 * errno. */
void log_write(int priority, const char *format, ...) _printf_(2, 3);

#define log_error(...) log_write(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

/* A field of a structured message: name in capitals, value as text. */
typedef struct LogField {
    const char *name;
    const char *value;
} LogField;

/* A message with a MESSAGE_ID (32 hex digits, listed in base/message-ids.h; NULL: none) and fields
 * (ended by a NULL name, at most 40; may be NULL; a name may come more than once). On stderr only
 * the text is written. Keeps errno. */
void log_event(int priority, const char *message_id, const LogField *fields, const char *format,
               ...) _printf_(4, 5);

/* A number as the value of a field, into text. */
#define LOG_NUMBER_MAX 24
const char *log_number(char text[static LOG_NUMBER_MAX], uint64_t value);
/* What somebody else can cause again and again is told at once, and then no more than once a
 * minute, with how often it was left out. Zero-initialised; lies in whatever has the condition. */
typedef struct LogLimit {
    uint64_t silent_until_usec; /* monotonic */
    uint64_t left_out;
} LogLimit;

void log_limited(LogLimit *limit, int priority, const char *format, ...) _printf_(3, 4);

/* The text of a negative or positive errno, in a buffer of the calling thread. */
const char *log_errno(int error);
