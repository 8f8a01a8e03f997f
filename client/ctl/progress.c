/* A bar on stderr, redrawn in place: label, bar, percent, and what the verb has to say. Where the
 * total is not known there is no bar. */
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "print.h"

#define INTERVAL_USEC (100 * USEC_PER_MSEC)
#define BAR_MAX 40

void terminal_size(int fd, unsigned *ret_lines, unsigned *ret_columns)
{
    struct winsize size = {0};
    bool known = ioctl(fd, TIOCGWINSZ, &size) == 0;

    *ret_lines = known && size.ws_row > 0 ? size.ws_row : 24;
    *ret_columns = known && size.ws_col > 0 ? size.ws_col : 80;
}

void progress_begin(Progress *progress, const Ctl *ctl, const char *label)
{
    *progress = (Progress){
        .shown = isatty(STDERR_FILENO) && !ctl->options.quiet,
        .label = label,
        .started_usec = clock_monotonic(),
    };
    progress->last_usec = progress->started_usec;
}

bool progress_due(const Progress *progress)
{
    return progress->shown && clock_monotonic() - progress->last_usec >= INTERVAL_USEC;
}

uint64_t progress_elapsed(const Progress *progress)
{
    return clock_monotonic() - progress->started_usec;
}

static void draw_bar(uint64_t done, uint64_t total, unsigned width)
{
    double share = done >= total ? 1 : (double)done / (double)total;
    unsigned filled = (unsigned)(share * width);

    fputc('[', stderr);
    for (unsigned i = 0; i < width; i++)
        fputc(i < filled ? '#' : '-', stderr);
    fprintf(stderr, "] %3u%%  ", (unsigned)(share * 100));
}

void progress_update(Progress *progress, uint64_t done, uint64_t total, const char *detail)
{
    unsigned lines, columns;
    size_t text = strlen(progress->label) + 2 + strlen(detail);

    if (!progress_due(progress))
        return;
    progress->last_usec = clock_monotonic();
    progress->drawn = true;
    terminal_size(STDERR_FILENO, &lines, &columns);
    fprintf(stderr, "\r%s  ", progress->label);
    /* Beside the texts: brackets, percent and spaces. A line that is full would wrap. */
    if (total > 0 && columns > text + 20)
        draw_bar(done, total, MIN(columns - (unsigned)text - 12, BAR_MAX));
    fprintf(stderr, "%.*s\x1b[K", (int)columns, detail);
    fflush(stderr);
}

void progress_end(Progress *progress)
{
    if (progress->drawn)
        fputs("\r\x1b[K", stderr);
    progress->drawn = false;
}
