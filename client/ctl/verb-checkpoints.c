/* checkpoint, checkpoints, verify, cancel, remove. */
#include <holdfast/layout.h>

#include "base/parse.h"
#include "show.h"

/* A name that is not UTF-8 must not just be left out: no string is made of it, and adding that
 * fails. */
static json_t *checkpoint_parameters(const Ctl *ctl, int count, char **arenas)
{
    json_t *parameters = json_pack("{s:b}", "wait", !ctl->options.no_wait);
    json_t *names = count > 0 ? json_array() : NULL;
    int r = 0;

    for (int i = 0; i < count; i++)
        r |= json_array_append_new(names, json_string(arenas[i]));
    if (count > 0)
        r |= json_object_set_new(parameters, "arenas", names);
    if (ctl->options.label != NULL)
        r |= json_object_set_new(parameters, "label", json_string(ctl->options.label));
    if (r == 0)
        return parameters;
    json_decref(parameters);
    return NULL;
}

/* --- progress */

typedef struct Following {
    Progress progress;
    bool verify;
} Following;

static uint64_t time_left(uint64_t elapsed, uint64_t done, uint64_t total)
{
    return done == 0 || done >= total
               ? 0
               : (uint64_t)((double)elapsed * (double)(total - done) / (double)done);
}

static void follow(void *context, const HoldfastCheckpoint *checkpoint)
{
    Following *following = context;
    uint64_t elapsed =
        following->verify ? progress_elapsed(&following->progress) : checkpoint->duration_usec;
    char rate[FORMAT_BYTES_MAX], captured[64] = "", left[FORMAT_DURATION_MAX],
                                 number[FORMAT_NUMBER_MAX], detail[192];

    if (!progress_due(&following->progress))
        return;
    if (!following->verify)
        snprintf(captured, sizeof(captured), ", %s captured",
                 format_number(number, checkpoint->pages_captured));
    format_bytes(rate, (uint64_t)((double)checkpoint->pages_done * HOLDFAST_PAGE_BYTES *
                                  USEC_PER_SEC / (double)MAX(elapsed, 1)));
    format_duration(left, time_left(elapsed, checkpoint->pages_done, checkpoint->pages_total));
    snprintf(detail, sizeof(detail), "%s/s%s, %s left", rate, captured, left);
    progress_update(&following->progress, checkpoint->pages_done, checkpoint->pages_total, detail);
}

/* The id first: so a script takes the first word. */
static void print_summary(const HoldfastCheckpoint *checkpoint)
{
    char state[FORMAT_BYTES_MAX], image[FORMAT_BYTES_MAX], duration[FORMAT_DURATION_MAX],
        pause[FORMAT_DURATION_MAX];

    format_duration(pause, checkpoint->pause_usec);
    if (strcmp(checkpoint->state, "running") == 0) {
        printf("%s  running, pause %s\n", checkpoint->id, pause);
        return;
    }
    printf("%s  %s, %s of state, image of %s, in %s, pause %s\n", checkpoint->id, checkpoint->state,
           format_bytes(state, checkpoint->state_bytes),
           format_bytes(image, checkpoint->image_bytes),
           format_duration(duration, checkpoint->duration_usec), pause);
}

int verb_checkpoint(Ctl *ctl, int count, char **arguments)
{
    Following following = {0};
    HoldfastCheckpoint *checkpoint;
    int r;

    if (ctl->options.json != JSON_OFF)
        return show_tree(ctl, "TakeCheckpoint", checkpoint_parameters(ctl, count, arguments),
                         "checkpoint");
    progress_begin(&following.progress, ctl, "checkpoint");
    /* argv ends in a NULL, and so does what options_parse leaves of it. */
    r = holdfast_take_checkpoint(ctl->connection, count > 0 ? (const char *const *)arguments : NULL,
                                 ctl->options.label, !ctl->options.no_wait,
                                 following.progress.shown ? follow : NULL, &following, &checkpoint);
    progress_end(&following.progress);
    if (r != 0)
        return failure_call(ctl, r);
    if (!ctl->options.quiet)
        print_summary(checkpoint);
    holdfast_checkpoint_free(checkpoint);
    return STATUS_OK;
}

int verb_verify(Ctl *ctl, int count, char **arguments)
{
    Following following = {.verify = true};
    HoldfastCheckpoint *checkpoint;
    char bytes[FORMAT_BYTES_MAX];
    int r;

    (void)count;
    if (ctl->options.json != JSON_OFF)
        return show_tree(ctl, "VerifyCheckpoint", json_pack("{s:s}", "id", arguments[0]),
                         "checkpoint");
    progress_begin(&following.progress, ctl, "verify");
    r = holdfast_verify_checkpoint(ctl->connection, arguments[0],
                                   following.progress.shown ? follow : NULL, &following,
                                   &checkpoint);
    progress_end(&following.progress);
    if (r != 0)
        return failure_call(ctl, r);
    if (!ctl->options.quiet)
        printf("%s  good, %s read\n", checkpoint->id, format_bytes(bytes, checkpoint->image_bytes));
    holdfast_checkpoint_free(checkpoint);
    return STATUS_OK;
}

/* --- the list */

enum {
    COLUMN_ID,
    COLUMN_LABEL,
    COLUMN_STATE,
    COLUMN_REVISION,
    COLUMN_SIZE,
    COLUMN_PAUSE,
    COLUMN_DURATION,
    COLUMN_AGE
};

static const Column columns[] = {
    [COLUMN_ID] = {.name = "ID"},
    [COLUMN_LABEL] = {.name = "LABEL"},
    [COLUMN_STATE] = {.name = "STATE"},
    [COLUMN_REVISION] = {.name = "REVISION", .right = true},
    [COLUMN_SIZE] = {.name = "SIZE", .right = true},
    [COLUMN_PAUSE] = {.name = "PAUSE", .right = true},
    [COLUMN_DURATION] = {.name = "DURATION", .right = true},
    [COLUMN_AGE] = {.name = "AGE", .right = true},
};

static void add_checkpoint(Table *table, const HoldfastCheckpoint *checkpoint)
{
    char text[FORMAT_DURATION_MAX], number[FORMAT_NUMBER_MAX], bytes[FORMAT_BYTES_MAX],
        age[SHOW_AGE_MAX];

    table_row(table);
    table_set(table, COLUMN_ID, checkpoint->id);
    table_set(table, COLUMN_LABEL, checkpoint->label != NULL ? checkpoint->label : "-");
    table_set(table, COLUMN_STATE, checkpoint->state);
    table_set(table, COLUMN_REVISION, format_number(number, checkpoint->revision));
    table_set(table, COLUMN_SIZE, format_bytes(bytes, checkpoint->image_bytes));
    table_set(table, COLUMN_PAUSE, format_duration(text, checkpoint->pause_usec));
    table_set(table, COLUMN_DURATION, format_duration(text, checkpoint->duration_usec));
    table_set(table, COLUMN_AGE, show_age(age, checkpoint->started_usec));
}

int verb_checkpoints(Ctl *ctl, int count, char **arguments)
{
    HoldfastCheckpoint **checkpoints;
    size_t number;
    Table *table;
    int r;

    (void)count;
    (void)arguments;
    if (ctl->options.json != JSON_OFF)
        return show_raw(ctl, "ListCheckpoints", "{}", "checkpoints");
    r = holdfast_list_checkpoints(ctl->connection, &checkpoints, &number);
    if (r != 0)
        return failure_call(ctl, r);
    r = table_new(ctl, columns, ARRAY_SIZE(columns), &table);
    if (r == 0) {
        for (size_t i = 0; i < number; i++)
            add_checkpoint(table, checkpoints[i]);
        r = table_finish(table);
    }
    holdfast_checkpoints_free(checkpoints);
    return r < 0 ? failure_call(ctl, r) : STATUS_OK;
}

int verb_cancel(Ctl *ctl, int count, char **arguments)
{
    int r = holdfast_cancel_checkpoint(ctl->connection, arguments[0]);

    (void)count;
    return r != 0 ? failure_call(ctl, r) : STATUS_OK;
}

int verb_remove(Ctl *ctl, int count, char **arguments)
{
    int r = holdfast_delete_checkpoint(ctl->connection, arguments[0]);

    (void)count;
    return r != 0 ? failure_call(ctl, r) : STATUS_OK;
}
