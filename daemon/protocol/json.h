/* Walking over JSON text that scan has validated, and writing JSON text. No trees. */
#pragma once

#include "base/buffer.h"
#include "base/common.h"
#include "protocol/scan.h"

/* --- reading validated text */

/* A walk over the members of an object or the elements of an array. */
typedef struct JsonWalk {
    const char *at;
    const char *end;
    bool object;
} JsonWalk;

/* text: an object or an array, valid. */
JsonWalk json_walk(Bytes text);
/* The next member or element: name (object only; without quotes, as written) and value (without
 * surrounding space). False at the end. */
bool json_next(JsonWalk *walk, Bytes *ret_name, Bytes *ret_value);
ScanType json_type_of(Bytes value);
/* How deep the value is nested: 0 for a scalar, 1 for []. Looks at the whole text of an array or
 * object. */
unsigned json_depth(Bytes value);
/* Whether there is white space between tokens. */
bool json_spaced(Bytes value);
/* Whether a name or string, without its quotes and as written, stands for these characters. */
bool json_name_is(Bytes name, Bytes characters);
/* Appends the text without white space between tokens. */
void json_compact(Buffer *out, Bytes text);
/* Appends the characters that a string's text stands for; never longer than the text. text: without
 * its quotes. */
void json_unescape(Buffer *out, Bytes text);
/* An integer's text; false where it is none (1.0 is none; -0 is 0). */
bool json_to_int(Bytes value, int64_t *ret);

/* --- writing: members and elements are separated as needed. Names that jansson has too
 * (json_string, json_integer, json_null, json_type) are left to it: in a program that links both,
 * libjansson would call ours. */

typedef struct JsonWriter {
    Buffer *out;
    bool comma;
} JsonWriter;

static inline JsonWriter json_writer(Buffer *out)
{
    return (JsonWriter){.out = out};
}

void json_begin_object(JsonWriter *writer);
void json_end_object(JsonWriter *writer);
void json_begin_array(JsonWriter *writer);
void json_end_array(JsonWriter *writer);
/* The name of the next value; a literal that needs no escaping. */
void json_name(JsonWriter *writer, const char *name);
/* Values. Text that is JSON already is taken as it is. */
void json_text(JsonWriter *writer, Bytes text);
/* Escapes what JSON needs escaped. NUL and bytes that are no UTF-8 (a path may hold some) are
 * written as U+FFFD. */
void json_quote(JsonWriter *writer, Bytes characters);
void json_int(JsonWriter *writer, int64_t value);

/* --- RFC 7396 */

/* Appends target merged with patch, as compact text; members that the patch does not touch keep
 * their text and order. target.data NULL: there is none. Both: valid text. A deep patch recurses
 * depth_max times at most. 0, or -E2BIG where the result would be longer than size_max or deeper
 * than depth_max (json_depth of the two texts and the size tell which), -ENOMEM, or what
 * getrandom(2) says. Then out is as it was. Time and memory grow with the two texts' sizes,
 * whatever their shape. */
int json_merge(Buffer *out, Bytes target, Bytes patch, size_t size_max, unsigned depth_max);
