/* A light look at JSON text: finds where values, members and elements lie, in one pass and without
 * a tree, so that a value goes through the library token for token. It checks what it needs to stay
 * within the text (quotes, brackets, commas), not every token: the daemon validates what it is
 * sent, and what it sends is checked by whoever reads it.
 *
 * Anything it takes for one value is one value to a full parser too, or no JSON at all: so a text
 * that passed can be put in the middle of a message and cannot reach beyond its place.
 *
 * Names of the library's inside begin with hf_, so that they clash with nobody's in a static link.
 */
#pragma once

#include <holdfast.h>

typedef enum HfTextType {
    HF_TEXT_NONE, /* no value begins so */
    HF_TEXT_STRING,
    HF_TEXT_OBJECT,
    HF_TEXT_ARRAY,
    HF_TEXT_NUMBER,
    HF_TEXT_WORD, /* true, false, null */
} HfTextType;

/* Of a value without white space before it. */
HfTextType hf_text_type(HoldfastText value);

/* The value at *at, white space before it skipped; *at moves behind it. False where there is none.
 */
bool hf_text_value(const char **at, const char *end, HoldfastText *ret);
/* Whether the whole text is one value, with white space around it or not; ret: without that. */
bool hf_text_whole(HoldfastText text, HoldfastText *ret);

/* A walk over the members of an object or the elements of an array. */
typedef struct HfTextWalk {
    const char *at;
    const char *end; /* its closing bracket */
    bool object;
    bool begun;
} HfTextWalk;

/* value: as hf_text_value found it. False where it is neither an object nor an array. */
bool hf_text_walk(HoldfastText value, HfTextWalk *ret);
/* 1: the next member (name without its quotes, as written) or element; 0: the end; -EBADMSG. */
int hf_text_next(HfTextWalk *walk, HoldfastText *ret_name, HoldfastText *ret_value);

/* Whether a name or a string, as written between its quotes, stands for these characters. */
bool hf_text_is(HoldfastText written, const char *characters);
/* What stands between the quotes of a string. */
HoldfastText hf_text_inner(HoldfastText string);
/* Writes the characters that a string's inner text stands for, and no NUL. out: room for
 * written.size bytes, may be written.data itself. Returns their number, or -EBADMSG. */
long hf_text_unescape(HoldfastText written, char *out);
/* 0, -EBADMSG where it is no integer, -ERANGE beyond 64 bits signed. */
int hf_text_integer(HoldfastText value, int64_t *ret);
/* Whether it is UTF-8 without a NUL. */
bool hf_text_utf8(HoldfastText text);

static inline bool hf_text_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}
