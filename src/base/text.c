/* text.c - see text.h for the contract. */
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct mr_text mr_text_over(char *buffer, size_t size)
{
    if (size > 0) {
        buffer[0] = '\0';
    }
    return (struct mr_text){.at = buffer, .size = size, .len = 0, .truncated = false};
}

void mr_text_bytes(struct mr_text *text, const void *at, size_t len)
{
    size_t room = text->size == 0 ? 0 : text->size - 1 - text->len;

    if (len > room) {
        len = room;
        text->truncated = true;
    }
    if (len > 0) {
        memcpy(text->at + text->len, at, len);
        text->len += len;
        text->at[text->len] = '\0';
    }
}

void mr_text_add(struct mr_text *text, const char *more)
{
    mr_text_bytes(text, more, strlen(more));
}

void mr_text_span(struct mr_text *text, struct mr_span span)
{
    mr_text_bytes(text, span.at, span.len);
}

void mr_text_u64(struct mr_text *text, uint64_t number)
{
    char digits[20]; /* 2^64 - 1 has 20 */
    size_t at = sizeof(digits);

    do {
        at -= 1;
        digits[at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    mr_text_bytes(text, digits + at, sizeof(digits) - at);
}

void mr_text_fmt(struct mr_text *text, const char *fmt, ...)
{
    if (text->size == 0) {
        text->truncated = true;
        return;
    }

    size_t room = text->size - text->len; /* NUL included */
    va_list args;

    va_start(args, fmt);
    int wanted = vsnprintf(text->at + text->len, room, fmt, args);
    va_end(args);
    mr_assert(wanted >= 0);
    if ((size_t)wanted >= room) {
        text->truncated = true;
        text->len = text->size - 1;
    } else {
        text->len += (size_t)wanted;
    }
}

void mr_text_bytes_human(struct mr_text *text, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned power = 0;

    while (power + 1 < MR_COUNT_OF(units) && bytes >> (10 * (power + 1)) != 0) {
        power += 1;
    }
    uint64_t unit = (uint64_t)1 << (10 * power);
    uint64_t tenth = bytes % unit * 10 / unit; /* below 10 * 2^60: no overflow */

    mr_text_u64(text, bytes / unit);
    if (tenth != 0) {
        mr_text_fmt(text, ".%u", (unsigned)tenth);
    }
    mr_text_fmt(text, " %s", units[power]);
}

/* Days since 1970-01-01 to a date of the proleptic Gregorian calendar.  Years
 * begin in March here, so that the leap day is the last day of a year, and an
 * era of 400 years has always the same number of days.
 */
static void date_of_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    enum { DAYS_OF_ERA = 146097, DAYS_TO_1970 = 719468 /* from 0000-03-01 */ };
    int64_t shifted = days + DAYS_TO_1970;
    int64_t era = (shifted >= 0 ? shifted : shifted - (DAYS_OF_ERA - 1)) / DAYS_OF_ERA;
    unsigned day_of_era = (unsigned)(shifted - era * DAYS_OF_ERA);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned from_march = (5 * day_of_year + 2) / 153;

    *day = day_of_year - (153 * from_march + 2) / 5 + 1;
    *month = from_march < 10 ? from_march + 3 : from_march - 9;
    *year = (int64_t)year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

void mr_text_time_us(struct mr_text *text, int64_t unix_us)
{
    const int64_t us_of_day = INT64_C(86400000000);
    int64_t days = unix_us / us_of_day;
    int64_t rest = unix_us % us_of_day;
    int64_t year = 0;
    unsigned month = 0;
    unsigned day = 0;

    if (rest < 0) { /* before 1970: the day began earlier, not later */
        rest += us_of_day;
        days -= 1;
    }
    date_of_days(days, &year, &month, &day);

    unsigned seconds = (unsigned)(rest / 1000000);
    mr_text_fmt(text, "%04" PRId64 "-%02u-%02uT%02u:%02u:%02u.%06uZ", year, month, day,
                seconds / 3600, seconds / 60 % 60, seconds % 60, (unsigned)(rest % 1000000));
}

/* Take the digits at the front of `span`; MR_ERR_REJECT if there are none or
 * their number is above `max`.
 */
static enum mr_err parse_digits(struct mr_span *span, uint64_t max, uint64_t *out)
{
    uint64_t number = 0;
    size_t i = 0;

    for (; i < span->len && span->at[i] >= '0' && span->at[i] <= '9'; i++) {
        unsigned digit = span->at[i] - (unsigned)'0';
        if (number > (max - digit) / 10 || digit > max) {
            return MR_ERR_REJECT;
        }
        number = number * 10 + digit;
    }
    if (i == 0) {
        return MR_ERR_REJECT;
    }
    *span = mr_span_make(span->at + i, span->len - i);
    *out = number;
    return MR_OK;
}

enum mr_err mr_parse_u64(struct mr_span span, uint64_t max, uint64_t *out)
{
    uint64_t number = 0;

    if (parse_digits(&span, max, &number) != MR_OK || span.len != 0) {
        return MR_ERR_REJECT;
    }
    *out = number;
    return MR_OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* Number, optional blank, unit from `units`.  `fold`: the case of letters is
 * ignored.
 */
static enum mr_err parse_with_unit(struct mr_span span, const struct unit *units, size_t unit_count,
                                   bool fold, uint64_t *out)
{
    uint64_t number = 0;

    if (parse_digits(&span, UINT64_MAX, &number) != MR_OK) {
        return MR_ERR_REJECT;
    }
    if (span.len > 1 && span.at[0] == ' ') {
        span = mr_span_make(span.at + 1, span.len - 1);
    }

    char name[4];
    if (span.len >= sizeof(name)) {
        return MR_ERR_REJECT;
    }
    for (size_t i = 0; i < span.len; i++) {
        bool upper = span.at[i] >= 'A' && span.at[i] <= 'Z';
        name[i] = (char)(fold && upper ? span.at[i] + ('a' - 'A') : span.at[i]);
    }
    struct mr_span folded = mr_span_make(name, span.len);

    for (size_t i = 0; i < unit_count; i++) {
        if (mr_span_is(folded, units[i].name)) {
            return __builtin_mul_overflow(number, units[i].factor, out) ? MR_ERR_REJECT : MR_OK;
        }
    }
    return MR_ERR_REJECT;
}

enum mr_err mr_parse_size(struct mr_span span, uint64_t *out_bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"b", 1},
        {"k", 1000},
        {"kb", 1000},
        {"m", 1000000},
        {"mb", 1000000},
        {"g", 1000000000},
        {"gb", 1000000000},
        {"t", UINT64_C(1000000000000)},
        {"tb", UINT64_C(1000000000000)},
        {"kib", UINT64_C(1) << 10},
        {"mib", UINT64_C(1) << 20},
        {"gib", UINT64_C(1) << 30},
        {"tib", UINT64_C(1) << 40},
    };
    uint64_t bytes = 0;

    if (parse_with_unit(span, units, MR_COUNT_OF(units), true, &bytes) != MR_OK) {
        return MR_ERR_REJECT;
    }
    *out_bytes = bytes;
    return MR_OK;
}

enum mr_err mr_parse_duration(struct mr_span span, uint64_t *out_us)
{
    static const struct unit units[] = {
        {"us", 1},
        {"ms", 1000},
        {"s", 1000000},
        {"m", 60 * UINT64_C(1000000)},
        {"h", 3600 * UINT64_C(1000000)},
        {"d", 86400 * UINT64_C(1000000)},
    };
    uint64_t us = 0;

    if (mr_span_is(span, "0")) {
        *out_us = 0;
        return MR_OK;
    }
    if (parse_with_unit(span, units, MR_COUNT_OF(units), false, &us) != MR_OK) {
        return MR_ERR_REJECT;
    }
    *out_us = us;
    return MR_OK;
}

unsigned mr_text_distance(const char *a, const char *b)
{
    enum { COMPARED_MAX = 64 };
    size_t a_len = strnlen(a, COMPARED_MAX);
    size_t b_len = strnlen(b, COMPARED_MAX);
    /* rows[i % 3][j]: edits from the first i characters of a to the first j of
     * b.  A swap looks two rows back, hence three.
     */
    unsigned rows[3][COMPARED_MAX + 1];

    for (unsigned j = 0; j <= b_len; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i - 1) % 3];
        const unsigned *above2 = rows[(i + 1) % 3];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1] ? 1u : 0u);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above2[j - 2] + 1 < best) {
                best = above2[j - 2] + 1;
            }
            row[j] = best;
        }
    }
    return rows[a_len % 3][b_len];
}

/* Iterative, so that a pattern cannot choose how deep. */
bool mr_text_glob(const char *pattern, struct mr_span text)
{
    const char *star = NULL;
    size_t star_at = 0;
    size_t i = 0;

    while (i < text.len) {
        if (*pattern == '*') {
            star = pattern;
            star_at = i;
            pattern += 1;
        } else if ((uint8_t)*pattern == text.at[i]) {
            pattern += 1;
            i += 1;
        } else if (star != NULL) {
            pattern = star + 1;
            star_at += 1;
            i = star_at;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern += 1;
    }
    return *pattern == '\0';
}
