/* acl_file.c - reading a file of rules; the syntax is in acl.h.
 *
 * A line is cut as Mosquitto cuts it: what is white at its end goes, words are separated by
 * spaces, a topic or user name is all that follows, and so may have spaces in it.  A comment
 * begins with # and has a line of its own.  All faults of a file are told at once.
 */
#include "auth/acl_internal.h"
#include "auth/passfile_internal.h"
#include "base/text.h"
#include "codec/topic.h"
#include "os/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FAULT_BYTES = 480, FAULT_SHOWN = 64 };

struct reading {
    const char *name; /* of the file */
    uint32_t line;
    mr_acl_fault *fault;
    void *arg;
    struct mr_error *why;
    size_t fault_count;
    struct acl_rule *rules;
    size_t count;
    struct acl_user *users; /* in the order in which they come */
    uint32_t user_count;
    uint32_t user_capacity;
    uint32_t owner; /* of `topic` lines from here on */
};

static void say(struct reading *reading, const char *fmt, ...) MR_PRINTF(2, 3);

static void say(struct reading *reading, const char *fmt, ...)
{
    char words[FAULT_BYTES];
    char text[FAULT_BYTES];
    struct mr_text all = mr_text_over(text, sizeof(text));
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    mr_text_fmt(&all, "acl file %s, line %u: %s", reading->name, reading->line, words);
    reading->fault_count += 1;
    if (reading->fault_count == 1) {
        (void)mr_error_set(reading->why, MR_ERR_CONFIG, "%s", text);
    }
    if (reading->fault != NULL) {
        reading->fault(reading->arg, text);
    }
}

/* ---- words ---- */

static bool is_white(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct mr_span trimmed(struct mr_span text)
{
    while (text.len != 0 && is_white(text.at[text.len - 1])) {
        text.len -= 1;
    }
    while (text.len != 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at += 1;
        text.len -= 1;
    }
    return text;
}

/* The next word; *rest is what follows, trimmed. */
static struct mr_span word_take(struct mr_span *rest)
{
    struct mr_span word = *rest;

    for (word.len = 0; word.len < rest->len && word.at[word.len] != ' '; word.len++) {
    }
    rest->at += word.len;
    rest->len -= word.len;
    *rest = trimmed(*rest);
    return word;
}

/* ---- lines ---- */

static int shown(struct mr_span text)
{
    return (int)(text.len < FAULT_SHOWN ? text.len : FAULT_SHOWN);
}

/* The rights of a word; 0: it is none. */
static uint8_t rights_of(struct mr_span word)
{
    static const struct {
        const char *word;
        uint8_t rights;
    } words[] = {
        {"read", MR_ACL_READ | MR_ACL_SUBSCRIBE},
        {"write", MR_ACL_WRITE},
        {"readwrite", MR_ACL_READ | MR_ACL_WRITE | MR_ACL_SUBSCRIBE},
        {"subscribe", MR_ACL_SUBSCRIBE},
        {"deny", ACL_DENY},
    };

    for (size_t i = 0; i < MR_COUNT_OF(words); i++) {
        if (mr_span_is(word, words[i].word)) {
            return words[i].rights;
        }
    }
    return 0;
}

static void rule_add(struct reading *reading, bool pattern, uint8_t rights, struct mr_span filter)
{
    const char *fault = mr_topic_filter_fault(filter);

    if (fault != NULL) {
        bool comment = memchr(filter.at, '#', filter.len) != NULL;
        say(reading, "'%.*s' is no topic filter: %s%s", shown(filter), (const char *)filter.at,
            fault, comment ? "; a comment needs a line of its own" : "");
        return;
    }
    if (mr_topic_level_count(filter) > MR_ACL_LEVELS_MAX) {
        say(reading, "a topic of more than %d levels; split the rule, or let it end in `#` earlier",
            MR_ACL_LEVELS_MAX);
        return;
    }
    reading->rules[reading->count++] = (struct acl_rule){
        .filter = filter, .owner = pattern ? ACL_PATTERNS : reading->owner, .rights = rights};
}

/* What follows `topic` or `pattern`. */
static void take_rule(struct reading *reading, bool pattern, struct mr_span rest)
{
    struct mr_span word = word_take(&rest);
    uint8_t rights = MR_ACL_READ | MR_ACL_WRITE | MR_ACL_SUBSCRIBE;

    if (word.len == 0) {
        say(reading, "no topic; write `%s readwrite a/topic/#`", pattern ? "pattern" : "topic");
        return;
    }
    if (rest.len == 0) { /* a topic alone */
        rule_add(reading, pattern, rights, word);
        return;
    }
    rights = rights_of(word);
    if (rights == 0) {
        say(reading,
            "'%.*s' is no right; write read, write, readwrite, subscribe or deny before the topic, "
            "also before one with spaces in it",
            shown(word), (const char *)word.at);
        return;
    }
    rule_add(reading, pattern, rights, rest);
}

static void take_user(struct reading *reading, struct mr_span name)
{
    if (name.len == 0 || !mr_utf8_valid(name)) {
        say(reading, "no user name; write `user NAME`, or put rules of clients without a name "
                     "above the first `user`");
        return;
    }
    if (reading->user_count == reading->user_capacity) {
        reading->user_capacity *= 2;
        reading->users =
            mr_realloc(reading->users, reading->user_capacity * sizeof(*reading->users));
    }
    reading->owner = reading->user_count;
    reading->users[reading->user_count++] = (struct acl_user){.name = name};
}

static void take_line(struct reading *reading, struct mr_span line)
{
    struct mr_span rest = trimmed(line);

    if (rest.len == 0 || rest.at[0] == '#') {
        return;
    }
    struct mr_span word = word_take(&rest);
    if (mr_span_is(word, "topic") || mr_span_is(word, "pattern")) {
        take_rule(reading, word.at[0] == 'p', rest);
    } else if (mr_span_is(word, "user")) {
        take_user(reading, rest);
    } else {
        bool tab = memchr(word.at, '\t', word.len) != NULL;
        say(reading,
            "it begins with '%.*s'; a line is `user NAME`, `topic [RIGHT] TOPIC`, "
            "`pattern [RIGHT] TOPIC` or a comment behind #%s",
            shown(word), (const char *)word.at, tab ? ", with spaces between, no tabs" : "");
    }
}

/* ---- the file ---- */

static int owner_order(const void *a, const void *b)
{
    uint32_t x = ((const struct acl_rule *)a)->owner;
    uint32_t y = ((const struct acl_rule *)b)->owner;

    return (x > y) - (x < y);
}

struct named {
    struct mr_span name;
    uint32_t index; /* in the order in which they came */
};

static int named_order(const void *a, const void *b)
{
    return acl_text_order(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Users by name, each once; the rules' owners follow. */
static void users_sort(struct reading *reading)
{
    uint32_t count = reading->user_count - ACL_USERS_FIRST;
    struct named *order = mr_alloc((count + 1) * sizeof(*order));
    uint32_t *place = mr_alloc(reading->user_count * sizeof(*place));

    for (uint32_t i = 0; i < count; i++) {
        order[i] = (struct named){reading->users[ACL_USERS_FIRST + i].name, ACL_USERS_FIRST + i};
    }
    if (count != 0) {
        qsort(order, count, sizeof(*order), named_order);
    }
    place[ACL_PATTERNS] = ACL_PATTERNS;
    reading->user_count = ACL_USERS_FIRST;
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || !mr_span_equal(order[i].name, order[i - 1].name)) {
            reading->users[reading->user_count++] = (struct acl_user){.name = order[i].name};
        }
        place[order[i].index] = reading->user_count - 1;
    }
    for (size_t i = 0; i < reading->count; i++) {
        reading->rules[i].owner = place[reading->rules[i].owner];
    }
    mr_free(order);
    mr_free(place);
}

static void note_denials(struct mr_acl *acl, const struct acl_rule *rule)
{
    for (size_t i = 0; rule->rights == ACL_DENY && i + 1 < rule->filter.len; i++) {
        const uint8_t *at = rule->filter.at + i;
        acl->denies_client = acl->denies_client || (at[0] == '%' && at[1] == 'c');
        acl->denies_user = acl->denies_user || (at[0] == '%' && at[1] == 'u');
    }
}

/* A tree for each owner. */
static void build(struct mr_acl *acl, struct reading *reading)
{
    size_t begin = 0;

    users_sort(reading);
    if (reading->count != 0) {
        qsort(reading->rules, reading->count, sizeof(*reading->rules), owner_order);
    }
    (void)acl_tree_build(&acl->nodes, reading->rules, 0, false); /* of those without rules */
    for (uint32_t i = 0; i < reading->user_count; i++) {
        size_t end = begin;
        while (end < reading->count && reading->rules[end].owner == i) {
            if (i == ACL_PATTERNS) {
                note_denials(acl, &reading->rules[end]);
            }
            end += 1;
        }
        reading->users[i].root =
            acl_tree_build(&acl->nodes, reading->rules + begin, end - begin, i == ACL_PATTERNS);
        begin = end;
    }
    acl->users = reading->users;
    acl->user_count = reading->user_count;
    acl->rule_count = reading->count;
}

/* Takes `text` over. */
static enum mr_err acl_make(struct mr_acl **out, const char *name, uint8_t *text, size_t len,
                            mr_acl_fault *fault, void *arg, struct mr_error *why)
{
    struct reading reading = {.name = name, .fault = fault, .arg = arg, .why = why};
    struct mr_span rest = mr_span_make(text, len);
    size_t lines = 1;

    for (size_t i = 0; i < len; i++) {
        lines += text[i] == '\n';
    }
    reading.rules = mr_alloc(lines * sizeof(*reading.rules));
    reading.user_capacity = 16;
    reading.users = mr_alloc(reading.user_capacity * sizeof(*reading.users));
    reading.user_count = ACL_USERS_FIRST;
    while (rest.at != NULL) {
        reading.line += 1;
        take_line(&reading, mr_span_split(&rest, '\n'));
    }
    if (reading.fault_count != 0) {
        mr_free(reading.users);
        mr_free(reading.rules);
        mr_free(text);
        return MR_ERR_CONFIG;
    }
    struct mr_acl *acl = mr_alloc(sizeof(*acl));
    atomic_init(&acl->holders, 1);
    acl->text = text;
    build(acl, &reading);
    mr_free(reading.rules);
    *out = acl;
    return MR_OK;
}

enum mr_err mr_acl_parse(struct mr_acl **out, const char *name, struct mr_span text,
                         mr_acl_fault *fault, void *arg, struct mr_error *why)
{
    uint8_t *copy = mr_alloc(text.len + 1);

    *out = NULL;
    if (text.len != 0) {
        memcpy(copy, text.at, text.len);
    }
    return acl_make(out, name, copy, text.len, fault, arg, why);
}

enum mr_err mr_acl_read(struct mr_acl **out, const char *path, mr_acl_fault *fault, void *arg,
                        struct mr_error *why)
{
    struct mr_file file = {.fd = -1};
    struct mr_error local;
    uint64_t size = 0;
    size_t len = 0;

    *out = NULL;
    why = why != NULL ? why : &local;
    enum mr_err err = mr_file_open(&file, path, MR_FILE_READ, NULL);
    if (err == MR_OK) {
        err = mr_file_size(&file, &size);
    }
    if (err == MR_OK && size > PASSFILE_BYTES_MAX) {
        (void)mr_error_set(why, MR_ERR_CONFIG, "acl file %s: larger than %d MiB", path,
                           PASSFILE_BYTES_MAX >> 20);
    } else if (err == MR_OK) {
        uint8_t *text = mr_alloc(size + 1);
        err = mr_file_read(&file, text, size, 0, &len);
        if (err == MR_OK) {
            mr_file_close(&file);
            return acl_make(out, path, text, len, fault, arg, why);
        }
        mr_free(text);
    }
    if (err != MR_OK) {
        (void)mr_error_set(why, MR_ERR_CONFIG,
                           "acl file %s: %s; nobody may do anything without it, so it must be "
                           "readable for the user the gateway runs as",
                           path, mr_file_last_cause());
    }
    mr_file_close(&file);
    if (fault != NULL) {
        fault(arg, why->text);
    }
    return MR_ERR_CONFIG;
}
