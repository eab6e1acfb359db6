/* test_log.c
 * links: base
 *
 * Goal:   one message is one line that cannot be forged from inside the message,
 *         and "say it once" says it once.
 * Method: a writer that remembers the last line, a clock that is set by hand.
 */
#include "base/log.h"

#include <string.h>

static char last[8192];
static unsigned lines;
static int64_t now_us;

static void remember(const char *line, size_t len)
{
    mr_assert(len < sizeof(last));
    memcpy(last, line, len);
    last[len] = '\0';
    lines += 1;
}

static int64_t clock_by_hand(void)
{
    return now_us;
}

static void test_format(void)
{
    mr_log(MR_LOG_INFO, "journal", "opened %d lanes", 2);
    mr_assert(strcmp(last, "level=info component=journal msg=\"opened 2 lanes\"\n") == 0);
    mr_log_set_clock(clock_by_hand);
    now_us = INT64_C(1795456561123456);
    mr_log(MR_LOG_WARN, "bridge", "kafka is away");
    mr_assert(strcmp(last, "ts=2026-11-23T17:56:01.123Z level=warn component=bridge "
                           "msg=\"kafka is away\"\n") == 0);
    mr_log_set_journald(true);
    mr_log(MR_LOG_ERROR, "bridge", "x");
    mr_assert(strcmp(last, "<3>level=error component=bridge msg=\"x\"\n") == 0);
    mr_log_set_journald(false);
    mr_log_set_clock(NULL);
}

static void test_levels(void)
{
    unsigned before = lines;

    mr_log(MR_LOG_DEBUG, "t", "not shown");
    mr_assert(lines == before);
    mr_log_set_level(MR_LOG_DEBUG);
    mr_log(MR_LOG_DEBUG, "t", "shown");
    mr_assert(lines == before + 1);
    mr_log_set_level(MR_LOG_ERROR);
    mr_log(MR_LOG_WARN, "t", "not shown");
    mr_assert(lines == before + 1);
    mr_log_set_level(MR_LOG_INFO);
}

static void test_message_cannot_forge_a_line(void)
{
    mr_log(MR_LOG_INFO, "t", "%s", "a\"b\\c\nd\te\x1b[2J\x7f");
    mr_assert(strcmp(last, "level=info component=t "
                           "msg=\"a\\\"b\\\\c\\nd\\te\\x1b[2J\\x7f\"\n") == 0);
    mr_log(MR_LOG_INFO, "t", "%s", "öfen \xc2\x9b");
    mr_assert(strcmp(last, "level=info component=t msg=\"öfen \\xc2\\x9b\"\n") == 0);
    mr_log(MR_LOG_INFO, "t", "%s", "bad \xff\xc3");
    mr_assert(strcmp(last, "level=info component=t msg=\"bad \\xff\\xc3\"\n") == 0);
}

static void test_long_message_is_cut_between_characters(void)
{
    for (size_t shift = 0; shift < 3; shift++) {
        char text[4000];
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof(text); i += 3) {
            memcpy(text + i, "温", 4);
        }
        mr_log(MR_LOG_INFO, "t", "%s", text);
        size_t len = strlen(last);
        mr_assert(memcmp(last + len - 8, "温…\"\n", 8) == 0);
    }
    char controls[4000];
    memset(controls, 1, sizeof(controls) - 1);
    controls[sizeof(controls) - 1] = '\0';
    mr_log(MR_LOG_INFO, "t", "%s", controls); /* the longest line there is */
    mr_assert(strlen(last) > 4 * 1000);
}

static void test_limit(void)
{
    struct mr_log_limit limit = {0};
    uint64_t suppressed = 99;

    mr_log_set_clock(clock_by_hand);
    now_us = 1000;
    mr_assert(mr_log_allowed(&limit, 500, &suppressed) && suppressed == 0);
    now_us = 1499;
    mr_assert(!mr_log_allowed(&limit, 500, &suppressed));
    mr_assert(!mr_log_allowed(&limit, 500, &suppressed));
    now_us = 1500;
    mr_assert(mr_log_allowed(&limit, 500, &suppressed) && suppressed == 2);
    now_us = 20; /* the wall clock was set back: do not stay silent for years */
    mr_assert(mr_log_allowed(&limit, 500, &suppressed) && suppressed == 0);
    mr_assert(!mr_log_allowed(&limit, 500, &suppressed));
    mr_log_set_clock(NULL);
}

int main(void)
{
    mr_log_set_writer(remember);
    test_format();
    test_levels();
    test_message_cannot_forge_a_line();
    test_long_message_is_cut_between_characters();
    test_limit();
    return 0;
}
