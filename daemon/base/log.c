/* The log. Under systemd stderr is a socket of the journal, which $JOURNAL_STREAM tells (device and
 * inode): then messages go there by sd_journal_sendv(3), with their fields. Otherwise one line a
 * message on stderr, with the priority prefix of sd-daemon(3) unless a person at a terminal reads
 * it. What cannot be logged is lost: a log that fails must not stop the daemon. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* Names that this process gives to journald itself; sd-journal.h would otherwise add the place in
 * this file. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/clock.h"
#include "base/file.h"

#define LOG_TEXT_MAX 2048
#define LOG_FIELDS_MAX 48
#define LOG_SILENT_USEC (60 * USEC_PER_SEC)

typedef enum LogTarget {
    LOG_TARGET_STDERR_PREFIXED,
    LOG_TARGET_STDERR,
    LOG_TARGET_JOURNAL,
} LogTarget;

static LogTarget log_target = LOG_TARGET_STDERR;
static atomic_int log_level = LOG_INFO;

static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;
    int end = 0;

    if (stream == NULL || sscanf(stream, "%llu:%llu%n", &device, &inode, &end) != 2 ||
        stream[end] != '\0')
        return false;
    return fstat(STDERR_FILENO, &status) == 0 && status.st_dev == (dev_t)device &&
           status.st_ino == (ino_t)inode;
}

void log_setup(int level)
{
    int saved = errno;

    if (stderr_is_journal())
        log_target = LOG_TARGET_JOURNAL;
    else if (isatty(STDERR_FILENO))
        log_target = LOG_TARGET_STDERR;
    else
        log_target = LOG_TARGET_STDERR_PREFIXED;
    log_set_level(level);
    errno = saved;
}

void log_set_level(int level)
{
    atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

/* A line break in a name that somebody else chose would be a forged line of the log. */
static void text_make_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
}

static void log_to_stderr(int priority, const char *text)
{
    char line[LOG_TEXT_MAX + 8];
    int length;

    if (log_target == LOG_TARGET_STDERR)
        length = snprintf(line, sizeof(line), "%s\n", text);
    else
        length = snprintf(line, sizeof(line), "<%d>%s\n", priority, text);
    /* One write, so that lines of threads and processes do not mix. */
    if (length > 0)
        (void)file_write(STDERR_FILENO, line, (size_t)length);
}

/* "NAME=value" on the heap as a field of the message; left out on want of memory. */
static void field_add(struct iovec *fields, size_t *count, const char *name, const char *value)
{
    char *text;
    int length;

    if (*count == LOG_FIELDS_MAX)
        return;
    length = asprintf(&text, "%s=%s", name, value);
    if (length < 0)
        return;
    fields[(*count)++] = (struct iovec){.iov_base = text, .iov_len = (size_t)length};
}

static int log_to_journal(int priority, const char *message_id, const LogField *extra,
                          const char *text)
{
    struct iovec fields[LOG_FIELDS_MAX];
    const char priority_text[] = {(char)('0' + priority), '\0'};
    size_t count = 0;
    int r;

    field_add(fields, &count, "MESSAGE", text);
    field_add(fields, &count, "PRIORITY", priority_text);
    field_add(fields, &count, "SYSLOG_IDENTIFIER", program_invocation_short_name);
    if (message_id != NULL)
        field_add(fields, &count, "MESSAGE_ID", message_id);
    for (; extra != NULL && extra->name != NULL; extra++)
        field_add(fields, &count, extra->name, extra->value != NULL ? extra->value : "");
    r = sd_journal_sendv(fields, (int)count);
    for (size_t i = 0; i < count; i++)
        free(fields[i].iov_base);
    return r;
}

static void log_vwrite(int priority, const char *message_id, const LogField *fields,
                       const char *format, va_list arguments)
{
    char text[LOG_TEXT_MAX];
    int saved = errno;

    if (priority <= atomic_load_explicit(&log_level, memory_order_relaxed)) {
        if (vsnprintf(text, sizeof(text), format, arguments) < 0)
            snprintf(text, sizeof(text), "%s", format);
        text_make_one_line(text);
        if (log_target != LOG_TARGET_JOURNAL ||
            log_to_journal(priority, message_id, fields, text) < 0)
            log_to_stderr(priority, text);
    }
    errno = saved;
}

void log_write(int priority, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_vwrite(priority, NULL, NULL, format, arguments);
    va_end(arguments);
}

void log_event(int priority, const char *message_id, const LogField *fields, const char *format,
               ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_vwrite(priority, message_id, fields, format, arguments);
    va_end(arguments);
}

void log_limited(LogLimit *limit, int priority, const char *format, ...)
{
    char text[LOG_TEXT_MAX];
    int saved = errno;
    uint64_t now = clock_monotonic();
    va_list arguments;

    errno = saved; /* for %m */
    if (now < limit->silent_until_usec) {
        limit->left_out++;
        return;
    }
    va_start(arguments, format);
    if (vsnprintf(text, sizeof(text), format, arguments) < 0)
        snprintf(text, sizeof(text), "%s", format);
    va_end(arguments);
    if (limit->left_out > 0)
        log_write(priority, "%s (and %llu more times since this was last told)", text,
                  (unsigned long long)limit->left_out);
    else
        log_write(priority, "%s", text);
    *limit = (LogLimit){.silent_until_usec = now + LOG_SILENT_USEC};
    errno = saved;
}

const char *log_number(char text[static LOG_NUMBER_MAX], uint64_t value)
{
    snprintf(text, LOG_NUMBER_MAX, "%llu", (unsigned long long)value);
    return text;
}

const char *log_errno(int error)
{
    static _Thread_local char text[128];

    /* The GNU version: may return a constant text instead of filling the buffer. */
    return strerror_r(error < 0 ? -error : error, text, sizeof(text));
}
