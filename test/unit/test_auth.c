/* test_auth.c
 * links: auth os base
 *
 * Goal:   passwords are checked as Mosquitto's program hashed them, files are read and
 *         changed as it does, and the service answers right, remembers and slows guessers.
 * Method: vectors made by mosquitto_passwd 2.0.11 (and libargon2); real files; real threads,
 *         waited for by the wake they ring.
 */
#include "auth/auth.h"
#include "auth/guess.h"
#include "auth/passfile.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];
static char path[300];

#define ALICE                                                                         \
    "alice:$7$101$A5IUpL2icY+jTWqL$0KsgFcLij+eJTYLrNPTOdKuaFZ7D7rwWfcBaY5jp+nFHkp1Xr" \
    "1kPyl203WtZBN69VYNVYPc7bCCKZfC9MSJdHg=="
#define BOB                                                                           \
    "bob:$6$hdMzRZMkjlwtYQzW$I+uQ5mchdU3qnWGWeoosbIIfnOtbYSr3EFviqQtahN5OkshoiqnYizG" \
    "7chvHMxWUl8KfdGQZpxhS5nekIf4QZw=="
#define CAROL                                                                          \
    "carol:$7$2000$fggcFXnmnrHnJRQV$MKv0iih/WTbnxb3wdcmd8JcUFcss7mLB1SMRf367X+ztcmfip" \
    "PM0ZKaJ2H8nvudIVqzqrbRgKu/o66jVZgpP6A=="
#define ARGON2                                                                           \
    "$argon2id$v=19$m=1024,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$KBZxBMwySDNJULSb80e+YXoQWZhGO" \
    "keWFkGvTsrLwzo"

static void file_put(const char *text)
{
    FILE *file = fopen(path, "w");

    mr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void file_is(const char *text)
{
    static char found[8192];
    FILE *file = fopen(path, "r");

    mr_assert(file != NULL);
    size_t len = fread(found, 1, sizeof(found) - 1, file);
    found[len] = 0;
    (void)fclose(file);
    if (strcmp(found, text) != 0) {
        fprintf(stderr, "expected:\n%s\nfound:\n%s\n", text, found);
        abort();
    }
}

/* ---- hashes ---- */

static bool line_matches(const char *line, const char *password)
{
    struct mr_passhash hash;
    const char *fault = NULL;
    struct mr_span secret = mr_span_of(line);

    (void)mr_span_split(&secret, ':');
    enum mr_err err = mr_passhash_parse(secret, &hash, &fault);
    mr_assert(err == MR_OK);
    return mr_passhash_verify(&hash, mr_span_of(password));
}

static void test_hashes_of_mosquitto_passwd(void)
{
    mr_assert(line_matches(ALICE, "secret1") && !line_matches(ALICE, "secret2"));
    mr_assert(!line_matches(ALICE, "") && !line_matches(ALICE, "secret1 "));
    mr_assert(line_matches(BOB, "pa:ss w\xc3\xb6rd") && !line_matches(BOB, "pa:ss word"));
    mr_assert(line_matches(CAROL, "") && !line_matches(CAROL, "x"));
}

static void test_argon2id_is_checked_or_named(void)
{
    struct mr_passhash hash;
    const char *fault = NULL;

    if (mr_passhash_parse(mr_span_of(ARGON2), &hash, &fault) == MR_OK) {
        mr_assert(mr_passhash_verify(&hash, mr_span_of("secret1")));
        mr_assert(!mr_passhash_verify(&hash, mr_span_of("secret2")));
    } else {
        mr_assert(strstr(fault, "needs OpenSSL 3.2") != NULL);
    }
}

static void test_what_we_make_is_what_we_read(void)
{
    static const uint8_t salt[MR_PASSHASH_SALT_BYTES] = {0, 1, 2, 254, 255};
    char text[MR_PASSHASH_TEXT_MAX];
    struct mr_passhash hash;
    const char *fault = NULL;

    mr_passhash_make(mr_span_of("p\xc3\xa4ss"), 1234, salt, text);
    mr_assert(strncmp(text, "$7$1234$", 8) == 0);
    enum mr_err err = mr_passhash_parse(mr_span_of(text), &hash, &fault);
    mr_assert(err == MR_OK && hash.iterations == 1234 && hash.salt_len == sizeof(salt));
    mr_assert(mr_passhash_verify(&hash, mr_span_of("p\xc3\xa4ss")));
    mr_assert(!mr_passhash_verify(&hash, mr_span_of("p\xc3\xa4ss2")));
}

static void test_hashes_that_are_none(void)
{
    static const char *const bad[] = {"",
                                      "secret",
                                      "$",
                                      "$7$",
                                      "$7$101",
                                      "$7$101$QUJD",
                                      "$7$101$QUJD$QUJD",
                                      "$7$0$A5IUpL2icY+jTWqL$QUJD",
                                      "$7$x$QUJD$QUJD",
                                      "$7$99999999999$QUJD$QUJD",
                                      "$6$QUJD$!!!!",
                                      "$6$$",
                                      "$5$QUJD$QUJD",
                                      "$argon2id$v=19$m=1$QUJD$QUJD",
                                      "$argon2id$v=18$m=1024,t=1,p=1$QUJD$QUJD",
                                      "$argon2i$v=19$m=1024,t=1,p=1$QUJD$QUJD",
                                      "$6$QUJD$QUJDRA=="};

    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        struct mr_passhash hash;
        const char *fault = NULL;
        enum mr_err err = mr_passhash_parse(mr_span_of(bad[i]), &hash, &fault);
        mr_assert(err == MR_ERR_REJECT && fault != NULL && fault[0] != 0);
    }
}

/* ---- files ---- */

static void test_a_file_is_read(void)
{
    struct mr_passfile *file = NULL;
    struct mr_error why = {.text = ""};
    bool known = false;

    file_put("# users\n" ALICE "\r\n\n" BOB "\n" CAROL); /* the last line without its end */
    mr_assert(mr_passfile_read(&file, path, &why) == MR_OK && mr_passfile_count(file) == 3);
    (void)mr_passfile_find(file, mr_span_of("bob"), &known);
    mr_assert(known);
    (void)mr_passfile_find(file, mr_span_of("bo"), &known);
    mr_assert(!known);
    const struct mr_passhash *decoy = mr_passfile_find(file, mr_span_of("zoe"), &known);
    mr_assert(!known && decoy->iterations == 2000); /* as slow as the slowest */
    mr_passfile_drop(file);

    file_put("");
    mr_assert(mr_passfile_read(&file, path, &why) == MR_OK && mr_passfile_count(file) == 0);
    decoy = mr_passfile_find(file, mr_span_of("zoe"), &known);
    mr_assert(!known && decoy->iterations == MR_PASSHASH_ITERATIONS);
    mr_passfile_drop(file);
}

static void test_a_bad_line_is_named(void)
{
    static const struct {
        const char *text;
        const char *said;
    } cases[] = {
        {ALICE "\nbob:plain\n", "line 2, user 'bob': its password is plain text"},
        {ALICE "\nbob\n", "line 2, user 'bob': it is not `user:hash`"},
        {ALICE "\n:x\n", "line 2"},
        {ALICE "\n\n" BOB "\n" ALICE "\n", "line 4: user 'alice' stands in line 1 already"},
        {"x:$9$a$b\n", "no known kind"},
    };

    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        struct mr_passfile *file = NULL;
        struct mr_error why = {.text = ""};
        file_put(cases[i].text);
        mr_assert(mr_passfile_read(&file, path, &why) == MR_ERR_CONFIG && file == NULL);
        if (strstr(why.text, cases[i].said) == NULL || strstr(why.text, path) == NULL) {
            fprintf(stderr, "expected '%s' in: %s\n", cases[i].said, why.text);
            abort();
        }
    }
}

static enum mr_err change(enum mr_passfile_how how, const char *user, const char *hash,
                          size_t *changed)
{
    struct mr_error why = {.text = ""};

    return mr_passfile_write(
        path, &(struct mr_passfile_change){.how = how, .user = user, .hash = hash, .iterations = 7},
        changed, &why);
}

static void file_count(void *arg, const char *name)
{
    (void)name;
    *(int *)arg += 1;
}

static void test_a_file_is_changed(void)
{
    struct stat info;
    size_t changed = 0;
    int files = 0;

    (void)unlink(path);
    mr_assert(change(MR_PASSFILE_SET, "alice", "$x", &changed) == MR_ERR_REJECT);
    mr_assert(change(MR_PASSFILE_CREATE, "alice", "$x", &changed) == MR_OK && changed == 1);
    file_is("alice:$x\n");
    mr_assert(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    mr_assert(chmod(path, 0646) == 0);
    mr_assert(change(MR_PASSFILE_SET, "bob", "$y", &changed) == MR_OK && changed == 1);
    mr_assert(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640); /* the group stays */
    file_is("alice:$x\nbob:$y\n");
    file_put("# mine\n\nalice:$x\nbob:$y\nalice:$old\nno end:$z");
    mr_assert(change(MR_PASSFILE_SET, "alice", "$new", &changed) == MR_OK && changed == 1);
    file_is("# mine\n\nalice:$new\nbob:$y\nno end:$z\n");
    mr_assert(change(MR_PASSFILE_DELETE, "bob", NULL, &changed) == MR_OK && changed == 1);
    file_is("# mine\n\nalice:$new\nno end:$z\n");
    mr_assert(change(MR_PASSFILE_DELETE, "bob", NULL, &changed) == MR_ERR_REJECT);
    file_put("# mine\nalice:pl:ain\nbob:$6$x\ncarol\n");
    mr_assert(change(MR_PASSFILE_UPGRADE, NULL, NULL, &changed) == MR_OK && changed == 1);
    char line[MR_PASSHASH_TEXT_MAX + 64];
    FILE *file = fopen(path, "r");
    mr_assert(file != NULL && fgets(line, sizeof(line), file) != NULL);
    mr_assert(fgets(line, sizeof(line), file) != NULL && fclose(file) == 0);
    line[strcspn(line, "\n")] = 0;
    mr_assert(strncmp(line, "alice:$7$7$", 11) == 0 && line_matches(line, "pl:ain"));
    mr_assert(mr_dir_list(folder, file_count, &files) == MR_OK && files == 1); /* nothing beside */
}

static void test_user_names(void)
{
    mr_assert(mr_passfile_user_fault("press-7") == NULL);
    mr_assert(mr_passfile_user_fault("pre\xc3\x9f 7 $x") == NULL);
    mr_assert(mr_passfile_user_fault("") != NULL && mr_passfile_user_fault("a:b") != NULL);
    mr_assert(mr_passfile_user_fault("#a") != NULL && mr_passfile_user_fault("a\nb") != NULL);
    mr_assert(mr_passfile_user_fault("\xff") != NULL);
}

/* ---- guessing ---- */

static void test_guessers_wait_longer_and_longer(void)
{
    static struct guesses guesses;
    int64_t now = 1000;
    uint32_t before = 0;

    for (int i = 0; i < GUESS_FREE; i++) {
        guess_failed(&guesses, 7, now);
    }
    mr_assert(guess_delay_ms(&guesses, 7, now) == 0);
    for (int i = 0; i < 5; i++) {
        guess_failed(&guesses, 7, now);
        uint32_t delay = guess_delay_ms(&guesses, 7, now);
        mr_assert(delay == (before == 0 ? GUESS_DELAY_MS : before * 2));
        before = delay;
    }
    mr_assert(before == GUESS_DELAY_MS_MAX && guess_delay_ms(&guesses, 8, now) == 0);
    for (int i = 0; i < 1000; i++) {
        guess_failed(&guesses, 7, now);
    }
    mr_assert(guess_delay_ms(&guesses, 7, now) == GUESS_DELAY_MS_MAX);
    for (int i = 0; i < GUESS_OPEN_MAX; i++) {
        mr_assert(guess_open(&guesses, 7, now));
    }
    mr_assert(!guess_open(&guesses, 7, now));
    guess_close(&guesses, 7);
    mr_assert(guess_open(&guesses, 7, now));
    for (int i = 0; i < GUESS_LEVEL_MAX - GUESS_FREE; i++) {
        guess_succeeded(&guesses, 7, now);
    }
    mr_assert(guess_delay_ms(&guesses, 7, now) == 0);
    for (int i = 0; i < 100; i++) {
        guess_failed(&guesses, 7, now);
    }
    now += (int64_t)GUESS_LEVEL_MAX * GUESS_FORGET_MS * 1000000;
    mr_assert(guess_delay_ms(&guesses, 7, now) == 0); /* time forgives */
    for (uint64_t other = 1000; other < 100000; other++) {
        guess_failed(&guesses, other, now);
    }
    mr_assert(guess_delay_ms(&guesses, 7, now) == 0); /* a full table is no harm */
}

/* ---- the service ---- */

struct asker {
    struct mr_auth *auth;
    struct mr_auth_port port;
    struct mr_wake wake;
};

static const struct mr_auth_realm realm_of_file = {
    .password_file = path, .order = {MR_AUTHN_PASSWORD_FILE}, .order_count = 1};

/* The same again, from the file as it is now. */
static enum mr_err asker_reload(struct asker *asker, struct mr_error *why)
{
    struct mr_auth_plan *plan = NULL;
    enum mr_err err = mr_auth_plan(asker->auth, &realm_of_file, 1, &plan, why);

    if (err == MR_OK) {
        mr_assert(mr_auth_plan_number(plan, 0) == 0);
        mr_auth_commit(plan);
        mr_auth_settle(asker->auth);
    }
    return err;
}

static void asker_open(struct asker *asker, const char *text)
{
    struct mr_error why = {.text = ""};

    *asker = (struct asker){0};
    file_put(text);
    if (mr_auth_open(&asker->auth, &realm_of_file, 1, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mr_assert(mr_wake_open(&asker->wake, &why) == MR_OK);
    mr_auth_port_open(&asker->port, &asker->wake);
}

static void asker_close(struct asker *asker)
{
    mr_auth_close(asker->auth);
    mr_auth_port_close(&asker->port);
    mr_wake_close(&asker->wake);
}

static void request_make(struct asker *asker, struct mr_auth_request *request, const char *user,
                         const char *password, const char *peer)
{
    *request = (struct mr_auth_request){.port = &asker->port,
                                        .user = mr_span_of(user),
                                        .password = mr_span_of(password),
                                        .has_user = true,
                                        .has_password = true,
                                        .peer = peer,
                                        .listener = "mqtt",
                                        .address = mr_auth_address(asker->auth, peer)};
}

static struct mr_auth_request *answer_wait(struct asker *asker)
{
    int64_t deadline = mr_clock_mono_ns() + 20 * (int64_t)1000000000;

    while (!mr_auth_has_some(&asker->port)) {
        (void)mr_wake_wait(&asker->wake, 1000000000);
        mr_assert(mr_clock_mono_ns() < deadline);
    }
    return mr_auth_take(&asker->port);
}

/* Ask and be answered; *remembered: without a worker. */
static enum mr_auth_answer ask(struct asker *asker, const char *user, const char *password,
                               const char *peer, bool *remembered)
{
    struct mr_auth_request request;

    request_make(asker, &request, user, password, peer);
    enum mr_auth_answer answer = mr_auth_look(asker->auth, &request);
    *remembered = answer == MR_AUTH_YES;
    if (answer != MR_AUTH_LATER) {
        return answer;
    }
    mr_assert(mr_auth_submit(asker->auth, &request) == MR_OK);
    mr_assert(answer_wait(asker) == &request);
    return request.answer;
}

static void test_answers_and_what_is_remembered(void)
{
    struct asker asker;
    struct mr_error why = {.text = ""};
    bool remembered = false;

    asker_open(&asker, ALICE "\n" BOB "\n");
    mr_assert(mr_auth_user_count(asker.auth) == 2);
    mr_assert(ask(&asker, "alice", "secret1", "10.0.0.1:1", &remembered) == MR_AUTH_YES);
    mr_assert(!remembered);
    mr_assert(ask(&asker, "alice", "secret1", "10.0.0.2:1", &remembered) == MR_AUTH_YES);
    mr_assert(remembered);
    mr_assert(ask(&asker, "alice", "secret2", "10.0.0.1:1", &remembered) == MR_AUTH_NO);
    mr_assert(ask(&asker, "alice", "secret2", "10.0.0.1:1", &remembered) == MR_AUTH_NO);
    mr_assert(!remembered);
    mr_assert(ask(&asker, "alic", "esecret1", "10.0.0.1:1", &remembered) == MR_AUTH_NO);
    mr_assert(ask(&asker, "bob", "secret1", "10.0.0.1:1", &remembered) == MR_AUTH_NO);
    mr_assert(ask(&asker, "nobody", "secret1", "10.0.0.1:1", &remembered) == MR_AUTH_NO);
    mr_assert(ask(&asker, "nobody", "secret1", "10.0.0.1:1", &remembered) == MR_AUTH_NO);

    file_put(ALICE "\nbroken\n"); /* a bad file keeps the old one */
    mr_assert(asker_reload(&asker, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "line 2") != NULL);
    mr_assert(ask(&asker, "alice", "secret1", "10.0.0.1:1", &remembered) == MR_AUTH_YES);
    mr_assert(remembered);
    file_put(BOB "\n");
    mr_assert(asker_reload(&asker, &why) == MR_OK && mr_auth_user_count(asker.auth) == 1);
    mr_assert(ask(&asker, "alice", "secret1", "10.0.0.1:1", &remembered) == MR_AUTH_NO);
    asker_close(&asker);
}

static void test_many_at_once(void)
{
    enum { ALL = 2000 };
    static struct mr_auth_request requests[ALL];
    struct asker asker;
    int yes = 0;
    int no = 0;
    int cancelled = 0;

    asker_open(&asker, ALICE "\n");
    for (int i = 0; i < ALL; i++) {
        char peer[32];
        (void)snprintf(peer, sizeof(peer), "10.0.%d.%d:1", i / 250, i % 250);
        request_make(&asker, &requests[i], "alice", i % 2 == 0 ? "secret1" : "wrong", peer);
        enum mr_auth_answer answer = mr_auth_look(asker.auth, &requests[i]);
        yes += answer == MR_AUTH_YES;
        if (answer == MR_AUTH_LATER) {
            mr_assert(mr_auth_submit(asker.auth, &requests[i]) == MR_OK);
            atomic_store(&requests[i].cancel, i % 10 == 9);
        }
    }
    while (yes + no + cancelled < ALL) {
        struct mr_auth_request *request = answer_wait(&asker);
        bool good = (request - requests) % 2 == 0;
        cancelled += atomic_load(&request->cancel);
        if (!atomic_load(&request->cancel)) {
            mr_assert(request->answer == (good ? MR_AUTH_YES : MR_AUTH_NO));
            yes += good;
            no += !good;
        }
    }
    mr_assert(yes == ALL / 2 && cancelled == ALL / 10);
    asker_close(&asker);
}

static void test_a_guesser_is_slowed_and_its_neighbour_is_not(void)
{
    enum { TRIES = 200 };
    static struct mr_auth_request requests[TRIES];
    struct asker asker;
    int refused = 0;
    int sent_back = 0;
    int busy = 0;
    bool remembered = false;

    asker_open(&asker, ALICE "\n");
    mr_assert(ask(&asker, "alice", "secret1", "[2001:db8:1:2::5]:1", &remembered) == MR_AUTH_YES);
    for (int i = 0; i < TRIES; i++) { /* all before the first failure counts */
        request_make(&asker, &requests[i], "alice", "guess", "[2001:db8:1:2:3::4]:9");
        mr_assert(mr_auth_look(asker.auth, &requests[i]) == MR_AUTH_LATER);
    }
    for (int i = 0; i < TRIES; i++) {
        mr_assert(mr_auth_submit(asker.auth, &requests[i]) == MR_OK);
    }
    for (int i = 0; i < TRIES; i++) {
        struct mr_auth_request *request = answer_wait(&asker);
        refused += request->answer == MR_AUTH_NO;
        sent_back += request->answer == MR_AUTH_LATER;
    }
    mr_assert(refused + sent_back == TRIES && refused <= GUESS_FREE + 1 + 4 && sent_back > 0);
    for (int i = 0; i < TRIES; i++) {
        busy += mr_auth_look(asker.auth, &requests[i]) == MR_AUTH_BUSY;
        mr_assert(requests[i].delay_ms >= GUESS_DELAY_MS);
    }
    mr_assert(busy == TRIES - GUESS_OPEN_MAX);
    for (int i = 0; i < TRIES; i++) {
        mr_auth_drop(asker.auth, &requests[i]);
    }
    /* Known ones of the same network go on, and others were never concerned. */
    mr_assert(ask(&asker, "alice", "secret1", "[2001:db8:1:2::5]:1", &remembered) == MR_AUTH_YES);
    mr_assert(remembered);
    request_make(&asker, &requests[0], "alice", "x", "[2001:db8:1:3::5]:1");
    mr_assert(mr_auth_look(asker.auth, &requests[0]) == MR_AUTH_LATER);
    mr_assert(requests[0].delay_ms == 0);
    mr_assert(mr_auth_address(asker.auth, "10.0.0.1:5") ==
              mr_auth_address(asker.auth, "10.0.0.1:6"));
    mr_assert(mr_auth_address(asker.auth, "10.0.0.1:5") !=
              mr_auth_address(asker.auth, "10.0.0.2:5"));
    asker_close(&asker);
}

static void test_stopping_gives_everything_back(void)
{
    enum { ALL = 100 };
    static struct mr_auth_request requests[ALL];
    struct asker asker;
    int back = 0;

    asker_open(&asker, CAROL "\n");
    for (int i = 0; i < ALL; i++) {
        request_make(&asker, &requests[i], "carol", "x", "10.0.0.1:1");
        mr_assert(mr_auth_submit(asker.auth, &requests[i]) == MR_OK);
    }
    mr_auth_stop(asker.auth);
    while (mr_auth_take(&asker.port) != NULL) {
        back += 1;
    }
    mr_assert(back == ALL);
    asker_close(&asker);
}

int main(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/mr-auth-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof(path), "%s/users", folder);
    test_hashes_of_mosquitto_passwd();
    test_argon2id_is_checked_or_named();
    test_what_we_make_is_what_we_read();
    test_hashes_that_are_none();
    test_a_file_is_read();
    test_a_bad_line_is_named();
    test_a_file_is_changed();
    test_user_names();
    test_guessers_wait_longer_and_longer();
    test_answers_and_what_is_remembered();
    test_many_at_once();
    test_a_guesser_is_slowed_and_its_neighbour_is_not();
    test_stopping_gives_everything_back();
    mr_assert(unlink(path) == 0 && rmdir(folder) == 0);
    return 0;
}
