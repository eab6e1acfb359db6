/* rules.c - see rules.h for the contract. */
#include "auth/rules.h"

#include "base/text.h"
#include "codec/json_read.h"
#include "codec/topic.h"

enum { PUBLISH = 1, SUBSCRIBE = 2, TOPIC_MAX = 4096 };

struct rule {
    uint8_t actions; /* PUBLISH, SUBSCRIBE */
    bool allow;
    bool exact; /* "eq": the filter itself */
    char *filter;
    size_t len;
};

struct mr_rules {
    bool closed; /* what no rule allows is denied */
    size_t count;
    size_t capacity;
    struct rule *rules;
};

/* Whose rules they are. */
struct names {
    struct mr_span client_id;
    struct mr_span user;
};

/* ---- reading ---- */

/* Can it stand for one level? */
static bool is_level(struct mr_span name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] == '/' || name.at[i] == '+' || name.at[i] == '#') {
            return false;
        }
    }
    return name.len != 0;
}

static bool begins_with(struct mr_span text, const char *words)
{
    size_t len = strlen(words);

    return text.len >= len && memcmp(text.at, words, len) == 0;
}

/* Put the names in.  False: one of them cannot stand for a level. */
static bool names_put(struct mr_text *out, struct mr_span text, const struct names *names)
{
    static const struct {
        const char *words;
        bool user;
    } places[] = {{"%c", false}, {"%u", true}, {"${clientid}", false}, {"${username}", true}};
    bool good = true;

    while (text.len != 0) {
        size_t used = 1;
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && used == 1; i++) {
            if (begins_with(text, places[i].words)) {
                struct mr_span name = places[i].user ? names->user : names->client_id;
                good = good && is_level(name);
                mr_text_span(out, name);
                used = strlen(places[i].words);
            }
        }
        if (used == 1) {
            mr_text_bytes(out, text.at, 1);
        }
        text.at += used;
        text.len -= used;
    }
    return good;
}

/* One more.  NULL, or what is wrong. */
static const char *rule_add(struct mr_rules *rules, bool allow, uint8_t actions,
                            struct mr_span topic, const struct names *names)
{
    char written[TOPIC_MAX];
    char text[TOPIC_MAX];
    struct mr_text decoded = mr_text_over(written, sizeof(written));
    struct mr_text put = mr_text_over(text, sizeof(text));

    if (rules->count == MR_RULES_MAX) {
        return "its `acl` has more than 256 rules";
    }
    if (topic.len == 0 || topic.at[0] != '"') {
        return "a topic of its `acl` is no text";
    }
    mr_json_text(&decoded, topic);
    struct mr_span filter = mr_span_make(written, decoded.len);
    bool exact = begins_with(filter, "eq ");
    filter.at += exact ? 3 : 0;
    filter.len -= exact ? 3 : 0;
    bool named = names_put(&put, filter, names);
    if (!named && allow) {
        return NULL;
    }
    if (!named) {
        put = mr_text_over(text, sizeof(text));
        mr_text_add(&put, "#");
        exact = false;
    }
    filter = mr_span_make(text, put.len);
    if (decoded.truncated || put.truncated || !mr_topic_filter_valid(filter)) {
        return "a topic of its `acl` is no topic filter";
    }
    if (rules->count == rules->capacity) {
        rules->capacity += rules->capacity / 2 + 4;
        rules->rules = mr_realloc(rules->rules, rules->capacity * sizeof(*rules->rules));
    }
    rules->rules[rules->count++] = (struct rule){.actions = actions,
                                                 .allow = allow,
                                                 .exact = exact,
                                                 .filter = mr_strndup(text, put.len),
                                                 .len = put.len};
    return NULL;
}

static const char *lists_read(struct mr_rules *rules, struct mr_span acl, const struct names *names)
{
    static const struct {
        const char *name;
        uint8_t actions;
    } lists[] = {{"pub", PUBLISH}, {"sub", SUBSCRIBE}, {"all", PUBLISH | SUBSCRIBE}};
    const char *fault = NULL;

    rules->closed = true;
    for (size_t i = 0; i < 3 && fault == NULL; i++) {
        struct mr_span list = mr_json_member(acl, lists[i].name);
        struct mr_span topic;
        if (list.len != 0 && list.at[0] != '[') {
            return "a list of its `acl` is none";
        }
        while (fault == NULL && list.len != 0 && mr_json_next(&list, &topic)) {
            fault = rule_add(rules, true, lists[i].actions, topic, names);
        }
    }
    return fault;
}

/* Conditions that EMQX knows and we do not. */
static bool has_conditions(struct mr_span object)
{
    static const char *const names[] = {"qos",  "retain",  "ipaddr",   "clientid_re", "username_re",
                                        "zone", "zone_re", "listener", "listener_re"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (mr_json_member(object, names[i]).len != 0) {
            return true;
        }
    }
    return false;
}

static const char *object_read(struct mr_rules *rules, struct mr_span object,
                               const struct names *names)
{
    struct mr_span permission = mr_json_member(object, "permission");
    struct mr_span action = mr_json_member(object, "action");
    bool allow = mr_span_is(permission, "\"allow\"");
    uint8_t actions = mr_span_is(action, "\"publish\"")     ? PUBLISH
                      : mr_span_is(action, "\"subscribe\"") ? SUBSCRIBE
                      : mr_span_is(action, "\"all\"")       ? PUBLISH | SUBSCRIBE
                                                            : 0;

    if (actions == 0 || (!allow && !mr_span_is(permission, "\"deny\""))) {
        return "a rule of its `acl` has no known permission and action";
    }
    return allow && has_conditions(object)
               ? NULL
               : rule_add(rules, allow, actions, mr_json_member(object, "topic"), names);
}

const char *mr_rules_read(struct mr_rules **out, struct mr_span acl, struct mr_span client_id,
                          struct mr_span user)
{
    struct mr_rules *rules = mr_alloc(sizeof(*rules));
    struct names names = {.client_id = client_id, .user = user};
    struct mr_span element;
    const char *fault = NULL;

    *out = NULL;
    if (acl.len != 0 && acl.at[0] == '{') {
        fault = lists_read(rules, acl, &names);
    } else if (acl.len != 0 && acl.at[0] == '[') {
        while (fault == NULL && mr_json_next(&acl, &element)) {
            fault = object_read(rules, element, &names);
        }
    } else {
        fault = "its `acl` is neither an object nor a list";
    }
    if (fault != NULL) {
        mr_rules_free(rules);
        return fault;
    }
    *out = rules;
    return NULL;
}

void mr_rules_free(struct mr_rules *rules)
{
    if (rules != NULL) {
        for (size_t i = 0; i < rules->count; i++) {
            mr_free(rules->rules[i].filter);
        }
        mr_free(rules->rules);
        mr_free(rules);
    }
}

/* ---- asking ---- */

static struct mr_span filter_of(const struct rule *rule)
{
    return mr_span_make(rule->filter, rule->len);
}

static enum mr_rules_say end_say(const struct mr_rules *rules)
{
    return rules->closed ? MR_RULES_DENY : MR_RULES_NOTHING;
}

enum mr_rules_say mr_rules_topic(const struct mr_rules *rules, struct mr_span topic, bool publish)
{
    for (size_t i = 0; i < rules->count; i++) {
        const struct rule *rule = &rules->rules[i];
        struct mr_span filter = filter_of(rule);
        /* What "eq a/#" let in as a filter brings what the filter matches; one that it keeps out
         * says nothing about what others bring.
         */
        bool hit = rule->exact && (publish || !rule->allow) ? mr_span_equal(filter, topic)
                                                            : mr_topic_matches(filter, topic);
        if ((rule->actions & (publish ? PUBLISH : SUBSCRIBE)) != 0 && hit) {
            return rule->allow ? MR_RULES_ALLOW : MR_RULES_DENY;
        }
    }
    return end_say(rules);
}

/* Does `wide` match every name that `narrow` matches? */
static bool filter_covers(struct mr_span wide, struct mr_span narrow)
{
    struct mr_span w;
    struct mr_span n;
    bool first = true;

    for (;;) {
        bool more_w = mr_topic_level_next(&wide, &w);
        bool more_n = mr_topic_level_next(&narrow, &n);
        if (first && more_n && n.len != 0 && n.at[0] == '$' && more_w && w.len == 1 &&
            (w.at[0] == '+' || w.at[0] == '#')) {
            return false; /* [MQTT-4.7.2-1] */
        }
        first = false;
        if (more_w && mr_span_is(w, "#")) {
            return true;
        }
        if (!more_w || !more_n) {
            return more_w == more_n;
        }
        if (mr_span_is(n, "#") || (mr_span_is(n, "+") && !mr_span_is(w, "+")) ||
            (!mr_span_is(w, "+") && !mr_span_equal(w, n))) {
            return false;
        }
    }
}

/* Is there a name that both match? */
static bool filters_meet(struct mr_span a, struct mr_span b)
{
    struct mr_span x;
    struct mr_span y;

    for (;;) {
        bool more_x = mr_topic_level_next(&a, &x);
        bool more_y = mr_topic_level_next(&b, &y);
        if ((more_x && mr_span_is(x, "#")) || (more_y && mr_span_is(y, "#"))) {
            return true;
        }
        if (!more_x || !more_y) {
            return more_x == more_y;
        }
        if (!mr_span_is(x, "+") && !mr_span_is(y, "+") && !mr_span_equal(x, y)) {
            return false;
        }
    }
}

enum mr_rules_say mr_rules_filter(const struct mr_rules *rules, struct mr_span filter)
{
    bool some = false; /* an earlier rule says something about a part of it */

    for (size_t i = 0; i < rules->count; i++) {
        const struct rule *rule = &rules->rules[i];
        bool hit = rule->exact ? mr_span_equal(filter_of(rule), filter)
                               : filter_covers(filter_of(rule), filter);
        if ((rule->actions & SUBSCRIBE) == 0) {
            continue;
        }
        if (hit && !rule->allow) {
            return MR_RULES_DENY;
        }
        if (hit) {
            return some ? MR_RULES_SOME : MR_RULES_ALLOW;
        }
        some = some || (!rule->allow && filters_meet(filter_of(rule), filter));
    }
    return rules->closed ? MR_RULES_DENY : some ? MR_RULES_SOME : MR_RULES_NOTHING;
}
