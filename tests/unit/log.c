/* Unit tests of base/log: what arrives on stderr, and what is given to the journal. (That it
 * arrives there is seen in tests/integration/told.py.) */
#include "base/log.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/message-ids.h"
#include "lib/temporary.h"

static Temporary *directory;

/* stderr goes to a file, as it does where a service manager redirects it. */
static void setup(void)
{
    int fd;

    unsetenv("JOURNAL_STREAM");
    directory = temporary_new();
    fd = openat(directory->fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cr_assert(ge(int, dup2(fd, STDERR_FILENO), 0));
    close(fd);
    log_setup(LOG_INFO);
}

static void teardown(void)
{
    directory = temporary_free(directory);
}

TestSuite(log, .init = setup, .fini = teardown);

static void assert_logged(const char *expected)
{
    _cleanup_(freep) char *text = temporary_read(directory, "log", NULL);

    cr_assert(eq(str, text, (char *)expected));
}

Test(log, lines_carry_their_priority_where_no_person_reads_them)
{
    log_error("no room for %s", "images");
    log_warning("careful");
    log_notice("noted");
    log_info("%d arenas", 3);
    assert_logged("<3>no room for images\n<4>careful\n<5>noted\n<6>3 arenas\n");
}

Test(log, what_is_below_the_level_is_left_out)
{
    log_debug("one");
    log_set_level(LOG_DEBUG);
    log_debug("two");
    log_set_level(LOG_WARNING);
    log_notice("three");
    assert_logged("<7>two\n");
}

Test(log, a_message_is_one_line_whatever_names_it_holds)
{
    log_info("arena '%s'", "a\n<0>forged\r\033[31m");
    assert_logged("<6>arena 'a <0>forged  [31m'\n");
}

Test(log, a_long_message_is_cut_and_still_a_line)
{
    char long_text[5000];
    size_t size;

    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    log_info("%s", long_text);
    log_info("next");
    {
        _cleanup_(freep) char *text = temporary_read(directory, "log", &size);

        cr_assert(gt(sz, size, 1000));
        cr_assert(lt(sz, size, 4096));
        cr_assert(eq(str, strchr(text, '\n'), (char *)"\n<6>next\n"));
    }
}

Test(log, an_event_shows_its_text_alone_on_stderr)
{
    const LogField fields[] = {{"CHECKPOINT_ID", "7"}, {NULL, NULL}};

    log_event(LOG_NOTICE, MESSAGE_ID_CHECKPOINT_COMPLETE, fields, "checkpoint %d is durable", 7);
    log_event(LOG_NOTICE, MESSAGE_ID_STARTED, NULL, "serving");
    assert_logged("<5>checkpoint 7 is durable\n<5>serving\n");
}

Test(log, another_stream_than_the_journals_stays_stderr)
{
    setenv("JOURNAL_STREAM", "1:1", 1);
    log_setup(LOG_INFO);
    log_info("one");
    setenv("JOURNAL_STREAM", "nonsense", 1);
    log_setup(LOG_INFO);
    log_info("two");
    assert_logged("<6>one\n<6>two\n");
}

/* In place of libsystemd's: all that the journal would have been sent, a field a line. */
static char sent[8192];
static size_t sent_length;
static int sent_result;

int sd_journal_sendv(const struct iovec *fields, int count);

int sd_journal_sendv(const struct iovec *fields, int count)
{
    for (int i = 0; i < count; i++)
        sent_length += (size_t)snprintf(sent + sent_length, sizeof(sent) - sent_length, "%.*s\n",
                                        (int)fields[i].iov_len, (const char *)fields[i].iov_base);
    return sent_result;
}

/* stderr is a socket that $JOURNAL_STREAM names, as a service manager sets it up. */
static void connect_stderr_to_journal(void)
{
    int pair[2];
    struct stat status;
    char stream[64];

    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0));
    cr_assert(ge(int, dup2(pair[0], STDERR_FILENO), 0));
    cr_assert(eq(int, fstat(STDERR_FILENO, &status), 0));
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)status.st_dev,
             (unsigned long long)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_setup(LOG_INFO);
}

Test(log, the_journal_is_sent_fields_and_the_message_id)
{
    const LogField fields[] = {
        {"CHECKPOINT_ID", "7"}, {"ARENA", "a"}, {"ARENA", "b"}, {"REASON", NULL}, {NULL, NULL}};

    connect_stderr_to_journal();
    program_invocation_short_name = (char *)"unit-log";
    log_event(LOG_ERR, MESSAGE_ID_CHECKPOINT_FAILED, fields, "checkpoint %d\nfailed", 7);
    cr_assert(eq(str, sent,
                 (char *)"MESSAGE=checkpoint 7 failed\nPRIORITY=3\nSYSLOG_IDENTIFIER=unit-log\n"
                         "MESSAGE_ID=" MESSAGE_ID_CHECKPOINT_FAILED
                         "\nCHECKPOINT_ID=7\nARENA=a\nARENA=b\nREASON=\n"));
    log_debug("below the level");
    log_warning("plain");
    cr_assert(not(zero(
        ptr, strstr(sent, "REASON=\nMESSAGE=plain\nPRIORITY=4\nSYSLOG_IDENTIFIER=unit-log\n"))));
    cr_assert(zero(ptr, strstr(sent, "below")));
}

Test(log, what_the_journal_does_not_take_goes_to_stderr)
{
    char line[64] = "";
    int fds[2];

    connect_stderr_to_journal();
    sent_result = -ENOBUFS;
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0));
    cr_assert(ge(int, dup2(fds[0], STDERR_FILENO), 0));
    log_error("no room");
    cr_assert(eq(sz, (size_t)read(fds[1], line, sizeof(line) - 1), 11));
    cr_assert(eq(str, line, (char *)"<3>no room\n"));
}

Test(log, more_fields_than_there_is_room_for_are_left_out)
{
    LogField fields[100];

    for (size_t i = 0; i < 99; i++)
        fields[i] = (LogField){"ARENA", "a"};
    fields[99] = (LogField){NULL, NULL};
    connect_stderr_to_journal();
    log_event(LOG_INFO, MESSAGE_ID_CHECKPOINT_COMPLETE, fields, "many");
    cr_assert(not(zero(ptr, strstr(sent, "MESSAGE_ID="))));
}

Test(log, errno_survives)
{
    errno = EXDEV;
    log_error("x");
    log_event(LOG_ERR, MESSAGE_ID_UPDATES_REFUSED, NULL, "x");
    log_setup(LOG_INFO);
    cr_assert(eq(int, errno, EXDEV));
}

Test(log, errno_texts_are_the_same_for_both_signs)
{
    _cleanup_(freep) char *positive = strdup(log_errno(ENOSPC));

    cr_assert(eq(str, positive, (char *)log_errno(-ENOSPC)));
    cr_assert(eq(str, positive, (char *)"No space left on device"));
}

Test(log, message_ids_are_128_bits_in_hex_and_all_different)
{
    static const char *const ids[] = {
        MESSAGE_ID_STARTED,           MESSAGE_ID_RECOVERED,     MESSAGE_ID_CHECKPOINT_COMPLETE,
        MESSAGE_ID_CHECKPOINT_FAILED, MESSAGE_ID_IMAGE_DAMAGED, MESSAGE_ID_UPDATES_REFUSED,
        MESSAGE_ID_UPDATES_ACCEPTED,
    };

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        cr_assert(eq(sz, strspn(ids[i], "0123456789abcdef"), 32));
        cr_assert(eq(sz, strlen(ids[i]), 32));
        for (size_t j = 0; j < i; j++)
            cr_assert(ne(str, (char *)ids[i], (char *)ids[j]));
    }
}

Test(log, what_comes_again_and_again_is_told_once_a_minute_with_its_number)
{
    LogLimit limit = {0}, other = {0};

    for (int i = 0; i < 5; i++)
        log_limited(&limit, LOG_WARNING, "no room for call %d", i);
    log_limited(&other, LOG_WARNING, "something else");
    assert_logged("<4>no room for call 0\n<4>something else\n");
    limit.silent_until_usec = 1; /* a minute later */
    log_limited(&limit, LOG_WARNING, "no room for call %d", 5);
    log_limited(&limit, LOG_WARNING, "no room for call %d", 6);
    assert_logged("<4>no room for call 0\n<4>something else\n"
                  "<4>no room for call 5 (and 4 more times since this was last told)\n");
}
