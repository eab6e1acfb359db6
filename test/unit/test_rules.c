/* test_rules.c
 * links: auth codec os base
 *
 * Goal:   the rules of a token say what EMQX would say, and where they cannot be understood, or
 *         a name could widen them, less.
 * Method: cases; and a filter that is said to be allowed as a whole is compared with every topic
 *         of a small world.
 */
#include "auth/grant.h"
#include "auth/rules.h"
#include "codec/json.h"
#include "codec/topic.h"

#include <stdio.h>
#include <stdlib.h>

static struct mr_rules *read_as(const char *acl, const char *client, const char *user)
{
    struct mr_rules *rules = NULL;

    mr_assert(mr_json_valid(mr_span_of(acl)));
    const char *fault =
        mr_rules_read(&rules, mr_span_of(acl), mr_span_of(client), mr_span_of(user));
    if (fault != NULL) {
        fprintf(stderr, "%s: %s\n", acl, fault);
        abort();
    }
    return rules;
}

static void expect(const struct mr_rules *rules, const char *topic, enum mr_rules_say publish,
                   enum mr_rules_say deliver)
{
    enum mr_rules_say said = mr_rules_topic(rules, mr_span_of(topic), true);
    enum mr_rules_say brought = mr_rules_topic(rules, mr_span_of(topic), false);

    if (said != publish || brought != deliver) {
        fprintf(stderr, "%s: publish %d, deliver %d\n", topic, said, brought);
        abort();
    }
}

static void test_lists_allow_and_nothing_else_does(void)
{
    struct mr_rules *rules =
        read_as("{\"pub\":[\"plant/%c/#\"],\"sub\":[\"orders/+\",\"eq plant/+\"],"
                "\"all\":[\"chat/%u\"]}",
                "press-7", "anna");

    expect(rules, "plant/press-7/temp", MR_RULES_ALLOW, MR_RULES_DENY);
    expect(rules, "plant/press-8/temp", MR_RULES_DENY, MR_RULES_DENY);
    expect(rules, "orders/1", MR_RULES_DENY, MR_RULES_ALLOW);
    expect(rules, "chat/anna", MR_RULES_ALLOW, MR_RULES_ALLOW);
    expect(rules, "plant/x", MR_RULES_DENY, MR_RULES_ALLOW);
    mr_assert(mr_rules_filter(rules, mr_span_of("orders/+")) == MR_RULES_ALLOW);
    mr_assert(mr_rules_filter(rules, mr_span_of("orders/7")) == MR_RULES_ALLOW);
    mr_assert(mr_rules_filter(rules, mr_span_of("orders/#")) == MR_RULES_DENY);
    mr_assert(mr_rules_filter(rules, mr_span_of("plant/+")) == MR_RULES_ALLOW);
    mr_assert(mr_rules_filter(rules, mr_span_of("plant/7")) == MR_RULES_DENY); /* not that one */
    mr_assert(mr_rules_filter(rules, mr_span_of("#")) == MR_RULES_DENY);
    mr_rules_free(rules);
}

static void test_the_first_rule_that_matches_holds(void)
{
    struct mr_rules *rules =
        read_as("[{\"permission\":\"allow\",\"action\":\"publish\",\"topic\":\"t/${clientid}\"},"
                "{\"permission\":\"deny\",\"action\":\"all\",\"topic\":\"t/secret/#\"},"
                "{\"permission\":\"allow\",\"action\":\"subscribe\",\"topic\":\"t/#\"},"
                "{\"permission\":\"deny\",\"action\":\"publish\",\"topic\":\"t/#\"}]",
                "c", "u");

    expect(rules, "t/c", MR_RULES_ALLOW, MR_RULES_ALLOW);
    expect(rules, "t/d", MR_RULES_DENY, MR_RULES_ALLOW);
    expect(rules, "t/secret/x", MR_RULES_DENY, MR_RULES_DENY);
    expect(rules, "other", MR_RULES_NOTHING, MR_RULES_NOTHING);
    mr_assert(mr_rules_filter(rules, mr_span_of("t/#")) == MR_RULES_SOME);
    mr_assert(mr_rules_filter(rules, mr_span_of("t/a/#")) == MR_RULES_ALLOW);
    mr_assert(mr_rules_filter(rules, mr_span_of("t/secret/#")) == MR_RULES_DENY);
    mr_assert(mr_rules_filter(rules, mr_span_of("other/#")) == MR_RULES_NOTHING);
    mr_assert(mr_rules_filter(rules, mr_span_of("#")) == MR_RULES_SOME);
    mr_rules_free(rules);
}

/* EMQX's own default denies `#` alone, not what it matches. */
static void test_eq_denies_the_filter_itself(void)
{
    struct mr_rules *rules =
        read_as("[{\"permission\":\"deny\",\"action\":\"subscribe\",\"topic\":\"eq #\"},"
                "{\"permission\":\"deny\",\"action\":\"all\",\"topic\":\"eq a/b\"},"
                "{\"permission\":\"allow\",\"action\":\"all\",\"topic\":\"a/#\"}]",
                "c", "u");

    mr_assert(mr_rules_filter(rules, mr_span_of("#")) == MR_RULES_DENY);
    mr_assert(mr_rules_filter(rules, mr_span_of("a/b")) == MR_RULES_DENY);
    mr_assert(mr_rules_filter(rules, mr_span_of("a/c")) != MR_RULES_DENY);
    expect(rules, "a/c", MR_RULES_ALLOW, MR_RULES_ALLOW);
    expect(rules, "a/b", MR_RULES_DENY, MR_RULES_DENY);
    expect(rules, "b", MR_RULES_NOTHING, MR_RULES_NOTHING);
    mr_rules_free(rules);
}

/* A CONNECT without a client id that has to wait gets another one when it is handled again. */
static void test_a_login_has_the_rules_of_its_last_client_id(void)
{
    struct mr_auth_grant *grant =
        mr_auth_grant_make((struct mr_span){0}, mr_span_of("{\"all\":[\"own/%c\"]}"));

    mr_assert(grant != NULL);
    for (int i = 0; i < 2; i++) {
        const char *fault =
            mr_auth_grant_rules(grant, mr_span_of(i == 0 ? "auto-a" : "auto-b"), mr_span_of("u"));
        mr_assert(fault == NULL);
    }
    expect(grant->rules, "own/auto-a", MR_RULES_DENY, MR_RULES_DENY);
    expect(grant->rules, "own/auto-b", MR_RULES_ALLOW, MR_RULES_ALLOW);
    mr_auth_grant_free(grant);
}

static void test_names_widen_nothing(void)
{
    static const char *const wild[] = {"+", "#", "a/b", "a+", "", "x#"};

    for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        struct mr_rules *rules = read_as("{\"all\":[\"home/%u/#\",\"free\"]}", "c", wild[i]);
        expect(rules, "home/a/b", MR_RULES_DENY, MR_RULES_DENY);
        expect(rules, "free", MR_RULES_ALLOW, MR_RULES_ALLOW);
        mr_rules_free(rules);
        rules = read_as("[{\"permission\":\"deny\",\"action\":\"all\",\"topic\":\"no/%c\"}]",
                        wild[i], "u");
        expect(rules, "any/thing", MR_RULES_DENY, MR_RULES_DENY);
        mr_rules_free(rules);
    }
}

static void test_conditions_that_are_not_known(void)
{
    struct mr_rules *rules =
        read_as("[{\"permission\":\"allow\",\"action\":\"all\",\"topic\":\"a\",\"qos\":[0]},"
                "{\"permission\":\"deny\",\"action\":\"all\",\"topic\":\"b\",\"retain\":true}]",
                "c", "u");

    expect(rules, "a", MR_RULES_NOTHING, MR_RULES_NOTHING);
    expect(rules, "b", MR_RULES_DENY, MR_RULES_DENY);
    mr_rules_free(rules);
}

static void test_what_is_not_understood_is_a_fault(void)
{
    static const char *const bad[] = {
        "1",
        "\"#\"",
        "null",
        "true",
        "{\"pub\":\"#\"}",
        "{\"pub\":[1]}",
        "{\"pub\":[\"a/#/b\"]}",
        "{\"pub\":[\"\"]}",
        "[1]",
        "[{}]",
        "[{\"permission\":\"allow\",\"topic\":\"a\"}]",
        "[{\"permission\":\"maybe\",\"action\":\"all\",\"topic\":\"a\"}]",
        "[{\"permission\":\"allow\",\"action\":\"read\",\"topic\":\"a\"}]",
        "[{\"permission\":\"allow\",\"action\":\"all\"}]",
    };
    struct mr_rules *rules = NULL;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mr_assert(mr_rules_read(&rules, mr_span_of(bad[i]), mr_span_of("c"), mr_span_of("u")) !=
                      NULL &&
                  rules == NULL);
    }
    static char many[16384];
    size_t len = (size_t)sprintf(many, "{\"pub\":[\"x\"");
    for (int i = 0; i < MR_RULES_MAX; i++) {
        len += (size_t)sprintf(many + len, ",\"a/%d\"", i);
    }
    (void)sprintf(many + len, "]}");
    mr_assert(mr_rules_read(&rules, mr_span_of(many), mr_span_of("c"), mr_span_of("u")) != NULL);
    rules = read_as("{}", "c", "u"); /* nothing is allowed, and that is a rule */
    expect(rules, "a", MR_RULES_DENY, MR_RULES_DENY);
    mr_rules_free(rules);
}

/* ---- a small world ---- */

static uint32_t seed = 7;

static uint32_t dice(uint32_t sides)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 16) % sides;
}

static size_t filter_put(char *out, bool wild)
{
    static const char *const levels[] = {"a", "b", "+", "$s"};
    size_t len = 0;
    uint32_t count = 1 + dice(3);

    for (uint32_t i = 0; i < count; i++) {
        len += (size_t)sprintf(out + len, "%s%s", i == 0 ? "" : "/", levels[dice(wild ? 4 : 2)]);
    }
    return dice(3) == 0 && wild ? len + (size_t)sprintf(out + len, "/#") : len;
}

/* If a filter is allowed as a whole, each topic that it matches is; if refused, none. */
static void test_filters_and_topics_agree(void)
{
    static const char *const names[] = {"a",     "b",     "$s",     "a/a",     "a/b",    "b/a",
                                        "b/b",   "$s/a",  "a/a/a",  "a/b/a",   "b/a/b",  "a/$s",
                                        "a/a/b", "b/b/b", "$s/a/a", "a/a/a/a", "b/a/a/b"};

    for (int round = 0; round < 20000; round++) {
        char acl[1024];
        char filter[64];
        size_t len = (size_t)sprintf(acl, "[");
        uint32_t count = 1 + dice(4);
        for (uint32_t i = 0; i < count; i++) {
            char topic[64];
            topic[filter_put(topic, true)] = 0;
            len += (size_t)sprintf(
                acl + len, "%s{\"permission\":\"%s\",\"action\":\"subscribe\",\"topic\":\"%s\"}",
                i == 0 ? "" : ",", dice(2) == 0 ? "allow" : "deny", topic);
        }
        (void)sprintf(acl + len, "]");
        filter[filter_put(filter, true)] = 0;
        struct mr_rules *rules = read_as(acl, "c", "u");
        enum mr_rules_say whole = mr_rules_filter(rules, mr_span_of(filter));
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (!mr_topic_matches(mr_span_of(filter), mr_span_of(names[i]))) {
                continue;
            }
            enum mr_rules_say one = mr_rules_topic(rules, mr_span_of(names[i]), false);
            if (whole == MR_RULES_ALLOW && one != MR_RULES_ALLOW) {
                fprintf(stderr, "%s: %s allowed, %s not\n", acl, filter, names[i]);
                abort();
            }
            mr_assert(whole != MR_RULES_NOTHING || one != MR_RULES_DENY);
        }
        mr_rules_free(rules);
    }
}

int main(void)
{
    test_lists_allow_and_nothing_else_does();
    test_the_first_rule_that_matches_holds();
    test_eq_denies_the_filter_itself();
    test_a_login_has_the_rules_of_its_last_client_id();
    test_names_widen_nothing();
    test_conditions_that_are_not_known();
    test_what_is_not_understood_is_a_fault();
    test_filters_and_topics_agree();
    return 0;
}
