/* Numbers of JSON text.
 *
 * The grammar is a table that takes a byte at a time, so a number may arrive in pieces. When its
 * token is whole, its digits are looked at once more: integers must fit into int64_t, reals must
 * not round to infinity. The latter is decided by comparing decimal digits, exactly and in one
 * pass: no strtod(3), which depends on the locale. */
#include "protocol/number.h"

enum {
    CLASS_OTHER,
    CLASS_ZERO,
    CLASS_DIGIT, /* 1 to 9 */
    CLASS_POINT,
    CLASS_E,
    CLASS_MINUS,
    CLASS_PLUS,
    CLASS_COUNT,
};

static const uint8_t classes[256] = {
    ['0'] = CLASS_ZERO, ['1' ... '9'] = CLASS_DIGIT, ['.'] = CLASS_POINT, ['e'] = CLASS_E,
    ['E'] = CLASS_E,    ['-'] = CLASS_MINUS,         ['+'] = CLASS_PLUS,
};

/* RFC 8259, section 6. NUMBER_START, being 0, stands for: no move. */
static const uint8_t moves[][CLASS_COUNT] = {
    [NUMBER_START] =
        {[CLASS_ZERO] = NUMBER_ZERO, [CLASS_DIGIT] = NUMBER_INTEGER, [CLASS_MINUS] = NUMBER_MINUS},
    [NUMBER_MINUS] = {[CLASS_ZERO] = NUMBER_ZERO, [CLASS_DIGIT] = NUMBER_INTEGER},
    [NUMBER_ZERO] = {[CLASS_POINT] = NUMBER_POINT, [CLASS_E] = NUMBER_E},
    [NUMBER_INTEGER] = {[CLASS_ZERO] = NUMBER_INTEGER,
                        [CLASS_DIGIT] = NUMBER_INTEGER,
                        [CLASS_POINT] = NUMBER_POINT,
                        [CLASS_E] = NUMBER_E},
    [NUMBER_POINT] = {[CLASS_ZERO] = NUMBER_FRACTION, [CLASS_DIGIT] = NUMBER_FRACTION},
    [NUMBER_FRACTION] =
        {[CLASS_ZERO] = NUMBER_FRACTION, [CLASS_DIGIT] = NUMBER_FRACTION, [CLASS_E] = NUMBER_E},
    [NUMBER_E] = {[CLASS_ZERO] = NUMBER_EXPONENT,
                  [CLASS_DIGIT] = NUMBER_EXPONENT,
                  [CLASS_MINUS] = NUMBER_SIGN,
                  [CLASS_PLUS] = NUMBER_SIGN},
    [NUMBER_SIGN] = {[CLASS_ZERO] = NUMBER_EXPONENT, [CLASS_DIGIT] = NUMBER_EXPONENT},
    [NUMBER_EXPONENT] = {[CLASS_ZERO] = NUMBER_EXPONENT, [CLASS_DIGIT] = NUMBER_EXPONENT},
};

const char *number_scan(NumberState *state, const char *at, const char *end)
{
    unsigned current = *state;

    for (; at < end; at++) {
        unsigned next = moves[current][classes[(unsigned char)*at]];
        if (next == NUMBER_START)
            break;
        current = next;
    }
    *state = (NumberState)current;
    return at;
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool number_integer(Bytes text, int64_t *ret)
{
    const char *at = text.data, *end = text.data + text.size;
    bool negative = text.size > 0 && *at == '-';
    int64_t value = 0;

    at += negative;
    if (at == end)
        return false;
    for (; at < end; at++) {
        int digit = *at - '0';
        if (!is_digit(*at) || __builtin_mul_overflow(value, 10, &value) ||
            (negative ? __builtin_sub_overflow(value, digit, &value)
                      : __builtin_add_overflow(value, digit, &value)))
            return false;
    }
    *ret = value;
    return true;
}

/* --- reals */

/* 2^1024 - 2^970, half a unit above the largest double: what reaches this rounds (to even) to
 * infinity. */
static const char overflow_digits[] =
    "17976931348623158079372897140530341507993413271003782693617377898044496829276475094664901797"
    "75872070963302864166928879109465555478519404026306574886715058206819089020007083836762738548"
    "45817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711"
    "559699508093042880177904174497792";
#define OVERFLOW_POINT 309 /* it is 0.1797... times ten to this */

static_assert(sizeof(overflow_digits) - 1 == OVERFLOW_POINT, "an integer of 309 digits");

/* The exponent of a number's text, at its 'e' or at its end; held within bounds that decide nothing
 * wrongly: a text has less than 2^32 digits. */
static int64_t exponent_of(const char *at, const char *end)
{
    const int64_t bound = INT64_C(1) << 40;
    int64_t exponent = 0;
    bool negative;

    if (at == end)
        return 0;
    at++;
    negative = *at == '-';
    for (at += !is_digit(*at); at < end; at++)
        if (exponent < bound)
            exponent = exponent * 10 + (*at - '0');
    return negative ? -exponent : exponent;
}

/* Whether the digits from `at` on, a point among them skipped, reach the threshold's; missing ones
 * are zeros. */
static bool digits_overflow(const char *at, const char *end)
{
    for (size_t i = 0; i < OVERFLOW_POINT; at++) {
        char digit = at < end ? *at : '0';
        if (digit == '.')
            continue;
        if (digit != overflow_digits[i])
            return digit > overflow_digits[i];
        i++;
    }
    return true;
}

bool number_finite(Bytes text)
{
    const char *at = text.data, *end = text.data + text.size, *digits_end, *point, *first;
    int64_t magnitude;

    at += text.size > 0 && *at == '-';
    for (digits_end = at; digits_end < end && (is_digit(*digits_end) || *digits_end == '.');)
        digits_end++;
    for (point = at; point < digits_end && *point != '.';)
        point++;
    for (first = at; first < digits_end && (*first == '0' || *first == '.');)
        first++;
    if (first == digits_end)
        return true;
    /* The number is 0.DDD times ten to this, its first digit not being 0. */
    magnitude = first < point ? point - first : point + 1 - first;
    magnitude += exponent_of(digits_end, end);
    if (magnitude != OVERFLOW_POINT)
        return magnitude < OVERFLOW_POINT;
    return !digits_overflow(first, digits_end);
}
