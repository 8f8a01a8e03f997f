/* Lays JSON text out anew, token for token: a tree would change the text of reals. The text came
 * from the daemon and is JSON, but nothing here relies on it: what is no token is printed as it is,
 * and nesting is only counted. */
#include <time.h>
#include <unistd.h>

#include "../lib/text.h"
#include "print.h"

#define INDENT_MAX 64 /* levels that are told by white space */

typedef enum Colour {
    COLOUR_NONE,
    COLOUR_NAME,
    COLOUR_STRING,
    COLOUR_SCALAR,
} Colour;

static const char *const colours[] = {
    [COLOUR_NONE] = "",
    [COLOUR_NAME] = "\x1b[34m",
    [COLOUR_STRING] = "\x1b[32m",
    [COLOUR_SCALAR] = "\x1b[33m",
};

typedef struct Layout {
    const char *at;
    const char *end;
    bool pretty;
    bool colour;
    bool opened; /* the last token was an opening bracket */
    size_t depth;
} Layout;

static void new_line(const Layout *layout)
{
    if (layout->pretty)
        printf("\n%*s", (int)(4 * MIN(layout->depth, INDENT_MAX)), "");
}

static void write_token(const Layout *layout, HoldfastText token, Colour colour)
{
    bool coloured = layout->colour && colour != COLOUR_NONE;

    if (coloured)
        fputs(colours[colour], stdout);
    fwrite(token.data, 1, token.size, stdout);
    if (coloured)
        fputs("\x1b[0m", stdout);
}

static const char *behind_space(const Layout *layout)
{
    const char *at = layout->at;

    while (at < layout->end && hf_text_space(*at))
        at++;
    return at;
}

/* A string, number or word. */
static void write_scalar(Layout *layout)
{
    HoldfastText token;

    if (!hf_text_value(&layout->at, layout->end, &token)) {
        fputc(*layout->at++, stdout);
        return;
    }
    bool string = hf_text_type(token) == HF_TEXT_STRING;
    const char *next = behind_space(layout);
    bool name = string && next < layout->end && *next == ':';
    write_token(layout, token, name ? COLOUR_NAME : string ? COLOUR_STRING : COLOUR_SCALAR);
}

static void write_punctuation(Layout *layout)
{
    char c = *layout->at++;
    bool opened = layout->opened;

    layout->opened = false;
    if (c == '{' || c == '[') {
        fputc(c, stdout);
        layout->depth++;
        layout->opened = true;
    } else if (c == '}' || c == ']') {
        layout->depth -= layout->depth > 0;
        if (!opened)
            new_line(layout);
        fputc(c, stdout);
    } else if (c == ',') {
        fputc(c, stdout);
        new_line(layout);
    } else
        fputs(layout->pretty ? " : " : ":", stdout);
}

void print_json(const Ctl *ctl, const char *json, size_t size, JsonMode mode)
{
    Layout layout = {.at = json,
                     .end = json + size,
                     .pretty = mode == JSON_PRETTY,
                     .colour = mode == JSON_PRETTY && ctl->colour};

    for (layout.at = behind_space(&layout); layout.at < layout.end;
         layout.at = behind_space(&layout)) {
        bool closing = *layout.at == '}' || *layout.at == ']';
        if (layout.opened && !closing)
            new_line(&layout);
        if (closing || *layout.at == '{' || *layout.at == '[' || *layout.at == ',' ||
            *layout.at == ':')
            write_punctuation(&layout);
        else {
            layout.opened = false;
            write_scalar(&layout);
        }
    }
    fputc('\n', stdout);
}

JsonMode print_mode(const Ctl *ctl)
{
    if (ctl->options.json_given && ctl->options.json != JSON_OFF)
        return ctl->options.json;
    return ctl->terminal ? JSON_PRETTY : JSON_SHORT;
}

void print_string(FILE *out, const char *characters, size_t size)
{
    size_t run = 0;

    putc_unlocked('"', out);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)characters[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        fwrite_unlocked(characters + run, 1, i - run, out);
        fprintf(out, c == '"' || c == '\\' ? "\\%c" : "\\u%04x", c);
        run = i + 1;
    }
    fwrite_unlocked(characters + run, 1, size - run, out);
    putc_unlocked('"', out);
}

void print_entry(const char *arena, const HoldfastItem *entry, bool revision)
{
    putc_unlocked('{', stdout);
    if (arena != NULL) {
        fputs_unlocked("\"arena\":", stdout);
        print_string(stdout, arena, strlen(arena));
        putc_unlocked(',', stdout);
    }
    fputs_unlocked("\"key\":", stdout);
    print_string(stdout, entry->key, entry->key_length);
    fputs_unlocked(",\"value\":", stdout);
    fwrite_unlocked(entry->json, 1, entry->json_length, stdout);
    if (revision)
        printf(",\"revision\":%llu", (unsigned long long)entry->revision);
    fputs_unlocked("}\n", stdout);
}

void print_plain(const Ctl *ctl, const char *characters, size_t size)
{
    if (!ctl->terminal) {
        fwrite(characters, 1, size, stdout);
        return;
    }
    for (size_t i = 0; i < size; i++)
        putchar((unsigned char)characters[i] < 0x20 || characters[i] == 0x7f ? '?' : characters[i]);
}

int print_check(void)
{
    return ferror(stdout) ? -EIO : 0;
}

const char *print_time(char text[static PRINT_TIME_MAX], uint64_t usec)
{
    time_t seconds = (time_t)(usec / USEC_PER_SEC);
    struct tm local;

    if (localtime_r(&seconds, &local) == NULL ||
        strftime(text, PRINT_TIME_MAX, "%a %Y-%m-%d %H:%M:%S %Z", &local) == 0)
        strcpy(text, "?");
    return text;
}

bool print_member(const char *reply, size_t size, const char *name, HoldfastText *ret)
{
    HoldfastText root, member, value;
    HfTextWalk walk;

    if (!hf_text_whole((HoldfastText){reply, size}, &root) || !hf_text_walk(root, &walk) ||
        !walk.object)
        return false;
    while (hf_text_next(&walk, &member, &value) > 0)
        if (hf_text_is(member, name)) {
            *ret = value;
            return true;
        }
    return false;
}
