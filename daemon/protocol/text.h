/* Primitives on JSON text, for this folder alone: classes of bytes, skipping over runs, escapes,
 * UTF-8. */
#pragma once

#include "base/buffer.h"
#include "base/common.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What a byte is between tokens. */
enum {
    TEXT_OTHER,
    TEXT_SPACE,
    TEXT_QUOTE,
    TEXT_OPEN,  /* [ { */
    TEXT_CLOSE, /* ] } */
    TEXT_COMMA,
};

extern const uint8_t text_classes[256];

static inline uint8_t text_class(char c)
{
    return text_classes[(unsigned char)c];
}

static inline bool text_is_space(char c)
{
    return text_class(c) == TEXT_SPACE;
}

/* Mostly one byte, or the indentation of a line; but a message may be nothing else. */
static inline const char *text_skip_space(const char *at, const char *end)
{
#ifdef __SSE2__
    for (; end - at >= 16 && text_is_space(*at); at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i space = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(' ')),
                                                  _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'))),
                                     _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')),
                                                  _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r'))));
        unsigned mask = (unsigned)_mm_movemask_epi8(space);
        if (mask != 0xFFFF)
            return at + __builtin_ctz(~mask);
    }
#endif
    while (at < end && text_is_space(*at))
        at++;
    return at;
}

/* --- runs within strings: eight or sixteen bytes at a time */

#define TEXT_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Not 0 where one of the eight bytes is the given one. */
static inline uint64_t text_word_has(uint64_t word, uint8_t byte)
{
    uint64_t zero = word ^ TEXT_EACH(byte);
    return (zero - TEXT_EACH(0x01)) & ~zero & TEXT_EACH(0x80);
}

/* A byte of a string that stands for itself and needs no look: ASCII, no quote, no backslash, no
 * control character. */
static inline bool text_is_plain(char c)
{
    return (signed char)c >= 0x20 && c != '"' && c != '\\';
}

/* The first byte that is not plain, or end. In plain C: the way of machines without SSE2. */
static inline const char *text_skip_plain_words(const char *at, const char *end)
{
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        /* Bytes below 0x20 borrow into their highest bit; those from 0x80 on have it set already.
         */
        if (((word - TEXT_EACH(0x20)) | word) & TEXT_EACH(0x80))
            break;
        if (text_word_has(word, '"') | text_word_has(word, '\\'))
            break;
    }
    while (at < end && text_is_plain(*at))
        at++;
    return at;
}

static inline const char *text_skip_plain(const char *at, const char *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Signed: bytes from 0x80 on are below the space too. */
        __m128i stop = _mm_or_si128(_mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
                                    _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                                 _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);
        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#endif
    return text_skip_plain_words(at, end);
}

/* The next quote or backslash, or end. */
static inline const char *text_find_quote(const char *at, const char *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                    _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);
        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#endif
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        if (text_word_has(word, '"') | text_word_has(word, '\\'))
            break;
    }
    while (at < end && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* --- characters. Length of the one at `at`, 0 where it is cut off by end, -1 where it is invalid.
 */

/* UTF-8 of more than one byte: no overlong forms, no surrogates, nothing above U+10FFFF. */
int text_utf8(const char *at, const char *end);
/* An escape, at its backslash; a surrogate pair is one. The code point in ret_code. \u0000 is
 * invalid. */
int text_escape(const char *at, const char *end, uint32_t *ret_code);
/* Writes a code point as UTF-8 (4 bytes at most) and returns its length. */
size_t text_encode(char *at, uint32_t code);

/* --- validated text */

/* From behind a string's opening quote to behind its closing one. */
const char *text_skip_string(const char *at, const char *end);
/* Behind the value that begins at `at`. */
const char *text_skip_value(const char *at, const char *end);
/* Appends the value that begins at `at`, without white space between tokens; returns where it ends,
 * and in ret_depth how deep it is nested. out NULL: only looks. */
const char *text_copy_value(Buffer *out, const char *at, const char *end, unsigned *ret_depth);
