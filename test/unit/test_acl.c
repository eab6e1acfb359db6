/* test_acl.c
 *
 * links: auth codec os base
 *
 * Goal:   an ACL file means what Mosquitto means by it, faults are told with their line, and
 *         a subscription is granted exactly if something it matches may be read.
 * Method: tables; then random files and questions beside a model that reads the file line by
 *         line; random filters beside every topic of a small world.  The seed is printed.
 */
#include "../fuzz/acl_naive.h"
#include "base/text.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>

static struct mr_span span(const char *text)
{
    return mr_span_of(text);
}

static struct mr_acl *acl_of(const char *text)
{
    struct mr_acl *acl = NULL;
    struct mr_error why = {.text = ""};

    if (mr_acl_parse(&acl, "test.acl", span(text), NULL, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    return acl;
}

/* ---- tables ---- */

static const char plant[] = "# of those without a name\n"
                            "topic read $SYS/#\n"
                            "topic news\n"
                            "\n"
                            "user ann\n"
                            "topic read plant/#\n"
                            "topic deny plant/vault/#\n"
                            "topic write plant/+/set\n"
                            "topic subscribe other/#\n"
                            "  topic readwrite  two words/x y  \r\n"
                            "pattern readwrite own/%c/%u/#\n"
                            "user bob lee\n"
                            "topic plant/1/t\n"
                            "user carl\n"
                            "topic plant/1/t\n"
                            "user ann\n"
                            "topic read more\n"
                            "pattern deny own/%c/secret/#\n"
                            "pattern read mixed-%c-x/t\n";

static const struct {
    const char *client;
    const char *user;
    const char *topic;
    const char *may; /* r w s */
} rows[] = {
    {"d", "", "$SYS/broker/uptime", "rs"},
    {"d", "", "$SYS", "rs"},
    {"d", "", "news", "rws"},
    {"d", "", "news/1", ""},
    {"d", "", "plant/1/t", ""},
    {"d", "ann", "news", ""},
    {"d", "ann", "$SYS/broker/uptime", ""},
    {"d", "ann", "plant", "rs"},
    {"d", "ann", "plant/1/t", "rs"},
    {"d", "ann", "plant/vault", ""},
    {"d", "ann", "plant/vault/gold", ""},
    {"d", "ann", "plant/vault/set", ""}, /* deny wins over what stands before and behind it */
    {"d", "ann", "plant/1/set", "rws"},
    {"d", "ann", "other/x", "s"},
    {"d", "ann", "two words/x y", "rws"},
    {"d", "ann", "more", "rs"}, /* a second `user ann` adds */
    {"d", "ann", "own/d/ann/x", "rws"},
    {"d", "ann", "own/d/bob/x", ""},
    {"d", "secret", "own/d/secret/x", ""}, /* a deny among the patterns */
    {"d", "", "own/d//x", ""},             /* %u without a user name fits nothing */
    {"d", "bob lee", "plant/1/t", "rws"},
    {"d", "bob", "plant/1/t", ""},
    {"d", "carl", "plant/1/t", "rws"},
    {"d", "nobody", "plant/1/t", ""},
    {"d", "nobody", "own/d/nobody", "rws"},
    {"d", "nobody", "mixed-d-x/t", "rs"},
    {"d", "nobody", "mixed--x/t", ""},
    {"d", "nobody", "mixed-%c-x/t", ""},
    /* CVE-2017-7650: names that would be wildcards, or another's branch */
    {"#", "ann", "own/#/ann/x", ""},
    {"+", "nobody", "own/d/nobody/x", ""},
    {"+", "nobody", "mixed-d-x/t", ""},
    {"d", "+", "own/d/ann/x", ""},
    {"d", "#", "own/d/ann/x", ""},
    {"+", "ann", "plant/1/t", "rs"}, /* its own rules hold */
    {"d/ann", "x", "own/d/ann/x", ""},
    {"d", "ann/x", "own/d/ann/x", ""},
};

static void test_table(void)
{
    static const struct {
        unsigned right;
        char letter;
    } rights[] = {{MR_ACL_READ, 'r'}, {MR_ACL_WRITE, 'w'}, {MR_ACL_SUBSCRIBE, 's'}};
    struct mr_acl *acl = acl_of(plant);

    mr_assert(mr_acl_rule_count(acl) == 13 && mr_acl_names_users(acl));
    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        struct mr_acl_who who = mr_acl_who(acl, span(rows[i].client), span(rows[i].user));
        for (size_t k = 0; k < MR_COUNT_OF(rights); k++) {
            bool wanted = strchr(rows[i].may, rights[k].letter) != NULL;
            if (mr_acl_may(&who, span(rows[i].topic), rights[k].right) != wanted) {
                fprintf(stderr, "'%s' '%s' %s %c: %d\n", rows[i].client, rows[i].user,
                        rows[i].topic, rights[k].letter, !wanted);
                abort();
            }
            mr_assert(naive_may(span(plant), span(rows[i].client), span(rows[i].user),
                                span(rows[i].topic), rights[k].right) == wanted);
        }
    }
    mr_acl_drop(acl);
}

/* A client that calls itself $SYS gets nothing of $SYS by `pattern %c/#`. */
static void test_dollar(void)
{
    struct mr_acl *acl = acl_of("pattern readwrite %c/#\npattern read $SYS/%c\ntopic read #\n");
    struct mr_acl_who who = mr_acl_who(acl, span("$SYS"), span("u"));

    mr_assert(!mr_acl_may(&who, span("$SYS/x"), MR_ACL_READ));
    mr_assert(mr_acl_may(&who, span("$SYS/$SYS"), MR_ACL_READ));
    who = mr_acl_who(acl, span("d"), span(""));
    mr_assert(mr_acl_may(&who, span("d/x"), MR_ACL_WRITE));
    mr_assert(mr_acl_may(&who, span("$SYS/d"), MR_ACL_READ));
    mr_assert(!mr_acl_may(&who, span("$SYS/x"), MR_ACL_READ)); /* not by # */
    mr_acl_drop(acl);
}

/* Own rules come before patterns, in both directions. */
static void test_precedence(void)
{
    struct mr_acl *acl = acl_of("pattern deny a/%u\npattern read b\n"
                                "user u\ntopic read a/#\ntopic deny b\n");
    struct mr_acl_who who = mr_acl_who(acl, span("c"), span("u"));

    mr_assert(mr_acl_may(&who, span("a/u"), MR_ACL_READ));
    mr_assert(!mr_acl_may(&who, span("a/u"), MR_ACL_WRITE));
    mr_assert(!mr_acl_may(&who, span("b"), MR_ACL_READ));
    mr_acl_drop(acl);
    acl = acl_of("# nothing but this\n");
    who = mr_acl_who(acl, span("c"), span("u"));
    mr_assert(mr_acl_rule_count(acl) == 0 && !mr_acl_may(&who, span("a"), MR_ACL_READ));
    mr_assert(mr_acl_covers(&who, span("#")) == MR_ACL_COVERS_NONE);
    mr_acl_drop(acl);
}

static void test_covers(void)
{
    static const struct {
        const char *user;
        const char *filter;
        enum mr_acl_cover cover;
    } covers[] = {
        {"ann", "plant/#", MR_ACL_COVERS_SOME}, /* but for the vault */
        {"ann", "#", MR_ACL_COVERS_SOME},
        {"ann", "+/+/t", MR_ACL_COVERS_SOME},
        {"ann", "plant/1/#", MR_ACL_COVERS_ALL},
        {"ann", "plant/+", MR_ACL_COVERS_SOME},
        {"ann", "plant/1/+/x", MR_ACL_COVERS_ALL},
        {"ann", "plant/vault/#", MR_ACL_COVERS_NONE},
        {"ann", "plant/vault/+", MR_ACL_COVERS_NONE},
        {"ann", "plant/vault", MR_ACL_COVERS_NONE},
        {"ann", "other/#", MR_ACL_COVERS_SOME}, /* subscribe alone: granted, nothing comes */
        {"ann", "elsewhere/#", MR_ACL_COVERS_NONE},
        {"ann", "own/d/ann/#", MR_ACL_COVERS_ALL},
        {"ann", "own/d/+/#", MR_ACL_COVERS_SOME},
        {"ann", "own/e/#", MR_ACL_COVERS_NONE},
        {"ann", "$SYS/#", MR_ACL_COVERS_NONE},
        {"", "$SYS/#", MR_ACL_COVERS_ALL},
        {"", "$SYS/+/x", MR_ACL_COVERS_ALL},
        {"", "#", MR_ACL_COVERS_SOME},
        {"", "plant/#", MR_ACL_COVERS_NONE},
        {"", "own/#", MR_ACL_COVERS_NONE}, /* below a name that it has not */
        {"ann", "own/#", MR_ACL_COVERS_SOME},
        {"", "own/d/#", MR_ACL_COVERS_NONE},
        {"a/b", "own/d/+", MR_ACL_COVERS_NONE},
        {"carl", "plant/1/t", MR_ACL_COVERS_ALL},
        {"carl", "plant/+/t", MR_ACL_COVERS_SOME},
        {"carl", "plant/1/t/#", MR_ACL_COVERS_SOME}, /* it has plant/1/t itself */
        {"carl", "plant/1/t/+", MR_ACL_COVERS_NONE},
    };
    struct mr_acl *acl = acl_of(plant);

    for (size_t i = 0; i < MR_COUNT_OF(covers); i++) {
        struct mr_acl_who who = mr_acl_who(acl, span("d"), span(covers[i].user));
        enum mr_acl_cover cover = mr_acl_covers(&who, span(covers[i].filter));
        if (cover != covers[i].cover) {
            fprintf(stderr, "'%s' %s: %d\n", covers[i].user, covers[i].filter, (int)cover);
            abort();
        }
    }
    mr_acl_drop(acl);
}

/* ---- faults ---- */

struct faults {
    char text[16][600];
    size_t count;
};

static void fault_keep(void *arg, const char *text)
{
    struct faults *faults = arg;

    mr_assert(faults->count < MR_COUNT_OF(faults->text));
    (void)snprintf(faults->text[faults->count++], sizeof(faults->text[0]), "%s", text);
}

static void test_faults(void)
{
    static const char text[] = "topic\n"
                               "topic raed a/b\n"
                               "user\n"
                               "\n"
                               "topic read a/#/b\n"
                               "topic read a # all of it\n"
                               "topic\tread a\n"
                               "usr ann\n"
                               "pattern %c\n"
                               "topic write a b\n"
                               "topic a b\n";
    static const struct {
        const char *line;
        const char *says;
    } wanted[] = {
        {"line 1:", "no topic; write `topic readwrite"},
        {"line 2:", "'raed' is no right; write read, write"},
        {"line 3:", "no user name; write `user NAME`"},
        {"line 5:", "'a/#/b' is no topic filter"},
        {"line 6:", "a comment needs a line of its own"},
        {"line 7:", "no tabs"},
        {"line 8:", "it begins with 'usr'"},
        {"line 11:", "'a' is no right"},
    };
    struct faults faults = {.count = 0};
    struct mr_acl *acl = NULL;
    struct mr_error why = {.text = ""};

    mr_assert(mr_acl_parse(&acl, "my.acl", span(text), fault_keep, &faults, &why) == MR_ERR_CONFIG);
    mr_assert(acl == NULL && strcmp(why.text, faults.text[0]) == 0);
    mr_assert(faults.count == MR_COUNT_OF(wanted));
    for (size_t i = 0; i < MR_COUNT_OF(wanted); i++) {
        if (strstr(faults.text[i], "acl file my.acl, ") != faults.text[i] ||
            strstr(faults.text[i], wanted[i].line) == NULL ||
            strstr(faults.text[i], wanted[i].says) == NULL) {
            fprintf(stderr, "%s\n", faults.text[i]);
            abort();
        }
    }
    mr_assert(mr_acl_read(&acl, "/nowhere/acl", fault_keep, &faults, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "acl file /nowhere/acl: ") == why.text);
}

/* Deep rules are refused; deep topics and filters only find what there is. */
static void test_deep(void)
{
    static char text[200000];
    struct mr_text rule = mr_text_over(text, sizeof(text));
    struct mr_acl *acl = NULL;
    struct mr_error why = {.text = ""};

    mr_text_add(&rule, "topic read ");
    for (int i = 0; i < MR_ACL_LEVELS_MAX; i++) {
        mr_text_add(&rule, "+/");
    }
    mr_text_add(&rule, "#");
    mr_assert(mr_acl_parse(&acl, "x", span(text), NULL, NULL, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "more than 200 levels") != NULL);
    rule.at[rule.len - 2] = 0; /* without its last level */
    acl = acl_of(text);
    memset(text, '/', 65535);
    struct mr_acl_who who = mr_acl_who(acl, span("c"), span(""));
    mr_assert(!mr_acl_may(&who, mr_span_make(text, 65535), MR_ACL_READ));
    mr_assert(mr_acl_may(&who, mr_span_make(text, 199), MR_ACL_READ));
    mr_assert(mr_acl_covers(&who, mr_span_make(text, 65535)) == MR_ACL_COVERS_NONE);
    mr_acl_drop(acl);
}

/* ---- random ---- */

static uint32_t below(uint32_t count)
{
    return (uint32_t)random() % count;
}

static const char *pick(const char *const *from, uint32_t count)
{
    return from[below(count)];
}

static void random_topic(struct mr_text *out, bool filter, bool pattern)
{
    static const char *const names[] = {"a", "b", "", "$x", "%c", "%u", "c-%c", "d", "c-d"};
    uint32_t levels = 1 + below(4);

    for (uint32_t i = 0; i < levels; i++) {
        mr_text_add(out, i == 0 ? "" : "/");
        if (filter && below(4) == 0) {
            bool last = below(3) == 0;
            mr_text_add(out, last ? "#" : "+");
            if (last) {
                return;
            }
        } else {
            const char *name = pick(names, MR_COUNT_OF(names));
            bool empty = name[0] == 0 && levels == 1;
            mr_text_add(out, empty || (strchr(name, '%') != NULL && !pattern) ? "a" : name);
        }
    }
}

static void random_file(struct mr_text *out)
{
    static const char *const rights[] = {"",           "read ",      "write ",
                                         "readwrite ", "subscribe ", "deny "};
    static const char *const users[] = {"a", "b", "d"};
    uint32_t lines = below(12);

    for (uint32_t i = 0; i < lines; i++) {
        uint32_t kind = below(8);
        if (kind == 0) {
            mr_text_fmt(out, "user %s\n", pick(users, MR_COUNT_OF(users)));
            continue;
        }
        mr_text_add(out, kind < 4 ? "pattern " : "topic ");
        mr_text_add(out, pick(rights, MR_COUNT_OF(rights)));
        random_topic(out, true, kind < 4);
        mr_text_add(out, "\n");
    }
}

static void compare(const char *file, const struct mr_acl *acl, const char *client,
                    const char *user)
{
    struct mr_acl_who who = mr_acl_who(acl, span(client), span(user));
    char filter[64];
    char topic[64];
    struct mr_text filter_text = mr_text_over(filter, sizeof(filter));
    random_topic(&filter_text, true, false);
    enum mr_acl_cover cover = mr_acl_covers(&who, span(filter));

    for (int i = 0; i < 20; i++) {
        struct mr_text topic_text = mr_text_over(topic, sizeof(topic));
        random_topic(&topic_text, false, false);
        bool read = naive_may(span(file), span(client), span(user), span(topic), MR_ACL_READ);
        bool write = naive_may(span(file), span(client), span(user), span(topic), MR_ACL_WRITE);
        bool same = mr_acl_may(&who, span(topic), MR_ACL_READ) == read &&
                    mr_acl_may(&who, span(topic), MR_ACL_WRITE) == write;
        bool within = naive_matches(span(filter), span(topic));
        if (!same || (within && ((cover == MR_ACL_COVERS_ALL && !read) ||
                                 (cover == MR_ACL_COVERS_NONE && read)))) {
            fprintf(stderr, "client '%s' user '%s' topic '%s' filter '%s' %d\n%s", client, user,
                    topic, filter, (int)cover, file);
            abort();
        }
    }
}

static void test_random(void)
{
    static const char *const names[] = {"a", "b", "d", "c", "a/b", "+", "#", "$x", ""};
    static char file[4096];
    unsigned seed = (unsigned)mr_clock_mono_ns();

    printf("seed %u\n", seed);
    srandom(seed);
    for (int i = 0; i < 4000; i++) {
        struct mr_text text = mr_text_over(file, sizeof(file));
        mr_text_add(&text, "");
        random_file(&text);
        struct mr_acl *acl = acl_of(file);
        compare(file, acl, pick(names, 8), pick(names, 9));
        mr_acl_drop(acl);
    }
}

/* Ten thousand devices, each with a topic of its own, of one user. */
static void test_large(void)
{
    enum { RULES = 10000 };
    struct mr_text text = mr_text_over(mr_alloc(RULES * 40), (size_t)RULES * 40);
    char topic[40];

    mr_text_add(&text, "user backend\n");
    for (int i = 0; i < RULES; i++) {
        mr_text_fmt(&text, "topic read plant/%d/+\n", (i * 7919) % RULES);
    }
    struct mr_acl *acl = acl_of(text.at);
    struct mr_acl_who who = mr_acl_who(acl, span("c"), span("backend"));
    int64_t begin_ns = mr_clock_mono_ns();
    for (int i = 0; i < RULES; i++) {
        (void)snprintf(topic, sizeof(topic), "plant/%d/t", i);
        mr_assert(mr_acl_may(&who, span(topic), MR_ACL_READ));
    }
    printf("%lld ns a check\n", (long long)(mr_clock_mono_ns() - begin_ns) / RULES);
    mr_assert(mr_acl_covers(&who, span("plant/5/+")) == MR_ACL_COVERS_ALL);
    mr_assert(mr_acl_covers(&who, span("plant/10000/#")) == MR_ACL_COVERS_NONE);
    mr_acl_drop(acl);
    mr_free(text.at);
}

int main(void)
{
    test_table();
    test_dollar();
    test_precedence();
    test_covers();
    test_faults();
    test_deep();
    test_random();
    test_large();
    return 0;
}
