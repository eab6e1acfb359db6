/* test_config_files.c
 *
 * links: config os base
 *
 * Goal:   files on disk: conf.d in name order, paths relative to the file they
 *         stand in, secrets from files and credentials, what cannot be read;
 *         and no file, however broken, crashes the loader.
 * Method: a folder of its own under $TMPDIR; then random mutations of a valid
 *         file, of which only "it returns" is asked (under ASan).  The seed is
 *         printed: ./test_config_files <seed>
 */
#include "base/rng.h"
#include "config/config.h"
#include "os/file.h"

#include <stdio.h>
#include <stdlib.h>

struct conf {
    const char *data;
    const char *password;
    const char *name;
    struct mr_list from;
    uint64_t size;
};

#define FIELD(field) .name = #field, .offset = offsetof(struct conf, field)

static const struct mr_option options[] = {
    {FIELD(data), .type = MR_OPT_PATH, .default_text = "./millrace-data"},
    {FIELD(password), .type = MR_OPT_SECRET},
    {FIELD(name), .type = MR_OPT_STR},
    {FIELD(from), .type = MR_OPT_LIST},
    {FIELD(size), .type = MR_OPT_SIZE, .default_text = "1k"},
    {.name = NULL},
};

static char folder[256];
static char made[16][400];
static size_t made_count;

static const char *path_of(const char *name)
{
    static char path[400];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void file_write(const char *name, const char *text)
{
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");

    mr_assert(file != NULL);
    mr_assert(fwrite(text, 1, strlen(text), file) == strlen(text));
    mr_assert(fclose(file) == 0);
    mr_assert(made_count < MR_COUNT_OF(made));
    (void)snprintf(made[made_count], sizeof(made[0]), "%s", path);
    made_count += 1;
}

static void folder_make(void)
{
    const char *parent = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/mr-config-XXXXXX", parent == NULL ? "/tmp" : parent);
    mr_assert(mkdtemp(folder) != NULL);
}

static void folder_clear(void)
{
    for (; made_count > 0; made_count--) {
        (void)remove(made[made_count - 1]);
    }
    (void)remove(path_of("conf.d"));
    mr_assert(remove(folder) == 0);
}

static char report[8192];
static size_t report_len;

static void report_write(void *arg, const char *text, size_t len)
{
    (void)arg;
    mr_assert(report_len + len < sizeof(report));
    memcpy(report + report_len, text, len);
    report_len += len;
    report[report_len] = '\0';
}

/* Open millrace.yaml of the folder and fill `conf` from its `g`. */
static struct mr_config *opened(struct conf *conf)
{
    struct mr_config *config = mr_config_open(path_of("millrace.yaml"));
    const struct mr_fill fill = {options, conf};

    mr_config_fill(config, mr_node_child(mr_config_root(config), "g"), "g", &fill, 1);
    report_len = 0;
    report[0] = '\0';
    mr_config_report(config, false, report_write, NULL);
    return config;
}

/* The report without the folder's name, whose letters are random. */
static void expect_report(const char *wanted)
{
    char shown[sizeof(report)];
    size_t len = 0;
    size_t folder_len = strlen(folder);

    for (const char *at = report; *at != '\0';) {
        if (strncmp(at, folder, folder_len) == 0) {
            shown[len++] = '@';
            at += folder_len;
        } else {
            shown[len++] = *at++;
        }
    }
    shown[len] = '\0';
    if (strcmp(shown, wanted) != 0) {
        (void)fprintf(stderr, "wanted:\n%s---- got:\n%s----\n", wanted, shown);
        mr_assert(false);
    }
}

static void test_conf_d_in_name_order(void)
{
    struct conf conf;

    folder_make();
    mr_assert(mr_dir_create(path_of("conf.d"), NULL) == MR_OK);
    file_write("millrace.yaml", "g:\n  name: main\n  data: here\n  from: [a, b]\n");
    file_write("conf.d/20-last.yaml", "g: { name: last, from: [c] }\n");
    file_write("conf.d/10-first.yaml", "g: { name: first, size: 2k, data: there }\n");
    file_write("conf.d/.hidden.yaml", "g: { name: hidden }\n");
    file_write("conf.d/notes.txt", "not: [yaml\n");

    struct mr_config *config = opened(&conf);
    expect_report("");
    mr_assert(strcmp(conf.name, "last") == 0);
    mr_assert(conf.size == 2000);
    mr_assert(conf.from.count == 1); /* a list is replaced, not joined */
    mr_assert(strcmp(conf.data, path_of("conf.d/there")) == 0);
    mr_config_close(config);

    file_write("conf.d/30-wrong.yaml", "g: { nmae: x }\nh\n");
    file_write("millrace.yaml", "g: { szie: 1k }\n");
    config = opened(&conf);
    expect_report("@/millrace.yaml:1:6: unknown key 'szie' in g\n"
                  "    1 | g: { szie: 1k }\n"
                  "      |      ^^^^\n"
                  "  did you mean 'size'?\n"
                  "@/conf.d/30-wrong.yaml:1:6: unknown key 'nmae' in g\n"
                  "    1 | g: { nmae: x }\n"
                  "      |      ^^^^\n"
                  "  did you mean 'name'?\n"
                  "@/conf.d/30-wrong.yaml:2:1: this line is neither 'key: value' nor a list item\n"
                  "    2 | h\n"
                  "      | ^\n"
                  "  a ':' with a blank behind it is missing, or the line is indented wrongly\n");
    mr_config_close(config);
    folder_clear();
}

static void test_paths(void)
{
    struct conf conf;

    folder_make();
    file_write("millrace.yaml", "g: { data: sub/data }\n");
    struct mr_config *config = opened(&conf);
    mr_assert(strcmp(conf.data, path_of("sub/data")) == 0);
    mr_config_close(config);

    file_write("millrace.yaml", "g: { data: /abs/data }\n");
    config = opened(&conf);
    mr_assert(strcmp(conf.data, "/abs/data") == 0);
    mr_config_close(config);

    file_write("millrace.yaml", "g: { }\n"); /* a default is not the file's */
    config = opened(&conf);
    mr_assert(strcmp(conf.data, "./millrace-data") == 0);
    mr_config_close(config);

    config = mr_config_open(path_of("millrace.yaml"));
    mr_config_set(config, "g.data", "typed");
    const struct mr_fill fill = {options, &conf};
    mr_config_fill(config, mr_node_child(mr_config_root(config), "g"), "g", &fill, 1);
    mr_assert(strcmp(conf.data, "typed") == 0); /* neither is what was typed */
    mr_config_close(config);
    folder_clear();
}

static void test_secrets(void)
{
    struct conf conf;

    folder_make();
    file_write("secret", "p4ss\nword\n");
    file_write("crlf", "p4ss\r\n");
    file_write("empty", "\n");
    mr_assert(unsetenv("CREDENTIALS_DIRECTORY") == 0);

    file_write("millrace.yaml", "g: { password: { file: secret } }\n");
    struct mr_config *config = opened(&conf);
    expect_report("");
    mr_assert(strcmp(conf.password, "p4ss\nword") == 0);
    mr_config_close(config);

    file_write("millrace.yaml", "g: { password: { credential: crlf } }\n");
    config = opened(&conf);
    expect_report("@/millrace.yaml:1:30: g.password: $CREDENTIALS_DIRECTORY is not set\n"
                  "    1 | g: { password: { credential: crlf } }\n"
                  "      |                              ^^^^\n"
                  "  systemd sets it when the unit has LoadCredential=crlf:/path\n");
    mr_assert(conf.password == NULL);
    mr_config_close(config);

    mr_assert(setenv("CREDENTIALS_DIRECTORY", folder, 1) == 0);
    config = opened(&conf);
    expect_report("");
    mr_assert(strcmp(conf.password, "p4ss") == 0);
    mr_config_close(config);

    file_write("millrace.yaml", "g:\n  password: { credential: ../crlf }\n");
    config = opened(&conf);
    expect_report("@/millrace.yaml:2:27: g.password: a credential's name is a file name\n"
                  "    2 |   password: { credential: ../crlf }\n"
                  "      |                           ^^^^^^^\n");
    mr_config_close(config);

    file_write("millrace.yaml", "g:\n  password:\n    file: empty\n");
    config = opened(&conf);
    expect_report("@/millrace.yaml:3:11: g.password: cannot use @/empty: it is empty\n"
                  "    3 |     file: empty\n"
                  "      |           ^^^^^\n");
    mr_config_close(config);

    file_write("millrace.yaml", "g:\n  password:\n    fiel: empty\n");
    config = opened(&conf);
    expect_report("@/millrace.yaml:3:5: unknown key 'fiel' in g.password\n"
                  "    3 |     fiel: empty\n"
                  "      |     ^^^^\n"
                  "  did you mean 'file'?\n");
    mr_config_close(config);

    file_write("millrace.yaml", "g:\n  password:\n    file: nowhere\n");
    config = opened(&conf);
    expect_report(
        "@/millrace.yaml:3:11: g.password: cannot use @/nowhere: No such file or directory\n"
        "    3 |     file: nowhere\n"
        "      |           ^^^^^^^\n");
    mr_config_close(config);
    folder_clear();
}

static void test_unreadable(void)
{
    struct conf conf;

    folder_make();
    struct mr_config *config = opened(&conf);
    expect_report("@/millrace.yaml: cannot be read: No such file or directory\n");
    mr_assert(strcmp(conf.data, "./millrace-data") == 0); /* defaults all the same */
    mr_assert(mr_config_root(config) == NULL);
    mr_config_close(config);

    config = mr_config_open(folder); /* a folder is no file */
    mr_assert(mr_config_problem_count(config) == 1);
    mr_config_close(config);
    folder_clear();
}

/* ---- mutations ---- */

static const char valid[] = "# all there is\n"
                            "g: &a\n"
                            "  name: \"x ${env:HOME:-y} $${env:Z} ${topic[1]}\"\n"
                            "  data: 'it''s'\n"
                            "  password: { file: /dev/null }\n"
                            "  size: 64MiB\n"
                            "  from: [\"a/#\", b, \"\\u00e4\\n\"]\n"
                            "h:\n"
                            "  - *a\n"
                            "  - |\n"
                            "    block ${env:HOME}\n"
                            "    text\n"
                            "  - >-\n"
                            "    folded\n"
                            "i: { <<: *a, k: ~ }\n";

static void mutate(struct mr_rng *rng, char *text, size_t *len, size_t capacity)
{
    static const char pieces[][12] = {
        "\t",   "*a",       "&b ", "${env:",       "}",  "{", "[", "]", ":",  ": ",
        "- ",   "\n",       "\r",  "\xe2\x80\xa8", "\"", "'", "#", "|", "<<", "---\n",
        "\xff", "\xc3\xa4", "%",   "\x01"};
    size_t changes = 1 + mr_rng_below(rng, 6);

    for (size_t i = 0; i < changes && *len > 0; i++) {
        size_t at = mr_rng_below(rng, *len);
        switch (mr_rng_below(rng, 4)) {
        case 0: /* another byte */
            text[at] = (char)(1 + mr_rng_below(rng, 255));
            break;
        case 1: { /* a piece more */
            const char *piece = pieces[mr_rng_below(rng, MR_COUNT_OF(pieces))];
            size_t piece_len = strlen(piece);
            if (*len + piece_len < capacity) {
                memmove(text + at + piece_len, text + at, *len - at);
                memcpy(text + at, piece, piece_len);
                *len += piece_len;
            }
            break;
        }
        case 2: { /* a part less */
            size_t gone = 1 + mr_rng_below(rng, 8);
            gone = gone > *len - at ? *len - at : gone;
            memmove(text + at, text + at + gone, *len - at - gone);
            *len -= gone;
            break;
        }
        default: /* the end is missing */
            if (mr_rng_below(rng, 8) == 0) {
                *len = at;
            }
            break;
        }
    }
    text[*len] = '\0';
}

static void fill_everything(struct mr_config *config, struct mr_node *node, unsigned depth)
{
    struct conf conf;
    const struct mr_fill fill = {options, &conf};

    if (node == NULL || depth == 0) {
        return;
    }
    (void)mr_node_text(config, node);
    mr_config_fill(config, node, "x", &fill, 1);
    for (size_t i = 0; i < mr_node_count(node); i++) {
        const char *name = NULL;
        fill_everything(config, mr_node_at(node, i, &name), depth - 1);
    }
}

static void write_nothing(void *arg, const char *text, size_t len)
{
    size_t *sum = arg;

    for (size_t i = 0; i < len; i++) { /* touch every byte: ASan looks on */
        *sum += (unsigned char)text[i];
    }
}

static void test_mutations_never_crash(uint64_t seed)
{
    enum { ROUNDS = 4000 };
    struct mr_rng rng;
    size_t sum = 0;
    size_t wrong = 0;

    mr_rng_seed(&rng, seed);
    for (unsigned round = 0; round < ROUNDS; round++) {
        char text[1024];
        size_t len = sizeof(valid) - 1;
        memcpy(text, valid, sizeof(valid));
        mutate(&rng, text, &len, sizeof(text) - 1);

        struct mr_config *config = mr_config_open_text("fuzz.yaml", text);
        fill_everything(config, mr_config_root(config), 4);
        mr_config_set(config, "g.name.deeper", "x");
        mr_config_report(config, round % 2 == 0, write_nothing, &sum);
        wrong += mr_config_problem_count(config) > 0 ? 1 : 0;
        mr_config_close(config);
    }
    printf("mutations: %u, of which %zu with problems (%zu)\n", (unsigned)ROUNDS, wrong, sum);
    mr_assert(wrong > ROUNDS / 2);
}

static void test_aliases_are_bounded(void)
{
    /* Each level is ten of the level before: 10^9 nodes if nobody stopped it. */
    static char text[2048];
    struct mr_text out = mr_text_over(text, sizeof(text));

    mr_text_add(&out, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (unsigned i = 1; i < 9; i++) {
        mr_text_fmt(&out, "a%u: &a%u [", i, i);
        for (unsigned k = 0; k < 10; k++) {
            mr_text_fmt(&out, "%s*a%u", k == 0 ? "" : ", ", i - 1);
        }
        mr_text_add(&out, "]\n");
    }
    struct mr_config *config = mr_config_open_text("bomb.yaml", text);
    report_len = 0;
    mr_config_report(config, false, report_write, NULL);
    mr_assert(strstr(report, "the aliases multiply into too many values") != NULL);
    mr_config_close(config);
}

static void test_depth_is_bounded(void)
{
    char text[1024];

    memset(text, '[', sizeof(text) - 1);
    memcpy(text, "a: ", 3);
    text[sizeof(text) - 1] = '\0';
    struct mr_config *config = mr_config_open_text("deep.yaml", text);
    report_len = 0;
    mr_config_report(config, false, report_write, NULL);
    mr_assert(strstr(report, "deep.yaml:1:68: values are nested too deeply") != NULL);
    mr_config_close(config);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_conf_d_in_name_order();
    test_paths();
    test_secrets();
    test_unreadable();
    test_aliases_are_bounded();
    test_depth_is_bounded();
    test_mutations_never_crash(seed);
    return 0;
}
