/* timestamp.c - see timestamp.h for the contract.
 *
 * A number is kept as its significant digits and the place of its point, so the
 * result is made of the digits themselves and no floating point comes in between.
 */
#include "codec/timestamp.h"

enum {
    DIGITS_MAX = 18,     /* of the result, which then fits */
    EXPONENT_MAX = 100,  /* farther is out of range anyway */
    AUTO_S_DIGITS = 11,  /* digits before the point: up to here seconds, */
    AUTO_MS_DIGITS = 14, /* milliseconds, */
    AUTO_US_DIGITS = 17, /* microseconds */
    US_PER_S = 1000000,
};

static const char not_a_number[] = "is not a number";
static const char not_a_time[] = "is neither a number nor a time as RFC 3339 writes it";
static const char out_of_range[] = "is far out of the range of times";

struct number {
    bool negative;
    char digits[DIGITS_MAX]; /* significant ones, from the first that is not 0 */
    int count;
    int point; /* digits before the point; the value is 0.ddd x 10^point */
};

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static bool is_digit(const struct cursor *c)
{
    return c->at != c->end && *c->at >= '0' && *c->at <= '9';
}

static bool take(struct cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != (uint8_t)wanted) {
        return false;
    }
    c->at += 1;
    return true;
}

/* Digits before (`fraction` false) or behind the point; false: there is none. */
static bool take_digits(struct cursor *c, struct number *n, bool fraction)
{
    const uint8_t *start = c->at;

    for (; is_digit(c); c->at++) {
        bool leading_zero = n->count == 0 && *c->at == '0';
        if (!leading_zero && n->count < DIGITS_MAX) {
            n->digits[n->count++] = (char)*c->at;
        }
        if (fraction ? leading_zero : !leading_zero) {
            int step = fraction ? -1 : 1;
            n->point += n->point > -EXPONENT_MAX && n->point < EXPONENT_MAX ? step : 0;
        }
    }
    return c->at != start;
}

static bool take_exponent(struct cursor *c, struct number *n)
{
    int exponent = 0;
    bool negative = take(c, '-');

    if (!negative) {
        (void)take(c, '+');
    }
    if (!is_digit(c)) {
        return false;
    }
    for (; is_digit(c); c->at++) {
        exponent = exponent < EXPONENT_MAX ? exponent * 10 + (*c->at - '0') : exponent;
    }
    n->point += negative ? -exponent : exponent;
    return true;
}

static bool number_read(struct mr_span text, struct number *n)
{
    struct cursor c = {.at = text.at, .end = text.at + text.len};

    *n = (struct number){.negative = text.len != 0 && take(&c, '-')};
    if (!take_digits(&c, n, false)) {
        return false;
    }
    if (take(&c, '.') && !take_digits(&c, n, true)) {
        return false;
    }
    if ((take(&c, 'e') || take(&c, 'E')) && !take_exponent(&c, n)) {
        return false;
    }
    return c.at == c.end;
}

/* The value times 10^shift, cut to an integer. */
static const char *number_scaled(const struct number *n, int shift, int64_t *out)
{
    int wanted = n->count == 0 ? 0 : n->point + shift; /* digits before the point, then */
    int64_t value = 0;

    if (wanted > DIGITS_MAX) {
        return out_of_range;
    }
    for (int i = 0; i < wanted; i++) {
        value = value * 10 + (i < n->count ? n->digits[i] - '0' : 0);
    }
    *out = n->negative ? -value : value;
    return NULL;
}

static int shift_of(const struct number *n, enum mr_time_unit unit)
{
    if (unit == MR_TIME_AUTO) {
        unit = n->point <= AUTO_S_DIGITS    ? MR_TIME_S
               : n->point <= AUTO_MS_DIGITS ? MR_TIME_MS
               : n->point <= AUTO_US_DIGITS ? MR_TIME_US
                                            : MR_TIME_NS;
    }
    return unit == MR_TIME_S ? 6 : unit == MR_TIME_MS ? 3 : unit == MR_TIME_US ? 0 : -3;
}

/* ---- RFC 3339 ---- */

/* Exactly `count` digits; -1: there are not so many. */
static int take_number(struct cursor *c, int count)
{
    int value = 0;

    for (int i = 0; i < count; i++) {
        if (!is_digit(c)) {
            return -1;
        }
        value = value * 10 + (*c->at++ - '0');
    }
    return value;
}

/* Days from 1970-01-01 in the Gregorian calendar; years begin in March here, so that
 * the leap day is a year's last.
 */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t m = month <= 2 ? month + 9 : month - 3;
    int64_t leaps = y / 4 - y / 100 + y / 400;

    return y * 365 + leaps + (m * 153 + 2) / 5 + day - 1 - 719468;
}

static int days_in(int year, int month)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month - 1];
}

/* ".123": microseconds; no point is 0, -1: no digit behind it. */
static int take_fraction_us(struct cursor *c)
{
    int us = 0;
    int unit = 100000;

    if (!take(c, '.')) {
        return 0;
    }
    if (!is_digit(c)) {
        return -1;
    }
    for (; is_digit(c); c->at++) {
        us += (*c->at - '0') * unit;
        unit /= 10;
    }
    return us;
}

/* "Z", "+02:00", "-0130": seconds east of Greenwich.  NULL or the fault. */
static const char *take_offset(struct cursor *c, int *out_s)
{
    if (c->at == c->end) {
        return "has no time zone; RFC 3339 ends in Z or an offset as +02:00";
    }
    *out_s = 0;
    if (take(c, 'Z') || take(c, 'z')) {
        return NULL;
    }
    bool west = take(c, '-');
    if (!west && !take(c, '+')) {
        return not_a_time;
    }
    int hours = take_number(c, 2);
    (void)take(c, ':');
    int minutes = take_number(c, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return not_a_time;
    }
    *out_s = (hours * 60 + minutes) * (west ? -60 : 60);
    return NULL;
}

static const char *rfc3339_read(struct mr_span text, int64_t *out_us)
{
    struct cursor c = {.at = text.at, .end = text.at + text.len};
    int offset_s = 0;

    int year = take_number(&c, 4);
    bool shaped = take(&c, '-');
    int month = take_number(&c, 2);
    shaped = take(&c, '-') && shaped;
    int day = take_number(&c, 2);
    shaped = (take(&c, 'T') || take(&c, 't') || take(&c, ' ')) && shaped;
    int hour = take_number(&c, 2);
    shaped = take(&c, ':') && shaped;
    int minute = take_number(&c, 2);
    shaped = take(&c, ':') && shaped;
    int second = take_number(&c, 2);
    int us = take_fraction_us(&c);
    if (!shaped || year < 0 || month < 0 || day < 0 || hour < 0 || minute < 0 || second < 0 ||
        us < 0) {
        return not_a_time;
    }
    const char *fault = take_offset(&c, &offset_s);
    if (fault != NULL) {
        return fault;
    }
    if (c.at != c.end) {
        return not_a_time;
    }
    if (month < 1 || month > 12 || day < 1 || day > days_in(year, month) || hour > 23 ||
        minute > 59 || second > 60) { /* 60: a leap second */
        return "is not a time of the calendar";
    }
    int64_t s = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s;
    *out_us = s * US_PER_S + us;
    return NULL;
}

const char *mr_timestamp_read(struct mr_span text, enum mr_time_unit unit, int64_t *out_us)
{
    struct number number;

    if (unit != MR_TIME_RFC3339 && number_read(text, &number)) {
        return number_scaled(&number, shift_of(&number, unit), out_us);
    }
    if (unit != MR_TIME_AUTO && unit != MR_TIME_RFC3339) {
        return not_a_number;
    }
    return rfc3339_read(text, out_us);
}
