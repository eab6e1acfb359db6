/* test_topic.c
 *
 * links: codec base
 *
 * Goal:   names and filters mean what section 4.7 of MQTT 5.0 says.
 * Method: the examples of the specification as a table; then every short filter
 *         against every short name over a small alphabet, beside a naive
 *         recursive matcher.
 */
#include "../fuzz/topic_naive.h"

#include <stdio.h>

/* Shows 5.0: 4.7.2-1, 4.7.3-4; 3.1.1: 4.7.2-1, 4.7.3-4. */
static void test_matching_table(void)
{
    static const struct {
        const char *filter;
        const char *name;
        bool matches;
    } rows[] = {
        /* 4.7.1.2 */
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player12", false},
        {"sport/#", "sport", true},
        {"sport/#", "sport/", true},
        {"sport/#", "sports", false},
        {"#", "sport", true},
        {"#", "/", true},
        {"#", "a/b/c", true},
        /* 4.7.1.3 */
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player2", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+", "sport", true},
        {"+", "/finance", false},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+/tennis/#", "sport/tennis", true},
        {"+/tennis/#", "sport/tennis/a/b", true},
        {"sport/+/player1", "sport/tennis/player1", true},
        {"sport/+/player1", "sport//player1", true},
        {"sport/+/player1", "sport/a/b/player1", false},
        {"+/#", "a", true},
        {"+/+/#", "a", false},
        /* 4.7.2 */
        {"#", "$SYS/broker", false},
        {"+/monitor/Clients", "$SYS/monitor/Clients", false},
        {"+", "$SYS", false},
        {"$SYS/#", "$SYS/broker", true},
        {"$SYS/#", "$SYS", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"a/#", "a/$SYS", true},
        {"+/+", "a/$b", true},
        /* 4.7.3 */
        {"ACCOUNTS", "Accounts", false},
        {"Accounts payable", "Accounts payable", true},
        {"/finance", "finance", false},
        {"finance", "finance/", false},
        {"finance/", "finance", false},
        {"a//b", "a//b", true},
        {"a//b", "a/b", false},
        {"a/b", "a/bc", false},
        {"a/bc", "a/b", false},
    };

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        struct mr_span filter = mr_span_of(rows[i].filter);
        struct mr_span name = mr_span_of(rows[i].name);
        if (mr_topic_matches(filter, name) != rows[i].matches) {
            printf("%s against %s\n", rows[i].filter, rows[i].name);
        }
        mr_assert(mr_topic_filter_valid(filter) && mr_topic_name_valid(name));
        mr_assert(mr_topic_matches(filter, name) == rows[i].matches);
        mr_assert(naive_matches(filter, name) == rows[i].matches);
    }
}

/* Shows 5.0: 4.7.0-1, 4.7.1-1, 4.7.1-2, 4.7.3-1; 3.1.1: 4.7.1-1, 4.7.1-2, 4.7.1-3, 4.7.3-1. */
static void test_validity(void)
{
    static const char *const names[] = {
        "a", "/", "//", " ", "a/b", "$SYS/x", "\xc3\xa4/\xef\xbb\xbf"};
    static const char *const not_names[] = {"",    "+",  "#",    "a/+",
                                            "a/#", "a+", "\xff", "\xed\xa0\x80"};
    static const char *const filters[] = {"#",  "+",  "a/#", "+/+/#",  "/+",
                                          "+/", "/#", "a",   "$SYS/#", "sport/+/player1"};
    static const char *const not_filters[] = {
        "",
        "sport/tennis#",
        "sport/tennis/#/ranking",
        "sport+",
        "+sport",
        "a/+b",
        "##",
        "#/",
        "a/#+",
        "a/b#",
        "++",
        "a/++",
        "\xc0",
    };
    static uint8_t longest[MR_TOPIC_BYTES_MAX + 1];

    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        mr_assert(mr_topic_name_valid(mr_span_of(names[i])));
        mr_assert(mr_topic_filter_valid(mr_span_of(names[i])));
    }
    for (size_t i = 0; i < MR_COUNT_OF(not_names); i++) {
        mr_assert(!mr_topic_name_valid(mr_span_of(not_names[i])));
    }
    for (size_t i = 0; i < MR_COUNT_OF(filters); i++) {
        mr_assert(mr_topic_filter_valid(mr_span_of(filters[i])));
    }
    for (size_t i = 0; i < MR_COUNT_OF(not_filters); i++) {
        mr_assert(!mr_topic_filter_valid(mr_span_of(not_filters[i])));
    }
    mr_assert(!mr_topic_name_valid(mr_span_make("a\0b", 3)));
    mr_assert(!mr_topic_filter_valid(mr_span_make("a\0b", 3)));
    memset(longest, 'a', sizeof(longest));
    mr_assert(mr_topic_name_valid(mr_span_make(longest, MR_TOPIC_BYTES_MAX)));
    mr_assert(!mr_topic_name_valid(mr_span_make(longest, MR_TOPIC_BYTES_MAX + 1)));
}

static void test_levels(void)
{
    static const struct {
        const char *topic;
        size_t count;
        const char *levels[4];
    } rows[] = {
        {"a", 1, {"a"}},           {"a/b", 2, {"a", "b"}},
        {"/", 2, {"", ""}},        {"a//b", 3, {"a", "", "b"}},
        {"/a/", 3, {"", "a", ""}},
    };

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        struct mr_span topic = mr_span_of(rows[i].topic);
        struct mr_span rest = topic;
        struct mr_span level;
        mr_assert(mr_topic_level_count(topic) == rows[i].count);
        for (size_t at = 0; at < rows[i].count; at++) {
            mr_assert(mr_topic_level_next(&rest, &level));
            mr_assert(mr_span_is(level, rows[i].levels[at]));
            mr_assert(mr_span_is(mr_topic_level(topic, at), rows[i].levels[at]));
            mr_assert(mr_topic_level(topic, at).at != NULL);
        }
        mr_assert(!mr_topic_level_next(&rest, &level));
        mr_assert(mr_topic_level(topic, rows[i].count).at == NULL);
        mr_assert(mr_topic_level(topic, rows[i].count + 5).at == NULL);
    }
}

static void test_share(void)
{
    static const struct {
        const char *filter;
        enum mr_err err;
        const char *group;
        const char *inner;
    } rows[] = {
        {"$share/g/a/b", MR_OK, "g", "a/b"},
        {"$share/g/#", MR_OK, "g", "#"},
        {"$share/g//a", MR_OK, "g", "/a"},
        {"$share/g", MR_ERR_REJECT, "", "$share/g"},
        {"$share/", MR_ERR_REJECT, "", "$share/"},
        {"$share//a", MR_ERR_REJECT, "", "$share//a"},
        {"$share/g/", MR_ERR_REJECT, "", "$share/g/"},
        {"$share/+/a", MR_ERR_REJECT, "", "$share/+/a"},
        {"$share/g#/a", MR_ERR_REJECT, "", "$share/g#/a"},
        {"$share", MR_ERR_REJECT, "", "$share"},
        {"$shared/g/a", MR_ERR_AGAIN, "", "$shared/g/a"},
        {"a/$share/g", MR_ERR_AGAIN, "", "a/$share/g"},
        {"a", MR_ERR_AGAIN, "", "a"},
    };

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        struct mr_span group;
        struct mr_span inner;
        mr_assert(mr_topic_share_split(mr_span_of(rows[i].filter), &group, &inner) == rows[i].err);
        mr_assert(mr_span_is(group, rows[i].group) && mr_span_is(inner, rows[i].inner));
    }
}

/* The next word over `alphabet`, shortest first; false when all are done. */
static bool next_word(char *word, size_t *len, size_t len_max, const char *alphabet)
{
    for (size_t i = *len; i != 0; i--) {
        const char *here = strchr(alphabet, word[i - 1]);
        mr_assert(here != NULL);
        if (here[1] != 0) {
            word[i - 1] = here[1];
            return true;
        }
        word[i - 1] = alphabet[0];
    }
    *len += 1;
    memset(word, alphabet[0], *len);
    return *len <= len_max;
}

static void test_every_short_topic(void)
{
    char filter[8] = "";
    size_t filter_len = 0;
    unsigned compared = 0;
    unsigned matched = 0;

    while (next_word(filter, &filter_len, 5, "a$/+#")) {
        char name[8] = "";
        size_t name_len = 0;
        struct mr_span want = mr_span_make(filter, filter_len);
        if (!mr_topic_filter_valid(want)) {
            continue;
        }
        while (next_word(name, &name_len, 5, "a$/")) {
            struct mr_span have = mr_span_make(name, name_len);
            bool matches = mr_topic_matches(want, have);
            mr_assert(matches == naive_matches(want, have));
            compared += 1;
            matched += matches;
        }
    }
    printf("short topics: %u pairs, %u match\n", compared, matched);
    mr_assert(matched > 1000 && matched < compared / 2);
}

int main(void)
{
    test_matching_table();
    test_validity();
    test_levels();
    test_share();
    test_every_short_topic();
    return 0;
}
