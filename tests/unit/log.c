/* Unit tests of base/log: what arrives on stderr. */
#include "base/log.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

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
    const LogField fields[] = {{"CHECKPOINT", "7"}, {NULL, NULL}};

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
