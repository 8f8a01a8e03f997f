/* See text.h. A container is skipped by counting brackets, a string by looking for its quote;
 * nothing recurses, and no byte behind the end is looked at, whatever the text is. */
#include "text.h"

#include <errno.h>
#include <string.h>

/* What a byte means between the tokens of a container. */
enum { PLAIN, OPEN, CLOSE, QUOTE };

static const uint8_t kinds[256] = {
    ['{'] = OPEN, ['['] = OPEN, ['}'] = CLOSE, [']'] = CLOSE, ['"'] = QUOTE,
};

HfTextType hf_text_type(HoldfastText value)
{
    if (value.size == 0)
        return HF_TEXT_NONE;
    switch (value.data[0]) {
    case '"':
        return HF_TEXT_STRING;
    case '{':
        return HF_TEXT_OBJECT;
    case '[':
        return HF_TEXT_ARRAY;
    case '-':
    case '0' ... '9':
        return HF_TEXT_NUMBER;
    case 't':
    case 'f':
    case 'n':
        return HF_TEXT_WORD;
    default:
        return HF_TEXT_NONE;
    }
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && hf_text_space(*at))
        at++;
    return at;
}

/* at: behind the opening quote. Returns the place behind the closing one, NULL where there is none.
 * A quote behind an odd number of backslashes is escaped; each run of them is counted for one quote
 * only, so this is linear. */
static const char *skip_string(const char *at, const char *end)
{
    const char *begin = at;

    for (;;) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        if (quote == NULL)
            return NULL;
        const char *slash = quote;
        while (slash > begin && slash[-1] == '\\')
            slash--;
        at = quote + 1;
        if ((quote - slash) % 2 == 0)
            return at;
    }
}

/* at: at the opening bracket. */
static const char *skip_container(const char *at, const char *end)
{
    size_t depth = 0;

    while (at < end) {
        uint8_t kind = kinds[(uint8_t)*at++];
        if (kind == PLAIN)
            continue;
        if (kind == OPEN)
            depth++;
        else if (kind == QUOTE) {
            at = skip_string(at, end);
            if (at == NULL)
                return NULL;
        } else if (--depth == 0)
            return at;
    }
    return NULL;
}

static bool is_scalar(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E' || c == '+' || c == '-' ||
           c == '.';
}

bool hf_text_value(const char **at, const char *end, HoldfastText *ret)
{
    const char *begin = skip_space(*at, end);
    const char *behind = begin;

    switch (hf_text_type((HoldfastText){begin, (size_t)(end - begin)})) {
    case HF_TEXT_STRING:
        behind = skip_string(begin + 1, end);
        break;
    case HF_TEXT_OBJECT:
    case HF_TEXT_ARRAY:
        behind = skip_container(begin, end);
        break;
    case HF_TEXT_NUMBER:
    case HF_TEXT_WORD:
        while (behind < end && is_scalar(*behind))
            behind++;
        break;
    case HF_TEXT_NONE:
        return false;
    }
    if (behind == NULL)
        return false;
    *ret = (HoldfastText){begin, (size_t)(behind - begin)};
    *at = behind;
    return true;
}

bool hf_text_whole(HoldfastText text, HoldfastText *ret)
{
    const char *at = text.data, *end = text.data + text.size;
    HoldfastText value;

    if (text.size == 0 || !hf_text_value(&at, end, &value) || skip_space(at, end) != end)
        return false;
    *ret = value;
    return true;
}

bool hf_text_walk(HoldfastText value, HfTextWalk *ret)
{
    HfTextType type = hf_text_type(value);

    if ((type != HF_TEXT_OBJECT && type != HF_TEXT_ARRAY) || value.size < 2)
        return false;
    *ret = (HfTextWalk){
        .at = value.data + 1, .end = value.data + value.size - 1, .object = type == HF_TEXT_OBJECT};
    return true;
}

static int next_name(HfTextWalk *walk, HoldfastText *ret)
{
    HoldfastText name;

    if (!hf_text_value(&walk->at, walk->end, &name) || hf_text_type(name) != HF_TEXT_STRING)
        return -EBADMSG;
    walk->at = skip_space(walk->at, walk->end);
    if (walk->at == walk->end || *walk->at != ':')
        return -EBADMSG;
    walk->at++;
    *ret = hf_text_inner(name);
    return 0;
}

int hf_text_next(HfTextWalk *walk, HoldfastText *ret_name, HoldfastText *ret_value)
{
    HoldfastText name = {NULL, 0};

    walk->at = skip_space(walk->at, walk->end);
    if (walk->at == walk->end)
        return 0;
    if (walk->begun && *walk->at++ != ',')
        return -EBADMSG;
    walk->begun = true;
    if (walk->object && next_name(walk, &name) < 0)
        return -EBADMSG;
    if (!hf_text_value(&walk->at, walk->end, ret_value))
        return -EBADMSG;
    if (ret_name != NULL)
        *ret_name = name;
    return 1;
}

HoldfastText hf_text_inner(HoldfastText string)
{
    return (HoldfastText){string.data + 1, string.size - 2};
}

/* Four hexadecimal digits; -1 where they are not. */
static int32_t hex4(const char *at, const char *end)
{
    int32_t value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The character of a \u escape; *at: behind the 'u', moves behind it. -1: no character. */
static int32_t unescape_unicode(const char **at, const char *end)
{
    int32_t code = hex4(*at, end);

    if (code <= 0 || (code >= 0xdc00 && code <= 0xdfff))
        return -1;
    *at += 4;
    if (code < 0xd800 || code > 0xdbff)
        return code;
    if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return -1;
    int32_t low = hex4(*at + 2, end);
    if (low < 0xdc00 || low > 0xdfff)
        return -1;
    *at += 6;
    return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
}

static char *put_utf8(char *out, int32_t code)
{
    if (code < 0x80)
        *out++ = (char)code;
    else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

static const char escapes[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

/* An escape is never shorter than what it stands for, so out never overtakes at. */
long hf_text_unescape(HoldfastText written, char *out)
{
    const char *at = written.data, *end = written.data + written.size;
    char *begin = out;

    while (at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        size_t run = (size_t)((slash != NULL ? slash : end) - at);
        memmove(out, at, run);
        out += run;
        at += run;
        if (slash == NULL)
            break;
        if (end - at < 2)
            return -EBADMSG;
        char kind = at[1];
        at += 2;
        if (kind == 'u') {
            int32_t code = unescape_unicode(&at, end);
            if (code < 0)
                return -EBADMSG;
            out = put_utf8(out, code);
        } else if (escapes[(uint8_t)kind] != 0)
            *out++ = escapes[(uint8_t)kind];
        else
            return -EBADMSG;
    }
    return out - begin;
}

bool hf_text_is(HoldfastText written, const char *characters)
{
    size_t length = strlen(characters);
    char plain[256];

    if (written.size == length)
        return memcmp(written.data, characters, length) == 0;
    /* Only escapes make it longer, six bytes for one at most; rare, and then short. */
    if (written.size < length || written.size > sizeof(plain) ||
        memchr(written.data, '\\', written.size) == NULL)
        return false;
    long size = hf_text_unescape(written, plain);
    return size >= 0 && (size_t)size == length && memcmp(plain, characters, length) == 0;
}

int hf_text_integer(HoldfastText value, int64_t *ret)
{
    size_t i = value.size > 0 && value.data[0] == '-';
    bool negative = i == 1;
    int64_t number = 0;

    if (i == value.size)
        return -EBADMSG;
    for (; i < value.size; i++) {
        int digit = value.data[i] - '0';
        if (digit < 0 || digit > 9)
            return -EBADMSG;
        if (__builtin_mul_overflow(number, 10, &number) ||
            (negative ? __builtin_sub_overflow(number, digit, &number)
                      : __builtin_add_overflow(number, digit, &number)))
            return -ERANGE;
    }
    *ret = number;
    return 0;
}

/* Bytes of the UTF-8 sequence at `at` (RFC 3629: no surrogates, nothing overlong, nothing beyond
 * U+10FFFF); 0: none. */
static size_t sequence(const uint8_t *at, size_t left)
{
    uint8_t a = at[0];
    size_t size = a < 0x80 ? 1 : a < 0xc2 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : a < 0xf5 ? 4 : 0;

    if (size == 0 || size > left || a == 0)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((a == 0xe0 && at[1] < 0xa0) || (a == 0xed && at[1] > 0x9f) || (a == 0xf0 && at[1] < 0x90) ||
        (a == 0xf4 && at[1] > 0x8f))
        return 0;
    return size;
}

bool hf_text_utf8(HoldfastText text)
{
    for (size_t i = 0; i < text.size;) {
        size_t size = sequence((const uint8_t *)text.data + i, text.size - i);
        if (size == 0)
            return false;
        i += size;
    }
    return true;
}
