/* What the client library makes of replies that hold more than a value: streams, entries,
 * checkpoints, the status; and of replies that are damaged. */
#include <criterion/criterion.h>
#include <errno.h>
#include <holdfast.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/played.h"

/* --- streams and lists */

typedef struct Seen {
    char text[512];
    int calls;
    int stop_at;
} Seen;

static int see_reply(void *context, const char *reply, size_t length)
{
    Seen *seen = context;

    strncat(seen->text, reply, length);
    return ++seen->calls == seen->stop_at ? 77 : 0;
}

Test(client_records, a_stream_ends_with_the_reply_that_does_not_continue)
{
    Fixture fixture = fixture_make();
    Seen seen = {0};

    say(&fixture, "{\"parameters\":{\"n\":1},\"continues\":true}");
    say(&fixture, "{\"continues\":true,\"parameters\":{\"n\":2}}");
    say(&fixture, "{\"parameters\":{\"n\":3},\"continues\":false}");
    cr_assert_eq(holdfast_stream(fixture.connection, "List", NULL, see_reply, &seen), 0);
    cr_assert_str_eq(seen.text, "{\"n\":1}{\"n\":2}{\"n\":3}");
    fixture_end(&fixture);
}

Test(client_records, the_rest_of_a_stream_that_was_stopped_is_dropped)
{
    Fixture fixture = fixture_make();
    Seen seen = {.stop_at = 1};
    const char *reply;

    say(&fixture, "{\"parameters\":{\"n\":1},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"n\":2},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"n\":3}}");
    say(&fixture, "{\"parameters\":{\"n\":4}}");
    cr_assert_eq(holdfast_stream(fixture.connection, "List", NULL, see_reply, &seen), 77);
    cr_assert_eq(holdfast_outstanding(fixture.connection), 0);
    cr_assert_eq(holdfast_call(fixture.connection, "GetStatus", NULL, &reply, NULL), 0);
    cr_assert_str_eq(reply, "{\"n\":4}");
    fixture_end(&fixture);
}

Test(client_records, an_error_ends_a_stream)
{
    Fixture fixture = fixture_make();
    Seen seen = {0};

    say(&fixture, "{\"parameters\":{\"n\":1},\"continues\":true}");
    say(&fixture, "{\"error\":\"io.holdfast.ArenaDamaged\",\"parameters\":{\"arena\":\"a\","
                  "\"where\":\"w\"}}");
    cr_assert_eq(holdfast_stream(fixture.connection, "List", NULL, see_reply, &seen),
                 HOLDFAST_ERROR_REMOTE);
    cr_assert_eq(seen.calls, 1);
    cr_assert_eq(holdfast_outstanding(fixture.connection), 0);
    fixture_end(&fixture);
}

static int see_entry(void *context, const HoldfastItem *entry)
{
    Seen *seen = context;
    size_t used = strlen(seen->text);

    cr_assert_eq(strlen(entry->key), entry->key_length);
    snprintf(seen->text + used, sizeof(seen->text) - used, "%s=%s@%llu;", entry->key,
             entry->json != NULL ? entry->json : "-", (unsigned long long)entry->revision);
    return ++seen->calls == seen->stop_at ? 77 : 0;
}

#define ENTRIES                                                                                    \
    "[{\"key\":\"a\\u00e4\\ud83d\\ude00\\n\",\"value\":{\"x\":[0.10,\"]}\"]},\"revision\":1}, "    \
    "{\"revision\":2,\"value\":null,\"key\":\"\\\"\\\\\"}]"

Test(client_records, a_page_of_entries_has_plain_keys_and_untouched_values)
{
    Fixture fixture = fixture_make();
    Seen seen = {0};
    const char *next;

    say(&fixture, "{\"parameters\":{\"next\":\"00\\u0066f\",\"entries\":" ENTRIES "}}");
    cr_assert_eq(holdfast_list(fixture.connection, "a", "p", "0001", 5, 0, see_entry, &seen, &next),
                 0);
    cr_assert_str_eq(seen.text, "aä😀\n={\"x\":[0.10,\"]}\"]}@1;\"\\=null@2;");
    cr_assert_str_eq(next, "00ff");
    expect_heard(&fixture, "{\"method\":\"io.holdfast.List\",\"parameters\":{\"arena\":\"a\","
                           "\"prefix\":\"p\",\"cursor\":"
                           "\"0001\",\"limit\":5}}");
    /* A cursor may be handed back as it was given. */
    say(&fixture, "{\"parameters\":{\"entries\":[]}}");
    cr_assert_eq(holdfast_list(fixture.connection, "a", NULL, next, 0, HOLDFAST_KEYS_ONLY,
                               see_entry, &seen, &next),
                 0);
    cr_assert_null(next);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.List\",\"parameters\":{\"arena\":\"a\","
                           "\"cursor\":\"00ff\",\"values\":false}}");
    fixture_end(&fixture);
}

Test(client_records, all_pages_are_streamed_and_can_be_stopped)
{
    Fixture fixture = fixture_make();
    Seen seen = {.stop_at = 3};

    say(&fixture, "{\"parameters\":{\"entries\":" ENTRIES ",\"next\":\"1\"},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"entries\":" ENTRIES ",\"next\":\"2\"},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"entries\":[]}}");
    cr_assert_eq(
        holdfast_list_all(fixture.connection, "a", NULL, HOLDFAST_KEYS_ONLY, see_entry, &seen), 77);
    cr_assert_str_eq(seen.text, "aä😀\n=-@1;\"\\=-@2;aä😀\n=-@1;");
    say(&fixture, "{}");
    cr_assert_eq(holdfast_drop_arena(fixture.connection, "a"), 0);
    fixture_end(&fixture);
}

Test(client_records, get_many_visits_the_entries_there_are)
{
    Fixture fixture = fixture_make();
    const HoldfastText keys[] = {{"x", 1}, {"y", 1}};
    Seen seen = {0};
    uint64_t revision;

    say(&fixture, "{\"parameters\":{\"entries\":[{\"key\":\"y\",\"value\":1,\"revision\":4}],"
                  "\"revision\":6}}");
    cr_assert_eq(holdfast_get_many(fixture.connection, "a", keys, 2, see_entry, &seen, &revision),
                 0);
    cr_assert_str_eq(seen.text, "y=1@4;");
    cr_assert_eq(revision, 6);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.GetMany\",\"parameters\":{\"arena\":\"a\","
                           "\"keys\":[\"x\",\"y\"]}}");
    fixture_end(&fixture);
}

/* --- records */

#define CHECKPOINT(state, done)                                                                    \
    "{\"id\":\"00000000000000000007-20260101T000000Z\",\"label\":null,\"state\":\"" state          \
    "\",\"revision\":7,"                                                                           \
    "\"arenas\":[\"a\",\"b\"],\"pid\":9,\"startedUSec\":1,\"pauseUSec\":2,\"heldUSec\":3,"         \
    "\"durationUSec\":4,"                                                                          \
    "\"pagesTotal\":100,\"pagesDone\":" done                                                       \
    ",\"pagesCaptured\":6,\"stateBytes\":7,\"imageBytes\":8}"

static void see_progress(void *context, const HoldfastCheckpoint *checkpoint)
{
    Seen *seen = context;
    size_t used = strlen(seen->text);

    snprintf(seen->text + used, sizeof(seen->text) - used, "%s %llu;", checkpoint->state,
             (unsigned long long)checkpoint->pages_done);
}

Test(client_records, a_checkpoint_is_followed_to_its_end)
{
    Fixture fixture = fixture_make();
    const char *const arenas[] = {"a", "b", NULL};
    HoldfastCheckpoint *checkpoint;
    Seen seen = {0};

    say(&fixture,
        "{\"parameters\":{\"checkpoint\":" CHECKPOINT("running", "10") "},\"continues\":true}");
    say(&fixture,
        "{\"parameters\":{\"checkpoint\":" CHECKPOINT("running", "50") "},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"checkpoint\":" CHECKPOINT("complete", "100") "}}");
    cr_assert_eq(holdfast_take_checkpoint(fixture.connection, arenas, "l", true, see_progress,
                                          &seen, &checkpoint),
                 0);
    cr_assert_str_eq(seen.text, "running 10;running 50;");
    cr_assert_str_eq(checkpoint->state, "complete");
    cr_assert_null(checkpoint->label);
    cr_assert_null(checkpoint->path);
    cr_assert_str_eq(checkpoint->arenas[1], "b");
    cr_assert_null(checkpoint->arenas[2]);
    cr_assert_eq(checkpoint->image_bytes, 8);
    holdfast_checkpoint_free(checkpoint);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.TakeCheckpoint\",\"more\":true,"
                           "\"parameters\":{\"arenas\":[\"a\","
                           "\"b\"],\"label\":\"l\",\"wait\":true}}");
    fixture_end(&fixture);
}

Test(client_records, a_status_holds_its_checkpoints_and_its_command)
{
    Fixture fixture = fixture_make();
    HoldfastStatus *status;

    say(&fixture, "{\"parameters\":{\"status\":{\"version\":\"1\",\"pid\":5,\"state\":\"readonly\","
                  "\"reason\":\"why\",\"startedUSec\":1,"
                  "\"recovery\":\"image\",\"recoveryDurationUSec\":2,\"arenas\":1,\"entries\":2,"
                  "\"usedBytes\":3,\"revision\":4,"
                  "\"durableRevision\":3,\"connections\":1,\"updates\":2,\"reads\":3,"
                  "\"lastCheckpoint\":" CHECKPOINT(
                      "complete", "1") ",\"runningCheckpoint\":null,\"afterCommand\":{"
                                       "\"checkpoint\":\"x\",\"startedUSec\":1,"
                                       "\"exitStatus\":0}}}}");
    cr_assert_eq(holdfast_get_status(fixture.connection, &status), 0);
    cr_assert_str_eq(status->reason, "why");
    cr_assert_eq(status->durable_revision, 3);
    cr_assert_str_eq(status->last_checkpoint->arenas[0], "a");
    cr_assert_null(status->running_checkpoint);
    cr_assert_eq(status->after_command->exit_status, 0);
    cr_assert_eq(status->after_command->signal, -1);
    holdfast_status_free(status);
    fixture_end(&fixture);
}

Test(client_records, arenas_that_may_not_be_read_are_told_apart)
{
    Fixture fixture = fixture_make();
    HoldfastArena **arenas;
    size_t count;

    say(&fixture, "{\"parameters\":{\"arenas\":[{\"name\":\"a\",\"entries\":0,\"maxBytes\":1048576,"
                  "\"uid\":4294967295,"
                  "\"mode\":384},{\"name\":\"b\",\"entries\":0,\"maxBytes\":0,\"uid\":1}]}}");
    cr_assert_eq(holdfast_list_arenas(fixture.connection, &arenas, &count), 0);
    cr_assert_eq(count, 2);
    cr_assert(arenas[0]->readable);
    cr_assert_eq(arenas[0]->uid, UINT32_MAX);
    cr_assert_not(arenas[1]->readable);
    cr_assert_null(arenas[2]);
    holdfast_arenas_free(arenas);
    fixture_end(&fixture);
}

Test(client_records, records_of_wrong_types_end_the_connection)
{
    static const char *const arenas[] = {
        "{}",
        "[]",
        "{\"name\":1}",
        "{\"name\":\"a\",\"entries\":\"1\"}",
        "{\"name\":\"a\",\"entries\":-1}",
        "{\"name\":\"a\",\"uid\":4294967296}",
        "{\"name\":\"a\",\"mode\":1.0}",
        "{\"name\":\"a\",\"name\":\"b\"}",
    };

    for (size_t i = 0; i < sizeof(arenas) / sizeof(arenas[0]); i++) {
        Fixture fixture = fixture_make();
        char reply[256];

        snprintf(reply, sizeof(reply), "{\"parameters\":{\"arena\":%s}}", arenas[i]);
        say(&fixture, reply);
        cr_expect_eq(holdfast_create_arena(fixture.connection, "a", NULL, NULL), -EBADMSG, "%s",
                     arenas[i]);
        fixture_end(&fixture);
    }
}

Test(client_records, arena_options_are_sent_where_they_are_set)
{
    Fixture fixture = fixture_make();
    HoldfastArenaOptions options = {
        .set = HOLDFAST_SET_MODE | HOLDFAST_SET_GROUP, .max_bytes = 5, .mode = 0660, .gid = 7};

    say(&fixture, "{\"parameters\":{\"arena\":{\"name\":\"a\"}}}");
    cr_assert_eq(holdfast_change_arena(fixture.connection, "a", &options, NULL), 0);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.ChangeArena\",\"parameters\":{\"name\":\"a\","
                           "\"mode\":432,\"gid\":7}}");
    fixture_end(&fixture);
}

Test(client_records, reload_and_descriptions_give_their_texts)
{
    Fixture fixture = fixture_make();
    const char *description;
    char **ignored;

    say(&fixture, "{\"parameters\":{\"ignored\":[\"Server.Socket\",\"b\"]}}");
    cr_assert_eq(holdfast_reload(fixture.connection, &ignored), 0);
    cr_assert_str_eq(ignored[0], "Server.Socket");
    cr_assert_str_eq(ignored[1], "b");
    cr_assert_null(ignored[2]);
    holdfast_names_free(ignored);
    say(&fixture, "{\"parameters\":{\"description\":\"# a\\ninterface \\\"x\\\"\\n\"}}");
    cr_assert_eq(holdfast_describe(fixture.connection, "x", &description), 0);
    cr_assert_str_eq(description, "# a\ninterface \"x\"\n");
    fixture_end(&fixture);
}

/* --- whatever comes */

static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Replies with a few bytes changed, for calls that take them apart in each way; what they return
 * does not matter, that they return does (and the sanitizers). */
Test(client_records, damaged_replies_are_survived, .timeout = 120)
{
    static const char *const replies[] = {
        "{\"parameters\":{\"next\":\"00\\u0066f\",\"entries\":" ENTRIES "}}",
        "{\"parameters\":{\"value\":{\"a\":[1,2,\"\\ud83d\\ude00\"]},\"revision\":7}}",
        "{\"parameters\":{\"checkpoint\":" CHECKPOINT("complete", "100") "}}",
        "{\"error\":\"io.holdfast.NoSuchKey\",\"parameters\":{\"arena\":\"a\",\"key\":\"k\"}}",
    };
    static const char interesting[] = "{}[]\",:\\u0d8 \n";
    uint32_t state = 1;

    for (int i = 0; i < 20000; i++) {
        Fixture fixture = fixture_make();
        Seen seen = {0};
        char text[1024];
        size_t size = strlen(replies[i % 4]) + 1;

        memcpy(text, replies[i % 4], size);
        for (uint32_t n = random_next(&state) % 4; n > 0; n--)
            text[random_next(&state) % (size - 1)] =
                random_next(&state) % 4 == 0
                    ? (char)random_next(&state)
                    : interesting[random_next(&state) % (sizeof(interesting) - 1)];
        say_bytes(&fixture, text, size);
        shutdown(fixture.peer, SHUT_WR);
        switch (random_next(&state) % 4) {
        case 0:
            holdfast_list(fixture.connection, "a", NULL, NULL, 0, 0, see_entry,
                          &(Seen){.stop_at = 9}, NULL);
            break;
        case 1:
            holdfast_get(fixture.connection, "a", "k", 1, NULL, NULL, NULL);
            break;
        case 2:
            holdfast_verify_checkpoint(fixture.connection, "i", see_progress, &seen, NULL);
            break;
        case 3:
            holdfast_describe(fixture.connection, "i", NULL);
            break;
        }
        fixture_end(&fixture);
    }
}
