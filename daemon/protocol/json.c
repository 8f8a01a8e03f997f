/* Walking over validated JSON text: members and elements, compacting, unescaping, integers.
 *
 * Everything here relies on scan having accepted the text; nothing is checked twice. Results go to
 * a Buffer, which remembers want of memory by itself. */
#include "protocol/json.h"

#include "protocol/number.h"
#include "protocol/text.h"

JsonWalk json_walk(Bytes text)
{
    const char *end = text.data + text.size, *at = text_skip_space(text.data, end);

    return (JsonWalk){.at = at < end ? at + 1 : end, .end = end, .object = at < end && *at == '{'};
}

bool json_next(JsonWalk *walk, Bytes *ret_name, Bytes *ret_value)
{
    const char *at = text_skip_space(walk->at, walk->end), *begin;

    if (at < walk->end && *at == ',')
        at = text_skip_space(at + 1, walk->end);
    if (at >= walk->end || text_class(*at) == TEXT_CLOSE)
        return false;
    if (walk->object) {
        begin = at + 1;
        at = text_skip_string(begin, walk->end);
        *ret_name = BYTES(begin, at - 1 - begin);
        at = text_skip_space(at, walk->end);
        at = text_skip_space(at + 1, walk->end); /* behind the colon */
    }
    begin = at;
    walk->at = text_skip_value(at, walk->end);
    *ret_value = BYTES(begin, walk->at - begin);
    return true;
}

ScanType json_type_of(Bytes value)
{
    switch (value.size > 0 ? *value.data : 'n') {
    case '{':
        return SCAN_OBJECT;
    case '[':
        return SCAN_ARRAY;
    case '"':
        return SCAN_STRING;
    case 't':
    case 'f':
        return SCAN_BOOLEAN;
    case 'n':
        return SCAN_NULL;
    }
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] == '.' || (value.data[i] | 0x20) == 'e')
            return SCAN_REAL;
    return SCAN_INTEGER;
}

unsigned json_depth(Bytes value)
{
    const char *end = value.data + value.size;
    unsigned depth = 0;

    text_copy_value(NULL, text_skip_space(value.data, end), end, &depth);
    return depth;
}

bool json_spaced(Bytes value)
{
    const char *at = value.data, *end = value.data + value.size;

    while (at < end) {
        uint8_t class = text_class(*at++);
        if (class == TEXT_SPACE)
            return true;
        if (class == TEXT_QUOTE)
            at = text_skip_string(at, end);
    }
    return false;
}

bool json_name_is(Bytes name, Bytes characters)
{
    const char *at = name.data, *end = name.data + name.size;
    size_t done = 0;

    if (name.size == 0 || memchr(name.data, '\\', name.size) == NULL)
        return bytes_equal(name, characters);
    while (at < end) {
        char bytes[4];
        size_t size = 1;

        if (*at == '\\') {
            uint32_t code = 0;
            int length = text_escape(at, end, &code);
            if (length <= 0)
                return false;
            size = text_encode(bytes, code);
            at += length;
        } else {
            bytes[0] = *at++;
        }
        if (characters.size - done < size || memcmp(characters.data + done, bytes, size) != 0)
            return false;
        done += size;
    }
    return done == characters.size;
}

void json_compact(Buffer *out, Bytes text)
{
    const char *end = text.data + text.size;
    unsigned depth;

    /* Room for all of it at once: the runs are many. */
    if (buffer_reserve(out, text.size) != NULL)
        text_copy_value(out, text_skip_space(text.data, end), end, &depth);
}

void json_unescape(Buffer *out, Bytes text)
{
    const char *at = text.data, *end = text.data + text.size;
    char *room = buffer_reserve(out, text.size), *to = room;

    if (room == NULL)
        return;
    while (at < end) {
        const char *backslash = memchr(at, '\\', (size_t)(end - at));
        size_t run = (size_t)((backslash != NULL ? backslash : end) - at);
        uint32_t code;
        int length;

        memcpy(to, at, run);
        to += run;
        at += run;
        if (at == end)
            break;
        length = text_escape(at, end, &code);
        if (length <= 0)
            break;
        to += text_encode(to, code);
        at += length;
    }
    out->end += (size_t)(to - room);
}

bool json_to_int(Bytes value, int64_t *ret)
{
    return number_integer(value, ret);
}
