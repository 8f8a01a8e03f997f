/* top: the daemon as it is now, on a screen that is drawn anew each interval; or one such screen as
 * text or JSON, for scripts.
 *
 * A daemon that does not answer, or is gone, is told on the screen and asked again: it may just be
 * restarting. Only without a screen that is a failure. */
#include <holdfast/layout.h>
#include <limits.h>
#include <time.h>

#include "base/clock.h"
#include "base/parse.h"
#include "sample.h"
#include "screen.h"
#include "show.h"

#define ANSWER_USEC USEC_PER_SEC /* how long a key may be left waiting */
#define METHODS_SHOWN 8
#define BAR_WIDTH 20

/* Lines that are always there: title, memory, revision, rates, a checkpoint of two lines, two
 * headings, and blanks between them. */
#define FIXED_LINES 10

typedef struct Top {
    Ctl *ctl;
    Sample *before;
    Sample *now;
    char trouble[256]; /* why there is no newer one; empty: there is */
} Top;

/* --- lines */

static const char *bar(char text[static BAR_WIDTH + 1], double share)
{
    unsigned filled = (unsigned)((share < 0 ? 0 : share > 1 ? 1 : share) * BAR_WIDTH);

    for (unsigned i = 0; i < BAR_WIDTH; i++)
        text[i] = i < filled ? '#' : '-';
    text[BAR_WIDTH] = '\0';
    return text;
}

static void show_title(Frame *frame, const HoldfastStatus *status)
{
    char up[FORMAT_DURATION_MAX], clock[16];
    uint64_t now = clock_realtime();
    time_t seconds = (time_t)(now / USEC_PER_SEC);
    struct tm local;
    bool good = strcmp(status->state, "serving") == 0;

    if (localtime_r(&seconds, &local) == NULL ||
        strftime(clock, sizeof(clock), "%H:%M:%S", &local) == 0)
        strcpy(clock, "?");
    format_duration(up, now > status->started_usec ? now - status->started_usec : 0);
    frame_line(frame, good ? FRAME_BOLD : FRAME_ALARM, "%s  holdfastd %s  %s%s%s  up %s  PID %u",
               clock, status->version, status->state, status->reason != NULL ? ": " : "",
               status->reason != NULL ? status->reason : "", up, status->pid);
}

static void show_memory(Frame *frame, const HoldfastStatus *status)
{
    char bytes[FORMAT_BYTES_MAX], entries[FORMAT_NUMBER_MAX], revision[FORMAT_NUMBER_MAX],
        number[FORMAT_NUMBER_MAX], behind[FORMAT_NUMBER_MAX + 32] = "all durable";
    uint64_t durable = status->durable_revision;

    if (status->revision > durable)
        snprintf(behind, sizeof(behind), "%s not durable yet",
                 format_number(number, status->revision - durable));
    frame_line(frame, FRAME_PLAIN, "Memory   %s in %llu %s, %s %s",
               format_bytes(bytes, status->used_bytes), (unsigned long long)status->arenas,
               print_plural(status->arenas, "arena", "arenas"),
               format_number(entries, status->entries),
               print_plural(status->entries, "entry", "entries"));
    frame_line(frame, FRAME_PLAIN, "Revision %s, %s", format_number(revision, status->revision),
               behind);
}

static void show_rates(Frame *frame, const HoldfastStatus *status, const Rates *rates)
{
    char updates[FORMAT_NUMBER_MAX] = "-", reads[FORMAT_NUMBER_MAX] = "-",
         connections[FORMAT_NUMBER_MAX];

    if (rates->interval_usec > 0) {
        format_number(updates, (uint64_t)(rates->updates + 0.5));
        format_number(reads, (uint64_t)(rates->reads + 0.5));
    }
    frame_line(frame, FRAME_BOLD, "Updates  %s/s   Reads  %s/s   Connections  %s", updates, reads,
               format_number(connections, status->connections));
}

static void show_running(Frame *frame, const HoldfastCheckpoint *running, const Rates *rates)
{
    char text[BAR_WIDTH + 1], rate[FORMAT_BYTES_MAX], number[FORMAT_NUMBER_MAX],
        left[FORMAT_DURATION_MAX] = "?";
    uint64_t total = MAX(running->pages_total, 1), done = MIN(running->pages_done, total);
    double share = (double)done / (double)total;

    if (rates->pages > 0)
        format_duration(
            left, (uint64_t)((double)(total - done) / (double)rates->pages * (double)USEC_PER_SEC));
    frame_line(frame, FRAME_PLAIN, "Checkpoint %s", running->id);
    frame_line(frame, FRAME_PLAIN, "  [%s] %3u%%  %s/s, %s captured, %s left", bar(text, share),
               (unsigned)(share * 100), format_bytes(rate, rates->pages * HOLDFAST_PAGE_BYTES),
               format_number(number, running->pages_captured), left);
}

static void show_last(Frame *frame, const HoldfastCheckpoint *last)
{
    char bytes[FORMAT_BYTES_MAX], duration[FORMAT_DURATION_MAX], pause[FORMAT_DURATION_MAX],
        age[SHOW_AGE_MAX];
    bool failed = strcmp(last->state, "failed") == 0;

    frame_line(frame, failed ? FRAME_ALARM : FRAME_PLAIN, "Checkpoint %s %s", last->state,
               show_age(age, last->started_usec));
    if (last->reason != NULL)
        frame_line(frame, FRAME_PLAIN, "  %s", last->reason);
    else
        frame_line(frame, FRAME_PLAIN, "  %s in %s, pause %s, %s",
                   format_bytes(bytes, last->image_bytes),
                   format_duration(duration, last->duration_usec),
                   format_duration(pause, last->pause_usec), last->id);
}

static void show_checkpoint(Frame *frame, const HoldfastStatus *status, const Rates *rates)
{
    if (status->running_checkpoint != NULL)
        show_running(frame, status->running_checkpoint, rates);
    else if (status->last_checkpoint != NULL)
        show_last(frame, status->last_checkpoint);
    else {
        frame_line(frame, FRAME_PLAIN, "Checkpoint none yet");
        frame_line(frame, FRAME_PLAIN, "%s", "");
    }
}

static void show_methods(Frame *frame, const Sample *sample, const Rates *rates, size_t room)
{
    const Latencies *latencies = &rates->latencies;
    static const double shares[] = {0.5, 0.99, 0.999};
    char times[3][FORMAT_DURATION_MAX], calls[FORMAT_NUMBER_MAX] = "-";

    frame_line(frame, FRAME_HEADING, "%-20s %12s %12s %12s %12s", "METHOD", "CALLS/S", "50%", "99%",
               "99.9%");
    if (!sample->latencies_known)
        frame_line(frame, FRAME_PLAIN, "(this daemon does not tell how long calls take)");
    for (size_t i = 0; i < latencies->count && i < room; i++) {
        const LatencyMethod *method = &latencies->methods[i];
        for (size_t j = 0; j < ARRAY_SIZE(shares); j++)
            format_duration(times[j], latency_percentile(method, shares[j]));
        if (rates->interval_usec > 0)
            format_number(calls,
                          (uint64_t)((double)latency_requests(method) * (double)USEC_PER_SEC /
                                         (double)rates->interval_usec +
                                     0.5));
        frame_line(frame, FRAME_PLAIN, "%-20s %12s %12s %12s %12s", method->name, calls, times[0],
                   times[1], times[2]);
    }
}

static void show_arena(Frame *frame, const HoldfastArena *arena, int width)
{
    char text[BAR_WIDTH + 1], used[FORMAT_BYTES_MAX], entries[FORMAT_NUMBER_MAX];
    double share = arena->max_bytes > 0 ? (double)arena->used_bytes / (double)arena->max_bytes : 0;

    if (arena->readable)
        frame_line(frame, FRAME_PLAIN, "%-*.*s %14s %11s  [%s] %3u%%", width, width, arena->name,
                   format_number(entries, arena->entries), format_bytes(used, arena->used_bytes),
                   bar(text, share), (unsigned)(MIN(share, 1.0) * 100));
    else
        frame_line(frame, FRAME_PLAIN, "%-*.*s %14s %11s", width, width, arena->name, "-", "-");
}

static void show_table(Frame *frame, const Sample *sample, size_t room)
{
    /* Beside the name: two numbers, the bar and its percent. */
    int width = (int)(frame->columns > 80 ? MIN(frame->columns - 56, 64u) : 24u);
    size_t shown = sample->arena_count <= room ? sample->arena_count : room > 0 ? room - 1 : 0;

    frame_line(frame, FRAME_HEADING, "%-*s %14s %11s  %s", width, "ARENA", "ENTRIES", "USED",
               "OF ITS MAXIMUM");
    for (size_t i = 0; i < shown; i++)
        show_arena(frame, sample->arenas[i], width);
    if (shown < sample->arena_count)
        frame_line(frame, FRAME_PLAIN, "... and %zu more", sample->arena_count - shown);
}

/* How many lines are left for the rows of both tables, and how many of them go to methods. */
static void divide_lines(const Frame *frame, const Sample *sample, const Rates *rates,
                         size_t *ret_methods, size_t *ret_arenas)
{
    size_t room = frame->lines > FIXED_LINES ? frame->lines - FIXED_LINES : 0;
    size_t methods = sample->latencies_known ? MIN(rates->latencies.count, METHODS_SHOWN) : 1;

    /* Half each, and what one does not need is the other's. */
    if (methods + sample->arena_count > room)
        methods = MIN(methods,
                      MAX(room / 2, room > sample->arena_count ? room - sample->arena_count : 0));
    *ret_methods = methods;
    *ret_arenas = room - MIN(methods, room);
}

static void show_sample(Frame *frame, const Top *top)
{
    size_t methods, arenas;
    Rates *rates = calloc(1, sizeof(*rates));

    if (rates == NULL) {
        frame_line(frame, FRAME_ALARM, "no memory");
        return;
    }
    sample_rates(top->now, top->before, rates);
    divide_lines(frame, top->now, rates, &methods, &arenas);
    if (top->trouble[0] != '\0')
        frame_line(frame, FRAME_ALARM, "%s", top->trouble);
    else
        show_title(frame, top->now->status);
    show_memory(frame, top->now->status);
    show_rates(frame, top->now->status, rates);
    show_checkpoint(frame, top->now->status, rates);
    frame_line(frame, FRAME_PLAIN, "%s", frame->escapes ? "(q quits)" : "");
    show_methods(frame, top->now, rates, methods);
    frame_line(frame, FRAME_PLAIN, "%s", "");
    show_table(frame, top->now, arenas);
    free(rates);
}

/* --- once */

static int print_sample_json(const Top *top, const Rates *rates)
{
    char *text = sample_json(top->now, rates);

    if (text == NULL)
        return failure_call(top->ctl, -ENOMEM);
    print_json(top->ctl, text, strlen(text), top->ctl->options.json);
    free(text);
    return STATUS_OK;
}

static int print_sample(Top *top)
{
    unsigned lines, columns;
    Frame frame;
    int r;

    terminal_size(top->ctl->screen, &lines, &columns);
    r = frame_begin(&frame, UINT_MAX, columns, false, top->ctl->colour);
    if (r < 0)
        return failure_call(top->ctl, r);
    show_sample(&frame, top);
    r = frame_end(&frame);
    return r < 0 ? failure_call(top->ctl, r) : STATUS_OK;
}

static void sleep_usec(uint64_t usec)
{
    struct timespec left = {.tv_sec = (time_t)(usec / USEC_PER_SEC),
                            .tv_nsec = (long)(usec % USEC_PER_SEC) * 1000};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static int run_once(Top *top)
{
    int r = sample_take(top->ctl, &top->before);
    int status;

    if (r == 0) {
        sleep_usec(top->ctl->options.interval_usec);
        r = sample_take(top->ctl, &top->now);
    }
    if (r != 0)
        return failure_call(top->ctl, r);
    if (top->ctl->options.json == JSON_OFF)
        return print_sample(top);
    Rates *rates = calloc(1, sizeof(*rates));
    if (rates == NULL)
        return failure_call(top->ctl, -ENOMEM);
    sample_rates(top->now, top->before, rates);
    status = print_sample_json(top, rates);
    free(rates);
    return status;
}

/* --- the screen */

/* A connection that broke is made anew at the next turn. */
static void refresh(Top *top)
{
    Ctl *ctl = top->ctl;
    Sample *sample;
    int r = 0;

    if (ctl->connection == NULL) {
        r = connect_quietly(ctl);
        if (r == 0)
            holdfast_set_timeout(ctl->connection, ANSWER_USEC);
    }
    if (r == 0)
        r = sample_take(ctl, &sample);
    if (r == 0) {
        sample_free(top->before);
        top->before = top->now;
        top->now = sample;
        top->trouble[0] = '\0';
        return;
    }
    snprintf(top->trouble, sizeof(top->trouble), "%s",
             r == -ETIMEDOUT              ? "The daemon does not answer"
             : r == HOLDFAST_ERROR_REMOTE ? holdfast_error_name(ctl->connection)
             : r == -EACCES               ? "No permission to connect any more"
                                          : "There is no daemon; waiting for it");
    if (r < 0 && r != -ETIMEDOUT) {
        holdfast_disconnect(ctl->connection);
        ctl->connection = NULL;
    }
}

static int draw(Top *top)
{
    unsigned lines, columns;
    Frame frame;
    int r;

    terminal_size(top->ctl->screen, &lines, &columns);
    r = frame_begin(&frame, lines, columns, true, top->ctl->colour);
    if (r < 0)
        return r;
    show_sample(&frame, top);
    return frame_end(&frame);
}

static int run_screen(Top *top)
{
    uint64_t due;
    Screen screen;
    ScreenEvent event = SCREEN_TIME;
    int r = sample_take(top->ctl, &top->now);

    /* What is wrong from the start is told as all errors are. */
    if (r != 0)
        return failure_call(top->ctl, r);
    holdfast_set_timeout(top->ctl->connection, MIN(ANSWER_USEC, top->ctl->options.timeout_usec));
    r = screen_open(&screen);
    if (r < 0)
        return failure_call(top->ctl, r);
    due = clock_monotonic() + top->ctl->options.interval_usec;
    for (;;) {
        if (event != SCREEN_KEY)
            r = draw(top);
        if (r < 0)
            break;
        event = screen_wait(&screen, due);
        if (event == SCREEN_END ||
            (event == SCREEN_KEY && (screen.key == 'q' || screen.key == 'Q')))
            break;
        if (event == SCREEN_TIME) {
            refresh(top);
            due = clock_monotonic() + top->ctl->options.interval_usec;
        }
    }
    screen_close(&screen);
    return r < 0 ? failure_call(top->ctl, r) : STATUS_OK;
}

int verb_top(Ctl *ctl, int count, char **arguments)
{
    const char *term = getenv("TERM");
    bool once = ctl->options.once || !ctl->terminal || ctl->options.json != JSON_OFF ||
                term == NULL || strcmp(term, "dumb") == 0;
    Top top = {.ctl = ctl};
    int status;

    (void)count;
    (void)arguments;
    status = once ? run_once(&top) : run_screen(&top);
    sample_free(top.before);
    sample_free(top.now);
    return status;
}
