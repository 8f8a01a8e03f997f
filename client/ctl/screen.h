/* A whole terminal for one's own: the alternate screen, keys as they are pressed, signals as
 * events; all as it was before at the end, however that comes. Plain ANSI sequences. */
#pragma once

#include <stdio.h>
#include <termios.h>

#include "base/common.h"

typedef enum ScreenEvent {
    SCREEN_TIME,   /* the deadline has come */
    SCREEN_KEY,    /* `key` was pressed */
    SCREEN_RESIZE, /* or another reason to draw anew */
    SCREEN_END,    /* a signal wants an end, or the terminal is gone */
} ScreenEvent;

typedef struct Screen {
    struct termios saved;
    bool keys; /* stdin is a terminal, too */
    int signal_fd;
    int end_signal; /* 0: none */
    char key;
} Screen;

/* 0 or a negative errno, and then nothing has changed. stdout must be a terminal. */
int screen_open(Screen *screen);
ScreenEvent screen_wait(Screen *screen, uint64_t deadline_usec);
/* Gives the terminal back; ends the process where a signal asked for it. */
void screen_close(Screen *screen);

/* Lines of a frame, gathered and then shown at once. */
typedef struct Frame {
    char *text;
    size_t size;
    FILE *out;
    unsigned lines; /* of the terminal; UINT_MAX: any number */
    unsigned columns;
    unsigned used; /* lines so far */
    bool escapes;  /* a screen, not a print */
    bool colour;
} Frame;

typedef enum FrameLook {
    FRAME_PLAIN,
    FRAME_BOLD,
    FRAME_HEADING, /* of a table: reverse */
    FRAME_ALARM,
} FrameLook;

int frame_begin(Frame *frame, unsigned lines, unsigned columns, bool escapes, bool colour);
/* One line, cut at the terminal's width; what could steer the terminal is replaced. What has no
 * place is left out. */
void frame_line(Frame *frame, FrameLook look, const char *format, ...) _printf_(3, 4);
/* Writes it to stdout and frees it. 0 or a negative errno. */
int frame_end(Frame *frame);
