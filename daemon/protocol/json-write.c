/* Writing JSON text, token by token, with the commas put where they belong.
 *
 * `comma` says that a value was written at this level and the next one needs a comma before it.
 * What is written is valid JSON whatever the characters are: NUL, which no client could read, and
 * bytes that are no UTF-8 become U+FFFD. What can go wrong is want of memory, which the buffer
 * remembers. */
#include "protocol/json.h"
#include "protocol/text.h"

#define REPLACEMENT "\xEF\xBF\xBD"

static const char short_escapes[0x20] = {
    ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't',
};

static void begin_value(JsonWriter *writer)
{
    if (writer->comma)
        buffer_append(writer->out, ",", 1);
    writer->comma = true;
}

static void open(JsonWriter *writer, const char *bracket)
{
    begin_value(writer);
    buffer_append(writer->out, bracket, 1);
    writer->comma = false;
}

static void close_with(JsonWriter *writer, const char *bracket)
{
    buffer_append(writer->out, bracket, 1);
    writer->comma = true;
}

void json_begin_object(JsonWriter *writer)
{
    open(writer, "{");
}

void json_end_object(JsonWriter *writer)
{
    close_with(writer, "}");
}

void json_begin_array(JsonWriter *writer)
{
    open(writer, "[");
}

void json_end_array(JsonWriter *writer)
{
    close_with(writer, "]");
}

void json_name(JsonWriter *writer, const char *name)
{
    begin_value(writer);
    buffer_append(writer->out, "\"", 1);
    buffer_append_text(writer->out, name);
    buffer_append(writer->out, "\":", 2);
    writer->comma = false;
}

void json_text(JsonWriter *writer, Bytes text)
{
    begin_value(writer);
    buffer_append_bytes(writer->out, text);
}

/* Writes the character at `at`, which does not stand for itself; returns its length there. */
static size_t write_special(Buffer *out, const char *at, const char *end)
{
    unsigned char c = (unsigned char)*at;

    if (c >= 0x80) {
        int length = text_utf8(at, end);
        if (length > 0)
            buffer_append(out, at, (size_t)length);
        else
            buffer_append_text(out, REPLACEMENT);
        return length > 0 ? (size_t)length : 1;
    }
    if (c == 0) {
        buffer_append_text(out, REPLACEMENT);
    } else if (c >= 0x20 || short_escapes[c] != 0) {
        char escape[2] = {'\\', c >= 0x20 ? (char)c : short_escapes[c]};
        buffer_append(out, escape, sizeof(escape));
    } else {
        char escape[6] = {'\\', 'u', '0', '0', (char)('0' + (c >> 4)), "0123456789abcdef"[c & 0xF]};
        buffer_append(out, escape, sizeof(escape));
    }
    return 1;
}

void json_quote(JsonWriter *writer, Bytes characters)
{
    const char *at = characters.data, *end = characters.data + characters.size;

    begin_value(writer);
    buffer_append(writer->out, "\"", 1);
    while (at < end) {
        const char *stop = text_skip_plain(at, end);
        buffer_append_bytes(writer->out, BYTES(at, stop - at));
        at = stop;
        if (at < end)
            at += write_special(writer->out, at, end);
    }
    buffer_append(writer->out, "\"", 1);
}

void json_int(JsonWriter *writer, int64_t value)
{
    char digits[20]; /* -9223372036854775808 */
    size_t at = sizeof(digits);
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;

    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        digits[--at] = '-';
    json_text(writer, BYTES(digits + at, sizeof(digits) - at));
}
