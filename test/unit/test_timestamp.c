/* test_timestamp.c
 * links: codec base
 *
 * Goal:   every spelling of a time means the same microsecond; what is no time is
 *         refused with a reason.
 * Method: a table by hand; then random times written in every unit and in RFC 3339
 *         (by the C library's calendar, not ours).  The seed is printed:
 *         ./test_timestamp <seed>
 */
#include "base/rng.h"
#include "codec/timestamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct {
    const char *text;
    enum mr_time_unit unit;
    int64_t us; /* with `reason` NULL */
    const char *reason;
} reads[] = {
    {"1763920561", MR_TIME_AUTO, 1763920561000000, NULL},
    {"1763920561.25", MR_TIME_AUTO, 1763920561250000, NULL},
    {"1763920561.123456789", MR_TIME_AUTO, 1763920561123456, NULL},
    {"1763920561123", MR_TIME_AUTO, 1763920561123000, NULL},
    {"1763920561123.5", MR_TIME_AUTO, 1763920561123500, NULL},
    {"1763920561123456", MR_TIME_AUTO, 1763920561123456, NULL},
    {"1763920561123456789", MR_TIME_AUTO, 1763920561123456, NULL},
    {"1.763920561123e12", MR_TIME_AUTO, 1763920561123000, NULL},
    {"176392056112300E-5", MR_TIME_AUTO, 1763920561123000, NULL},
    {"0.001763920561e+12", MR_TIME_AUTO, 1763920561000000, NULL},
    {"0", MR_TIME_AUTO, 0, NULL},
    {"0.0", MR_TIME_NS, 0, NULL},
    {"-1.5", MR_TIME_S, -1500000, NULL},
    {"99999999999", MR_TIME_AUTO, 99999999999000000, NULL},
    {"100000000000", MR_TIME_AUTO, 100000000000000, NULL}, /* milliseconds: March 1973 */
    {"500", MR_TIME_MS, 500000, NULL},
    {"1763920561123456789", MR_TIME_NS, 1763920561123456, NULL},
    {"999", MR_TIME_NS, 0, NULL},
    {"1763920561123456789", MR_TIME_S, 0, "is far out of the range of times"},
    {"1e400", MR_TIME_AUTO, 0, "is far out of the range of times"},
    {"1e99999999999999999999", MR_TIME_AUTO, 0, "is far out of the range of times"},
    {"1e-99999999999999999999", MR_TIME_AUTO, 0, NULL},
    {"2025-11-23T17:56:01Z", MR_TIME_AUTO, 1763920561000000, NULL},
    {"2025-11-23t17:56:01.123456789z", MR_TIME_AUTO, 1763920561123456, NULL},
    {"2025-11-23 19:56:01.5+02:00", MR_TIME_AUTO, 1763920561500000, NULL},
    {"2025-11-23T12:26:01-0530", MR_TIME_RFC3339, 1763920561000000, NULL},
    {"1969-12-31T23:59:59Z", MR_TIME_AUTO, -1000000, NULL},
    {"2024-02-29T00:00:00Z", MR_TIME_AUTO, 1709164800000000, NULL},
    {"2016-12-31T23:59:60Z", MR_TIME_AUTO, 1483228800000000, NULL}, /* a leap second */
    {"2025-02-29T00:00:00Z", MR_TIME_AUTO, 0, "is not a time of the calendar"},
    {"2025-13-01T00:00:00Z", MR_TIME_AUTO, 0, "is not a time of the calendar"},
    {"2025-11-23T24:00:00Z", MR_TIME_AUTO, 0, "is not a time of the calendar"},
    {"2025-11-23T17:56:01", MR_TIME_AUTO, 0,
     "has no time zone; RFC 3339 ends in Z or an offset as +02:00"},
    {"2025-11-23", MR_TIME_AUTO, 0, "is neither a number nor a time as RFC 3339 writes it"},
    {"2025-11-23T17:56:01Zx", MR_TIME_AUTO, 0,
     "is neither a number nor a time as RFC 3339 writes it"},
    {"2025-11-23T17:56:01.Z", MR_TIME_AUTO, 0,
     "is neither a number nor a time as RFC 3339 writes it"},
    {"now", MR_TIME_AUTO, 0, "is neither a number nor a time as RFC 3339 writes it"},
    {"", MR_TIME_AUTO, 0, "is neither a number nor a time as RFC 3339 writes it"},
    {"12.", MR_TIME_S, 0, "is not a number"},
    {"1 ", MR_TIME_S, 0, "is not a number"},
    {"-", MR_TIME_MS, 0, "is not a number"},
    {"2025-11-23T17:56:01Z", MR_TIME_MS, 0, "is not a number"},
    {"1763920561", MR_TIME_RFC3339, 0, "is neither a number nor a time as RFC 3339 writes it"},
};

static void test_reads(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(reads); i++) {
        int64_t us = -7;
        const char *reason = mr_timestamp_read(mr_span_of(reads[i].text), reads[i].unit, &us);
        bool as_expected = reads[i].reason == NULL
                               ? reason == NULL && us == reads[i].us
                               : reason != NULL && strcmp(reason, reads[i].reason) == 0;
        if (!as_expected) {
            printf("'%s': %s, %" PRId64 "\n", reads[i].text, reason == NULL ? "read" : reason, us);
        }
        mr_assert(as_expected);
    }
}

static void expect(const char *text, enum mr_time_unit unit, int64_t wanted)
{
    int64_t us = 0;
    const char *reason = mr_timestamp_read(mr_span_of(text), unit, &us);

    if (reason != NULL || us != wanted) {
        printf("'%s': %s, %" PRId64 " instead of %" PRId64 "\n", text,
               reason == NULL ? "read" : reason, us, wanted);
    }
    mr_assert(reason == NULL && us == wanted);
}

/* From 1974, where milliseconds are no longer taken for seconds, to 2200. */
static void test_random_times(uint64_t seed)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, seed);
    for (int i = 0; i < 20000; i++) {
        int64_t s = 126230400 + (int64_t)mr_rng_below(&rng, 7200000000u);
        unsigned us = (unsigned)mr_rng_below(&rng, 1000000);
        int64_t all = s * 1000000 + us;
        int offset_min = (int)mr_rng_below(&rng, 1679) - 839;
        char text[80];
        char date[40];
        struct tm tm;

        sprintf(text, "%" PRId64 ".%06u", s, us);
        expect(text, i % 2 == 0 ? MR_TIME_AUTO : MR_TIME_S, all);
        sprintf(text, "%" PRId64 ".%03u", all / 1000, us % 1000);
        expect(text, i % 2 == 0 ? MR_TIME_AUTO : MR_TIME_MS, all);
        sprintf(text, "%" PRId64, all);
        expect(text, i % 2 == 0 ? MR_TIME_AUTO : MR_TIME_US, all);
        sprintf(text, "%" PRId64 "%03u", all, i % 1000);
        expect(text, i % 2 == 0 ? MR_TIME_AUTO : MR_TIME_NS, all);
        sprintf(text, "%" PRId64 ".%06ue-2", s * 100 + us / 10000, us % 10000 * 100);
        expect(text, MR_TIME_S, all);
        time_t there = (time_t)(s + offset_min * 60);
        mr_assert(gmtime_r(&there, &tm) != NULL);
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
        sprintf(text, "%s.%06u%c%02d:%02d", date, us, offset_min < 0 ? '-' : '+',
                abs(offset_min) / 60, abs(offset_min) % 60);
        expect(text, i % 2 == 0 ? MR_TIME_AUTO : MR_TIME_RFC3339, all);
    }
}

/* Whatever comes is read or refused; nothing else happens. */
static void test_random_bytes(uint64_t seed)
{
    static const char letters[] = "0123456789-+.eETZ: 0123456789";
    struct mr_rng rng;

    mr_rng_seed(&rng, seed);
    for (int i = 0; i < 200000; i++) {
        size_t len = mr_rng_below(&rng, 40);
        uint8_t *text = mr_alloc(len + 1);
        int64_t us = 0;
        for (size_t k = 0; k < len; k++) {
            text[k] = (uint8_t)letters[mr_rng_below(&rng, sizeof(letters) - 1)];
        }
        (void)!mr_timestamp_read(mr_span_make(text, len), (enum mr_time_unit)mr_rng_below(&rng, 6),
                                 &us);
        mr_free(text);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);

    printf("seed %" PRIu64 "\n", seed);
    test_reads();
    test_random_times(seed);
    test_random_bytes(seed);
    return 0;
}
