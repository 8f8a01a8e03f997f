/* See screen.h. Signals are blocked and read from a descriptor, so that none comes between two
 * sequences; a stop (Ctrl-Z) gives the terminal back first and takes it again afterwards. */
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "screen.h"

#define LINE_MAX_BYTES 512

static void write_all(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a terminal that is gone: its SIGHUP ends us */
        text += n;
        size -= (size_t)n;
    }
}

static void write_text(const char *text)
{
    write_all(text, strlen(text));
}

/* Alternate screen, no cursor; keys at once and not echoed. */
static void take_terminal(Screen *screen)
{
    struct termios raw = screen->saved;

    write_text("\x1b[?1049h\x1b[?25l");
    if (!screen->keys)
        return;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static void give_terminal(Screen *screen)
{
    if (screen->keys)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &screen->saved);
    write_text("\x1b[?25h\x1b[?1049l");
}

static void watched_signals(sigset_t *set)
{
    static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};

    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_SIZE(watched); i++)
        sigaddset(set, watched[i]);
}

int screen_open(Screen *screen)
{
    sigset_t set;

    *screen = (Screen){.signal_fd = -1};
    screen->keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen->saved) == 0;
    watched_signals(&set);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    screen->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (screen->signal_fd < 0) {
        int r = -errno;
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        return r;
    }
    take_terminal(screen);
    return 0;
}

static void stop(Screen *screen)
{
    give_terminal(screen);
    raise(SIGSTOP);
    take_terminal(screen);
}

static ScreenEvent take_signal(Screen *screen)
{
    struct signalfd_siginfo info;

    if (read(screen->signal_fd, &info, sizeof(info)) != sizeof(info))
        return SCREEN_RESIZE;
    if (info.ssi_signo == SIGTSTP)
        stop(screen);
    if (info.ssi_signo == SIGTSTP || info.ssi_signo == SIGWINCH)
        return SCREEN_RESIZE;
    screen->end_signal = (int)info.ssi_signo;
    return SCREEN_END;
}

ScreenEvent screen_wait(Screen *screen, uint64_t deadline_usec)
{
    struct pollfd fds[] = {
        {.fd = screen->signal_fd, .events = POLLIN},
        {.fd = screen->keys ? STDIN_FILENO : -1, .events = POLLIN},
    };
    uint64_t now = clock_monotonic();
    uint64_t left = deadline_usec > now ? deadline_usec - now : 0;
    int n = poll(fds, ARRAY_SIZE(fds), (int)MIN(DIVIDE_UP(left, USEC_PER_MSEC), INT_MAX));

    if (n < 0 && errno != EINTR)
        return SCREEN_END;
    if (n <= 0)
        return n == 0 ? SCREEN_TIME : SCREEN_RESIZE;
    if (fds[0].revents != 0)
        return take_signal(screen);
    return read(STDIN_FILENO, &screen->key, 1) == 1 ? SCREEN_KEY : SCREEN_END;
}

void screen_close(Screen *screen)
{
    sigset_t set;

    give_terminal(screen);
    close(screen->signal_fd);
    watched_signals(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (screen->end_signal != 0)
        raise(screen->end_signal);
}

/* --- frames */

int frame_begin(Frame *frame, unsigned lines, unsigned columns, bool escapes, bool colour)
{
    *frame = (Frame){.lines = lines, .columns = columns, .escapes = escapes, .colour = colour};
    frame->out = open_memstream(&frame->text, &frame->size);
    if (frame->out == NULL)
        return -ENOMEM;
    if (escapes)
        fputs("\x1b[H", frame->out);
    return 0;
}

static const char *look_sequence(const Frame *frame, FrameLook look)
{
    static const char *const sequences[] = {
        [FRAME_PLAIN] = "",
        [FRAME_BOLD] = "\x1b[1m",
        [FRAME_HEADING] = "\x1b[7m",
        [FRAME_ALARM] = "\x1b[1;31m",
    };

    return frame->colour ? sequences[look] : "";
}

/* All texts of a frame are ASCII: other bytes would have a width that has to be known. */
static unsigned clean(char *text, unsigned columns)
{
    unsigned length = 0;

    for (; text[length] != '\0' && length < columns; length++)
        if (text[length] < 0x20 || text[length] > 0x7e)
            text[length] = '?';
    return length;
}

void frame_line(Frame *frame, FrameLook look, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    const char *sequence = look_sequence(frame, look);
    va_list arguments;
    unsigned length;

    if (frame->used >= frame->lines)
        return;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof(text), format, arguments) < 0)
        text[0] = '\0';
    va_end(arguments);
    length = clean(text, frame->columns);
    /* On a screen no line break ends the last line: that would scroll. */
    if (frame->escapes && frame->used > 0)
        fputs("\r\n", frame->out);
    fprintf(frame->out, "%s%.*s", sequence, (int)length, text);
    if (look == FRAME_HEADING && sequence[0] != '\0' && frame->columns > length)
        fprintf(frame->out, "%*s", (int)(frame->columns - length), "");
    if (sequence[0] != '\0')
        fputs("\x1b[0m", frame->out);
    /* Behind a line that is full the erasing would take its last character. */
    if (frame->escapes && length < frame->columns && (look != FRAME_HEADING || sequence[0] == '\0'))
        fputs("\x1b[K", frame->out);
    if (!frame->escapes)
        fputc('\n', frame->out);
    frame->used++;
}

int frame_end(Frame *frame)
{
    if (frame->escapes && frame->used < frame->lines)
        fputs("\r\n\x1b[J", frame->out);
    if (fclose(frame->out) != 0)
        return -ENOMEM;
    if (frame->escapes)
        write_all(frame->text, frame->size);
    else
        fwrite(frame->text, 1, frame->size, stdout);
    free(frame->text);
    return 0;
}
