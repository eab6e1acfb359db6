/* import_acl.c - acl.conf of EMQX (terms of Erlang) as an ACL file in Mosquitto's syntax.
 *
 *     {allow, {username, "x"}, publish, ["a/#"]}.   ─▶  user x
 *                                                       topic write a/#
 *     {allow, all, subscribe, ["b/${clientid}"]}.   ─▶  pattern read b/%c
 *
 * Theirs are looked at from the top, and the first that fits decides; of ours the order means
 * nothing, a user's own come before those of all, and a deny before what allows.  So a rule is
 * taken over where that makes no difference, or refuses more and is noted; an allow that would
 * allow more than there is left out, with a note.  A deny that cannot be said is noted, and
 * what is allowed below it is for the reader to look at.
 */
#include "app/cli/import_internal.h"

enum { TERM_BYTES = 1024, DEPTH_MAX = 16 };

enum term_kind {
    TERM_ATOM, /* numbers too */
    TERM_TEXT,
    TERM_TUPLE,
    TERM_LIST,
};

struct term {
    struct term *next;
    struct term *first;
    struct term *last;
    char *text; /* of ATOM and TEXT */
    enum term_kind kind;
};

struct acl_reader {
    struct import *import;
    const char *at;
    struct import_place place;
    const char *why;
    unsigned depth;
    bool denied_all;  /* a rule before denies something to all */
    bool allowed_all; /* ... allows */
    bool closed;      /* {deny, all}: nothing behind it is looked at */
};

/* ---- terms ---- */

static void term_free(struct term *term)
{
    while (term != NULL) {
        struct term *next = term->next;
        term_free(term->first);
        mr_free(term->text);
        mr_free(term);
        term = next;
    }
}

static struct term *fail(struct acl_reader *reader, const char *why)
{
    reader->why = reader->why == NULL ? why : reader->why;
    return NULL;
}

static void skip_space(struct acl_reader *reader)
{
    for (;; reader->at++) {
        if (*reader->at == '%') {
            reader->at += strcspn(reader->at, "\n");
        }
        if (*reader->at == '\0' || strchr(" \t\r\n", *reader->at) == NULL) {
            return;
        }
        reader->place.line += *reader->at == '\n' ? 1 : 0;
    }
}

static struct term *term_make(enum term_kind kind, const char *text)
{
    struct term *term = mr_alloc(sizeof(*term));

    term->kind = kind;
    term->text = text == NULL ? NULL : mr_strdup(text);
    return term;
}

/* "text" or 'atom'; both escape with \. */
static struct term *read_quoted(struct acl_reader *reader, enum term_kind kind)
{
    char quote = *reader->at++;
    char text[TERM_BYTES];
    struct mr_text out = mr_text_over(text, sizeof(text));

    for (; *reader->at != quote; reader->at++) {
        reader->at += *reader->at == '\\' && reader->at[1] != '\0' ? 1 : 0;
        if (*reader->at == '\0' || *reader->at == '\n') {
            return fail(reader, "a text that does not end");
        }
        mr_text_bytes(&out, reader->at, 1);
    }
    reader->at += 1;
    return out.truncated ? fail(reader, "a text of more than 1 KiB") : term_make(kind, text);
}

static struct term *read_term(struct acl_reader *reader);

static struct term *read_many(struct acl_reader *reader, enum term_kind kind, char end)
{
    struct term *all = term_make(kind, NULL);

    reader->at += 1;
    skip_space(reader);
    while (*reader->at != end) {
        struct term *one = read_term(reader);
        if (one == NULL) {
            term_free(all);
            return NULL;
        }
        if (all->last != NULL) {
            all->last->next = one;
        } else {
            all->first = one;
        }
        all->last = one;
        skip_space(reader);
        reader->at += *reader->at == ',' ? 1 : 0;
        skip_space(reader);
    }
    reader->at += 1;
    return all;
}

static struct term *read_term(struct acl_reader *reader)
{
    struct term *term = NULL;

    if (reader->depth == DEPTH_MAX) {
        return fail(reader, "more than 16 terms within each other");
    }
    reader->depth += 1;
    if (*reader->at == '{') {
        term = read_many(reader, TERM_TUPLE, '}');
    } else if (*reader->at == '[') {
        term = read_many(reader, TERM_LIST, ']');
    } else if (*reader->at == '"' || *reader->at == '\'') {
        term = read_quoted(reader, *reader->at == '"' ? TERM_TEXT : TERM_ATOM);
    } else {
        size_t len = strcspn(reader->at, " \t\r\n,.{}[]\"'%");
        char text[TERM_BYTES];
        struct mr_text out = mr_text_over(text, sizeof(text));
        mr_text_bytes(&out, reader->at, len);
        reader->at += len;
        term = len == 0 || out.truncated ? fail(reader, "a term was expected")
                                         : term_make(TERM_ATOM, text);
    }
    reader->depth -= 1;
    return term;
}

static bool is_atom(const struct term *term, const char *text)
{
    return term != NULL && term->kind == TERM_ATOM && strcmp(term->text, text) == 0;
}

/* ---- rules ---- */

struct rule {
    bool deny;
    const char *user;  /* NULL: of all */
    const char *right; /* ours, with a blank behind it */
    const struct term *topics;
};

static void note(struct acl_reader *reader, const char *what, const char *advice)
{
    import_note(reader->import, reader->place, what, "%s", advice);
}

/* False: there is no equivalent; a note has been made. */
static bool who_of(struct acl_reader *reader, const struct term *who, struct rule *rule)
{
    const struct term *name = who == NULL || who->kind != TERM_TUPLE ? NULL : who->first;

    if (is_atom(who, "all")) {
        return true;
    }
    if ((is_atom(name, "username") || is_atom(name, "user")) && name->next != NULL &&
        name->next->kind == TERM_TEXT && name->next->text[0] != '\0') {
        rule->user = name->next->text;
        return true;
    }
    note(reader, NULL,
         "rules are for a user or for all; client ids, addresses, expressions and combinations "
         "have no equivalent, and the rule is left out; where it denies, look at what is allowed "
         "below");
    return false;
}

static bool right_of(struct acl_reader *reader, const struct term *action, struct rule *rule)
{
    bool both = action == NULL || is_atom(action, "all") || is_atom(action, "pubsub");

    if (rule->deny && !both) {
        note(reader, NULL,
             "what is denied here is denied for reading and writing; to deny one of them alone, "
             "leave it out of what is allowed below. The rule is left out");
        return false;
    }
    rule->right = rule->deny                     ? "deny "
                  : both                         ? "readwrite "
                  : is_atom(action, "publish")   ? "write "
                  : is_atom(action, "subscribe") ? "read "
                                                 : NULL;
    if (rule->right == NULL) {
        note(reader, NULL, "an action with QoS or retain has no equivalent; the rule is left out");
    }
    return rule->right != NULL;
}

/* Does the order of their rules say otherwise than ours would? */
static bool order_fits(struct acl_reader *reader, const struct rule *rule)
{
    if (!rule->deny && reader->denied_all) {
        note(reader, NULL,
             "a rule above denies something to all, which here would not hold for what this one "
             "allows; it is left out. Move it by hand if their topics have nothing in common");
        return false;
    }
    if (rule->deny && reader->allowed_all) {
        note(reader, NULL, "this holds here also for what a rule above allows");
    }
    return true;
}

/* ${username}, ${clientid}, %u and %c in our words; false: another ${...}. */
static bool topic_of(const char *theirs, struct mr_text *out, bool *has_names)
{
    while (*theirs != '\0') {
        bool user = strncmp(theirs, "${username}", 11) == 0;
        if (user || strncmp(theirs, "${clientid}", 11) == 0) {
            mr_text_add(out, user ? "%u" : "%c");
            theirs += 11;
            *has_names = true;
        } else if (strncmp(theirs, "${", 2) == 0 || *theirs == '\n') {
            return false;
        } else {
            *has_names =
                *has_names || strncmp(theirs, "%u", 2) == 0 || strncmp(theirs, "%c", 2) == 0;
            mr_text_bytes(out, theirs++, 1);
        }
    }
    return !out->truncated;
}

static void topic_out(struct acl_reader *reader, const struct rule *rule, const struct term *topic)
{
    bool exact = topic->kind == TERM_TUPLE && is_atom(topic->first, "eq");
    const struct term *named = exact ? topic->first->next : topic;
    char text[TERM_BYTES];
    struct mr_text out = mr_text_over(text, sizeof(text));
    bool has_names = false;

    if (named == NULL || named->kind != TERM_TEXT || !topic_of(named->text, &out, &has_names) ||
        (exact && strpbrk(text, "+#") != NULL) || (has_names && rule->user != NULL)) {
        note(reader, named == NULL ? NULL : named->text,
             "this topic cannot be said in an ACL file and is left out: filters that are meant "
             "literally ({eq, ...}), names other than of client and user, or names in a rule of "
             "one user");
        return;
    }
    struct mr_cli *cli = reader->import->cli;
    if (rule->user != NULL) {
        (void)mr_cli_out(cli, "user %s\ntopic %s%s\n", rule->user, rule->right, text);
    } else {
        (void)mr_cli_out(cli, "pattern %s%s\n", rule->right, text);
    }
}

static void rule_out(struct acl_reader *reader, const struct term *tuple)
{
    static char all[] = "#";
    static const struct term everything = {.kind = TERM_TEXT, .text = all};
    const struct term *permission = tuple->kind == TERM_TUPLE ? tuple->first : NULL;
    struct rule rule = {.deny = is_atom(permission, "deny")};
    const struct term *who = permission == NULL ? NULL : permission->next;
    const struct term *action = who == NULL ? NULL : who->next;
    const struct term *topics = action == NULL ? NULL : action->next;

    if (who == NULL || (!rule.deny && !is_atom(permission, "allow"))) {
        note(reader, NULL, "no rule: {allow, ...} or {deny, ...} was expected");
        return;
    }
    if (reader->closed) {
        note(reader, NULL, "a rule above denies everything to all; it is left out as well");
        return;
    }
    if (!who_of(reader, who, &rule) || !right_of(reader, action, &rule)) {
        return;
    }
    if (rule.deny && rule.user == NULL && topics == NULL) {
        reader->closed = true; /* what nothing allows is denied */
        return;
    }
    if (!order_fits(reader, &rule)) {
        return;
    }
    (void)mr_cli_out(reader->import->cli, "# %s:%u\n", reader->place.file, reader->place.line);
    const struct term *topic = topics == NULL ? &everything : topics->first;
    for (; topic != NULL; topic = topic->next) {
        topic_out(reader, &rule, topic);
    }
    reader->denied_all = reader->denied_all || (rule.deny && rule.user == NULL);
    reader->allowed_all = reader->allowed_all || !rule.deny;
}

static bool read_rules(struct acl_reader *reader)
{
    for (skip_space(reader); *reader->at != '\0'; skip_space(reader)) {
        struct import_place begin = reader->place;
        struct term *tuple = read_term(reader);
        if (tuple == NULL) {
            return false;
        }
        skip_space(reader);
        struct import_place end = reader->place;
        reader->place = begin;
        rule_out(reader, tuple);
        reader->place = end;
        term_free(tuple);
        if (*reader->at != '.') {
            (void)fail(reader, "no `.` behind a rule");
            return false;
        }
        reader->at += 1;
    }
    return true;
}

bool import_acl(struct import *import, const char *path)
{
    char *text = import_read(import, path);

    if (text == NULL) {
        return false;
    }
    struct acl_reader reader = {
        .import = import, .at = text, .place = {.file = import_file_name(import, path), .line = 1}};
    (void)mr_cli_out(import->cli,
                     "# An ACL file, made by `millrace import` from %s.\n"
                     "# What no line allows is denied; EMQX's `no_match = allow` would be\n"
                     "# `pattern readwrite #`.\n",
                     path);
    bool ok = read_rules(&reader);
    if (!ok) {
        (void)mr_cli_fail(import->cli, 0, "%s:%u: %s; is this an acl.conf of EMQX?",
                          reader.place.file, reader.place.line, reader.why);
    }
    mr_free(text);
    return ok;
}
