/* test_scram.c
 * links: auth codec os base
 *
 * Goal:   SCRAM-SHA-256 as RFC 7677 has it, and everything else is refused.
 * Method: the RFC's own example; a client of our own for whole exchanges, each message of
 *         which is then spoilt in turn; files with and without lines of it.
 */
#include "auth/passfile.h"
#include "scram_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[300];

#define SERVER_NONCE "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define SERVER_FIRST "r=" SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define PENCIL                                                                    \
    "4096:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static struct mr_span span(const char *text)
{
    return mr_span_of(text);
}

static void test_the_example_of_the_rfc(void)
{
    static const uint8_t nonce[MR_SCRAM_NONCE_BYTES];
    struct mr_scram scram;
    struct mr_scram_keys keys;
    struct mr_scram_keys made;
    struct mr_span user;
    struct mr_span proof;
    char name[64];
    char out[MR_SCRAM_MESSAGE_MAX];

    mr_assert(mr_scram_read(span(PENCIL), &keys));
    mr_scram_make(span("pencil"), 4096, keys.salt, &made);
    mr_assert(memcmp(&made, &keys, sizeof(keys)) == 0);
    char text[MR_SCRAM_TEXT_MAX];
    mr_scram_write(&made, text);
    mr_assert(strcmp(text, PENCIL) == 0);

    const char *fault =
        mr_scram_first(&scram, span("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), name, sizeof(name), &user);
    mr_assert(fault == NULL && mr_span_is(user, "user"));
    (void)mr_scram_challenge(&scram, &keys, true, nonce, out);
    /* Our nonce is another one: put the example's in its place. */
    int len = snprintf(scram.said, sizeof(scram.said), "%s",
                       "n=user,r=rOprNGfwEbeRWgbNEkqO," SERVER_FIRST ",");
    scram.said_len = (uint16_t)len;
    scram.nonce_len = sizeof(SERVER_NONCE) - 1;
    fault = mr_scram_final(
        &scram, span("c=biws,r=" SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
        out, &proof);
    mr_assert(fault == NULL);
    mr_assert(mr_span_is(proof, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
}

/* ---- a client ---- */

struct exchange {
    struct mr_scram scram;
    char bare[128];
    char challenge[MR_SCRAM_MESSAGE_MAX];
    char final[MR_SCRAM_MESSAGE_MAX];
};

/* client-final of somebody who thinks that this is the password. */
static void final_make(struct exchange *exchange, const char *gs2, const char *password)
{
    scram_final(exchange->bare, exchange->challenge, gs2, password, exchange->final);
}

static void begin(struct exchange *exchange, const char *gs2, bool known)
{
    static const uint8_t nonce[MR_SCRAM_NONCE_BYTES] = {1, 2, 3};
    struct mr_scram_keys keys;
    struct mr_span user;
    char first[160];
    char name[64];

    mr_assert(mr_scram_read(span(PENCIL), &keys));
    (void)snprintf(exchange->bare, sizeof(exchange->bare), "n=user,r=0123456789");
    (void)snprintf(first, sizeof(first), "%s%s", gs2, exchange->bare);
    const char *fault = mr_scram_first(&exchange->scram, span(first), name, sizeof(name), &user);
    mr_assert(fault == NULL);
    struct mr_span challenge =
        mr_scram_challenge(&exchange->scram, &keys, known, nonce, exchange->challenge);
    mr_assert(challenge.len == strlen(exchange->challenge));
}

static const char *end(struct exchange *exchange)
{
    char out[MR_SCRAM_MESSAGE_MAX];
    struct mr_span proof;

    return mr_scram_final(&exchange->scram, span(exchange->final), out, &proof);
}

static void test_only_who_knows_the_password_comes_through(void)
{
    struct exchange exchange;
    static const char *const headers[][2] = {{"n,,", "biws"}, {"y,,", "eSws"}};

    for (size_t i = 0; i < 2; i++) {
        begin(&exchange, headers[i][0], true);
        final_make(&exchange, headers[i][1], "pencil");
        mr_assert(end(&exchange) == NULL);
        begin(&exchange, headers[i][0], true);
        final_make(&exchange, headers[i][1], "pencils");
        mr_assert(end(&exchange) != NULL);
        begin(&exchange, headers[i][0], true);
        final_make(&exchange, headers[1 - i][1], "pencil"); /* somebody between us changed it */
        mr_assert(end(&exchange) != NULL);
    }
    begin(&exchange, "n,,", false); /* a decoy, even if its keys were right */
    final_make(&exchange, "biws", "pencil");
    mr_assert(end(&exchange) != NULL);
}

static void test_every_changed_byte_is_noticed(void)
{
    struct exchange whole;

    begin(&whole, "n,,", true);
    final_make(&whole, "biws", "pencil");
    size_t len = strlen(whole.final);
    for (size_t i = 0; i < len; i++) {
        struct exchange spoilt = whole;
        spoilt.final[i] ^= 1;
        mr_assert(end(&spoilt) != NULL);
        spoilt = whole;
        spoilt.final[i] = 0; /* cut off */
        mr_assert(end(&spoilt) != NULL);
    }
    mr_assert(end(&whole) == NULL);
}

static void test_first_messages_that_are_none(void)
{
    static const char *const bad[] = {
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,n=,r=0123456789",
        "n,,n=user,r=short",
        "n,,n=user,x=0123456789",
        "x,,n=user,r=0123456789",
        "p=tls-unique,,n=user,r=0123456789",
        "n,a=other,n=user,r=0123456789",
        "n,,m=ext,n=user,r=0123456789",
        "n,,n=us=2er,r=0123456789",
        "n,,n=us=,r=0123456789",
        "n,,n=\xff,r=0123456789",
        "n,,n=user,r=01234 6789",
        "nn,,n=user,r=0123456789",
    };
    struct mr_scram scram;
    struct mr_span user;
    char name[64];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mr_assert(mr_scram_first(&scram, span(bad[i]), name, sizeof(name), &user) != NULL);
    }
    mr_assert(mr_scram_first(&scram, span("n,,n=a=2Cb=3Dc,r=0123456789,e=more"), name, sizeof(name),
                             &user) == NULL);
    mr_assert(mr_span_is(user, "a,b=c"));
    mr_assert(mr_scram_first(&scram, span("n,,n=toolong,r=0123456789"), name, 3, &user) != NULL);
}

/* ---- files ---- */

static void file_put(const char *text)
{
    FILE *file = fopen(path, "w");

    mr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void test_users_of_a_file_and_decoys(void)
{
    struct mr_passfile *file = NULL;
    struct mr_scram_keys keys;
    struct mr_scram_keys again;
    struct mr_error why = {.text = ""};

    file_put("# ours\n#scram-sha-256:press:" PENCIL "\n#scram-sha-256:drill:" PENCIL "\n");
    mr_assert(mr_passfile_read(&file, path, &why) == MR_OK);
    mr_assert(mr_passfile_count(file) == 0 && mr_passfile_scram_count(file) == 2);
    mr_assert(mr_passfile_scram_find(file, span("press"), &keys) && keys.iterations == 4096);
    mr_assert(!mr_passfile_scram_find(file, span("pres"), &keys));
    mr_assert(keys.iterations == 4096 && keys.salt_len == 16);
    mr_passfile_drop(file);
    mr_assert(mr_passfile_read(&file, path, &why) == MR_OK);
    mr_assert(!mr_passfile_scram_find(file, span("pres"), &again)); /* after a restart, too */
    mr_assert(memcmp(&keys, &again, sizeof(keys)) == 0);
    mr_assert(!mr_passfile_scram_find(file, span("presz"), &again));
    mr_assert(memcmp(keys.salt, again.salt, 16) != 0);
    mr_passfile_drop(file);
}

static void expect_fault(const char *text, const char *words)
{
    struct mr_passfile *file = NULL;
    struct mr_error why = {.text = ""};

    file_put(text);
    mr_assert(mr_passfile_read(&file, path, &why) == MR_ERR_CONFIG);
    if (strstr(why.text, words) == NULL) {
        fprintf(stderr, "'%s' lacks '%s'\n", why.text, words);
        abort();
    }
}

static void test_bad_lines_are_named(void)
{
    expect_fault("#scram-sha-256:press:4096:AAAA\n", "line 1, user 'press': it is not `#scram");
    expect_fault("#scram-sha-256:press\n", "it is not `#scram");
    expect_fault("\n#scram-sha-256:press:" PENCIL "x\n", "line 2");
    expect_fault("#scram-decoy-key:AAAA\n", "its key is not 32 bytes");
    expect_fault("#scram-sha-256:a:" PENCIL "\n#scram-sha-256:a:" PENCIL "\n",
                 "user 'a' has two lines of SCRAM");
}

static size_t count_of(const char *words)
{
    static char found[8192];
    FILE *file = fopen(path, "r");
    size_t count = 0;

    mr_assert(file != NULL);
    found[fread(found, 1, sizeof(found) - 1, file)] = 0;
    (void)fclose(file);
    for (const char *at = found; (at = strstr(at, words)) != NULL; at++) {
        count += 1;
    }
    return count;
}

static void set(enum mr_passfile_how how, bool scram_wanted, const char *hash)
{
    struct mr_passfile_change change = {
        .how = how, .user = "press", .hash = hash, .scram = PENCIL, .scram_wanted = scram_wanted};
    size_t changed = 0;
    struct mr_error why;
    enum mr_err err = mr_passfile_write(path, &change, &changed, &why);

    mr_assert(err == MR_OK && changed != 0);
}

static void test_a_user_has_one_password_however_many_lines(void)
{
    set(MR_PASSFILE_CREATE, true, "$7$one");
    mr_assert(count_of("#scram-decoy-key:") == 1 && count_of("#scram-sha-256:press:4096:") == 1);
    mr_assert(count_of("$7$") == 0);
    set(MR_PASSFILE_SET, false, "$7$one");
    mr_assert(count_of("press:$7$one") == 1 && count_of("#scram-sha-256:press:4096:") == 1);
    set(MR_PASSFILE_SET, true, "$7$two"); /* both lines say the new one */
    mr_assert(count_of("press:$7$two") == 1 && count_of("$7$one") == 0);
    mr_assert(count_of("#scram-sha-256:press:4096:") == 1 && count_of("#scram-decoy-key:") == 1);
    set(MR_PASSFILE_DELETE, false, NULL);
    mr_assert(count_of("press") == 0);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(path, sizeof(path), "%s/scram-%d", tmp == NULL ? "/tmp" : tmp, getpid());
    test_the_example_of_the_rfc();
    test_only_who_knows_the_password_comes_through();
    test_every_changed_byte_is_noticed();
    test_first_messages_that_are_none();
    test_users_of_a_file_and_decoys();
    test_bad_lines_are_named();
    test_a_user_has_one_password_however_many_lines();
    mr_assert(unlink(path) == 0);
    return 0;
}
