/* acl_naive.h - what a client may, line by line as the page of Mosquitto tells it: the model
 * that auth/acl.c is compared with.  For files without faults.
 */
#ifndef MR_TEST_FUZZ_ACL_NAIVE_H
#define MR_TEST_FUZZ_ACL_NAIVE_H

#include "auth/acl.h"
#include "topic_naive.h"

enum { NAIVE_DENY = 8, NAIVE_BYTES = 4096 };

struct naive_line {
    bool user;
    bool pattern;
    unsigned rights;
    struct mr_span text; /* topic or user name */
};

static inline struct mr_span naive_trim(struct mr_span text)
{
    while (text.len != 0 && strchr(" \t\r\v\f", text.at[text.len - 1]) != NULL) {
        text.len -= 1;
    }
    while (text.len != 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at += 1;
        text.len -= 1;
    }
    return text;
}

/* The next line that says something; false: there is none. */
static inline bool naive_next(struct mr_span *rest, struct naive_line *out)
{
    static const char *const words[] = {"read", "write", "readwrite", "subscribe", "deny"};
    static const unsigned rights[] = {5, 2, 7, 4, NAIVE_DENY};

    while (rest->at != NULL) {
        struct mr_span line = naive_trim(mr_span_split(rest, '\n'));
        if (line.len == 0 || line.at[0] == '#') {
            continue;
        }
        struct mr_span keyword = mr_span_split(&line, ' ');
        line = naive_trim(line);
        *out = (struct naive_line){.user = mr_span_is(keyword, "user"),
                                   .pattern = mr_span_is(keyword, "pattern"),
                                   .rights = 7,
                                   .text = line};
        struct mr_span topic = line;
        struct mr_span word = mr_span_split(&topic, ' ');
        for (size_t i = 0; !out->user && topic.at != NULL && i < MR_COUNT_OF(words); i++) {
            if (mr_span_is(word, words[i])) {
                out->rights = rights[i];
                out->text = naive_trim(topic);
            }
        }
        return true;
    }
    return false;
}

static inline bool naive_has(struct mr_span name, char c)
{
    return name.len != 0 && memchr(name.at, c, name.len) != NULL;
}

static inline bool naive_uses(struct mr_span pattern, char letter)
{
    for (size_t i = 0; i + 1 < pattern.len; i++) {
        if (pattern.at[i] == '%' && pattern.at[i + 1] == letter) {
            return true;
        }
    }
    return false;
}

/* Does the pattern, with the names put in, match? */
static inline bool naive_pattern(struct mr_span pattern, struct mr_span client, struct mr_span user,
                                 struct mr_span topic)
{
    static uint8_t buffer[NAIVE_BYTES];
    size_t len = 0;

    if ((naive_uses(pattern, 'u') && (user.len == 0 || naive_has(user, '/'))) ||
        (naive_uses(pattern, 'c') && naive_has(client, '/')) ||
        (topic.at[0] == '$' && pattern.at[0] != '$')) {
        return false;
    }
    for (size_t i = 0; i < pattern.len; i++) {
        struct mr_span part = mr_span_make(pattern.at + i, 1);
        if (i + 1 < pattern.len && pattern.at[i] == '%' &&
            (pattern.at[i + 1] == 'c' || pattern.at[i + 1] == 'u')) {
            part = pattern.at[i + 1] == 'c' ? client : user;
            i += 1;
        }
        if (len + part.len > sizeof(buffer)) {
            return false;
        }
        memcpy(buffer + len, part.at, part.len);
        len += part.len;
    }
    return naive_matches(mr_span_make(buffer, len), topic);
}

/* Rights of all lines of the user (patterns: of all pattern lines) that match. */
static inline unsigned naive_rights(struct mr_span file, bool patterns, struct mr_span client,
                                    struct mr_span user, struct mr_span topic)
{
    struct mr_span whose = {.at = NULL};
    struct naive_line line;
    unsigned rights = 0;

    while (naive_next(&file, &line)) {
        if (line.user) {
            whose = line.text;
        } else if (line.pattern && patterns) {
            rights |= naive_pattern(line.text, client, user, topic) ? line.rights : 0;
        } else if (!line.pattern && !patterns && mr_span_equal(whose, user)) {
            rights |= naive_matches(line.text, topic) ? line.rights : 0;
        }
    }
    return rights;
}

static inline bool naive_may(struct mr_span file, struct mr_span client, struct mr_span user,
                             struct mr_span topic, unsigned right)
{
    unsigned rights = naive_rights(file, false, client, user, topic);
    struct mr_span rest = file;
    struct naive_line line;

    if ((rights & (NAIVE_DENY | right)) != 0) {
        return (rights & NAIVE_DENY) == 0;
    }
    if (naive_has(client, '+') || naive_has(client, '#') || naive_has(user, '+') ||
        naive_has(user, '#')) {
        return false;
    }
    while (naive_next(&rest, &line)) {
        if (line.pattern && line.rights == NAIVE_DENY &&
            ((naive_uses(line.text, 'c') && naive_has(client, '/')) ||
             (naive_uses(line.text, 'u') && naive_has(user, '/')))) {
            return false;
        }
    }
    rights = naive_rights(file, true, client, user, topic);
    return (rights & NAIVE_DENY) == 0 && (rights & right) != 0;
}

#endif
