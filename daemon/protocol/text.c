/* Primitives on JSON text: what scan validates with and what json walks with.
 *
 * The upper half judges bytes that nobody has looked at yet and never reads past end. The lower
 * half runs over text that scan has accepted; it stays within end whatever the text holds, but what
 * it makes of an invalid text is undefined. */
#include "protocol/text.h"

const uint8_t text_classes[256] = {
    [' '] = TEXT_SPACE, ['\t'] = TEXT_SPACE, ['\n'] = TEXT_SPACE, ['\r'] = TEXT_SPACE,
    ['"'] = TEXT_QUOTE, ['['] = TEXT_OPEN,   ['{'] = TEXT_OPEN,   [']'] = TEXT_CLOSE,
    ['}'] = TEXT_CLOSE, [','] = TEXT_COMMA,
};

/* What follows a backslash; 'u' is apart. */
static const char escapes[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

int text_utf8(const char *at, const char *end)
{
    const unsigned char *bytes = (const unsigned char *)at;
    unsigned lead = bytes[0];
    int size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    /* Unicode, table 3-7: only the second byte's range depends on the first. */
    unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;

    if (lead < 0xC2 || lead > 0xF4)
        return -1;
    for (int i = 1; i < size; i++) {
        if (at + i >= end)
            return 0;
        if (bytes[i] < low || bytes[i] > high)
            return -1;
        low = 0x80;
        high = 0xBF;
    }
    return size;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \uXXXX: 6, 0 or -1. */
static int escape_unit(const char *at, const char *end, uint32_t *ret_unit)
{
    uint32_t unit = 0;

    for (int i = 0; i < 6; i++) {
        if (at + i >= end)
            return 0;
        int digit = i < 2 ? 0 : hex_digit(at[i]);
        if (digit < 0 || at[i] != (i == 0 ? '\\' : i == 1 ? 'u' : at[i]))
            return -1;
        unit = unit << 4 | (uint32_t)digit;
    }
    *ret_unit = unit;
    return 6;
}

int text_escape(const char *at, const char *end, uint32_t *ret_code)
{
    uint32_t high, low;
    int r;

    if (end - at < 2)
        return 0;
    if (at[1] != 'u') {
        char c = escapes[(unsigned char)at[1]];
        *ret_code = (uint32_t)c;
        return c != 0 ? 2 : -1;
    }
    r = escape_unit(at, end, &high);
    if (r <= 0)
        return r;
    if (high == 0 || (high >= 0xDC00 && high <= 0xDFFF))
        return -1;
    if (high < 0xD800 || high > 0xDFFF) {
        *ret_code = high;
        return 6;
    }
    r = escape_unit(at + 6, end, &low);
    if (r <= 0)
        return r;
    if (low < 0xDC00 || low > 0xDFFF)
        return -1;
    *ret_code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    return 12;
}

size_t text_encode(char *at, uint32_t code)
{
    if (code < 0x80) {
        at[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        at[0] = (char)(0xC0 | code >> 6);
        at[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        at[0] = (char)(0xE0 | code >> 12);
        at[1] = (char)(0x80 | (code >> 6 & 0x3F));
        at[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    at[0] = (char)(0xF0 | code >> 18);
    at[1] = (char)(0x80 | (code >> 12 & 0x3F));
    at[2] = (char)(0x80 | (code >> 6 & 0x3F));
    at[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* --- validated text */

const char *text_skip_string(const char *at, const char *end)
{
    for (;;) {
        at = text_find_quote(at, end);
        if (at >= end)
            return end;
        if (*at == '"')
            return at + 1;
        at = end - at >= 2 ? at + 2 : end;
    }
}

static const char *skip_scalar(const char *at, const char *end)
{
    while (at < end && text_class(*at) == TEXT_OTHER)
        at++;
    return at;
}

const char *text_skip_value(const char *at, const char *end)
{
    size_t depth = 0;

    if (at < end && text_class(*at) == TEXT_OTHER)
        return skip_scalar(at, end);
    while (at < end) {
        switch (text_class(*at++)) {
        case TEXT_QUOTE:
            at = text_skip_string(at, end);
            break;
        case TEXT_OPEN:
            depth++;
            break;
        case TEXT_CLOSE:
            depth--;
            break;
        default:
            continue;
        }
        if (depth == 0)
            return at;
    }
    return at;
}

static const char *copy_run(Buffer *out, const char *run, const char *at)
{
    if (out != NULL && at > run)
        buffer_append(out, run, (size_t)(at - run));
    return at;
}

const char *text_copy_value(Buffer *out, const char *at, const char *end, unsigned *ret_depth)
{
    const char *run = at;
    unsigned depth = 0, deepest = 0;

    if (at < end && text_class(*at) == TEXT_OTHER) {
        at = skip_scalar(at, end);
        end = at;
    }
    while (at < end) {
        switch (text_class(*at)) {
        case TEXT_SPACE:
            copy_run(out, run, at);
            run = at = text_skip_space(at, end);
            continue;
        case TEXT_QUOTE:
            at = text_skip_string(at + 1, end);
            break;
        case TEXT_OPEN:
            at++;
            depth++;
            deepest = MAX(deepest, depth);
            break;
        case TEXT_CLOSE:
            at++;
            depth--;
            break;
        default:
            at++;
            continue;
        }
        if (depth == 0)
            break;
    }
    copy_run(out, run, at);
    *ret_depth = deepest;
    return at;
}
