/* test_config.c
 *
 * links: config base
 *
 * Goal:   a right file fills the structs; every kind of mistake is reported with
 *         its exact place, sentence and hint; secrets are never shown.
 * Method: small files in memory against the whole text of the report.
 */
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>

enum delivery { AT_LEAST_ONCE, EXACTLY_ONCE };

struct tls {
    bool enable;
    const char *cacertfile;
    const char *password;
};

struct bridge {
    const char *servers;
    const char *topic;
    const char *message_key;
    const char *password;
    struct mr_list from;
    struct mr_pairs kafka_options;
    uint64_t max_topics;
    uint64_t buffer;
    uint64_t linger;
    uint32_t delivery;
    bool idempotent;
    struct tls ssl;
};

static const char *const deliveries[] = {"at_least_once", "exactly_once", NULL};

static const struct mr_option tls_options[] = {
    {.name = "enable", .type = MR_OPT_BOOL, .offset = offsetof(struct tls, enable)},
    {.name = "cacertfile",
     .type = MR_OPT_PATH,
     .offset = offsetof(struct tls, cacertfile),
     .default_text = "/etc/ssl/certs/ca-certificates.crt",
     .required = true,
     .help = "Who may have signed the broker's certificate."},
    {.name = "password", .type = MR_OPT_SECRET, .offset = offsetof(struct tls, password)},
    {.name = NULL},
};

#define FIELD(field) .name = #field, .offset = offsetof(struct bridge, field)

static const struct mr_option common_options[] = {
    {FIELD(from), .type = MR_OPT_LIST, .default_text = "#", .help = "Which topics."},
    {FIELD(delivery), .type = MR_OPT_CHOICE, .choices = deliveries, .default_text = "at_least_once",
     .help = "What may happen to an event when something fails."},
    {.name = NULL},
};

static const struct mr_option kafka_options[] = {
    {FIELD(servers), .type = MR_OPT_STR, .required = true, .help = "Brokers to ask first."},
    {FIELD(topic), .type = MR_OPT_STR, .default_text = "events", .help = "A | template."},
    {FIELD(message_key), .type = MR_OPT_STR, .default_text = "${clientid}"},
    {FIELD(password), .type = MR_OPT_SECRET},
    {FIELD(kafka_options), .type = MR_OPT_PAIRS},
    {FIELD(max_topics), .type = MR_OPT_U64, .default_text = "100", .min = 1, .max = 10000},
    {FIELD(buffer), .type = MR_OPT_SIZE, .default_text = "1MiB", .min = 4096, .max = 1 << 30},
    {FIELD(linger), .type = MR_OPT_DURATION, .default_text = "5ms", .max = 60000000},
    {FIELD(idempotent), .type = MR_OPT_BOOL, .default_text = "true"},
    {FIELD(ssl), .type = MR_OPT_SECTION, .table = tls_options},
    {.name = NULL},
};

/* ---- reading a file and its report ---- */

static char report[16384];
static size_t report_len;

static void report_write(void *arg, const char *text, size_t len)
{
    (void)arg;
    mr_assert(report_len + len < sizeof(report));
    memcpy(report + report_len, text, len);
    report_len += len;
    report[report_len] = '\0';
}

static void report_make(struct mr_config *config, bool color)
{
    report_len = 0;
    report[0] = '\0';
    mr_config_report(config, color, report_write, NULL);
}

static void bridge_fill(struct mr_config *config, struct bridge *bridge)
{
    static const char *const top[] = {"bridges", "gateway", NULL};
    struct mr_node *root = mr_config_root(config);
    struct mr_node *bridges = mr_node_child(root, "bridges");
    const struct mr_fill fills[] = {{common_options, bridge}, {kafka_options, bridge}};

    mr_config_known(config, root, "", top);
    mr_config_fill(config, mr_node_child(bridges, "kafka"), "bridges.kafka", fills, 2);
}

static struct mr_config *opened(const char *text, struct bridge *bridge)
{
    struct mr_config *config = mr_config_open_text("m.yaml", text);

    memset(bridge, 0xa5, sizeof(*bridge)); /* whatever is not filled is seen */
    bridge_fill(config, bridge);
    report_make(config, false);
    return config;
}

#define expect_report(wanted) expect_report_at(wanted, __LINE__)

static void expect_report_at(const char *wanted, int line)
{
    if (strcmp(report, wanted) != 0) {
        (void)fprintf(stderr, "line %d: wanted:\n%s---- got:\n%s----\n", line, wanted, report);
        mr_assert(false);
    }
}

#define expect(text, wanted) expect_at(text, wanted, __LINE__)

static void expect_at(const char *text, const char *wanted, int line)
{
    struct bridge bridge;
    struct mr_config *config = opened(text, &bridge);

    expect_report_at(wanted, line);
    mr_assert((mr_config_problem_count(config) == 0) == (wanted[0] == '\0'));
    mr_config_close(config);
}

/* A value of one line under bridges.kafka, beside what is required. */
#define KAFKA "bridges:\n  kafka:\n    servers: \"k:9092\"\n"

/* ---- what is right ---- */

static void test_fills_everything(void)
{
    struct bridge bridge;
    struct mr_config *config = opened("# the block\n" KAFKA "    topic: sensor_data\n"
                                      "    message_key: \"${clientid}\"\n"
                                      "    from: [\"a/#\", 'b/+']\n"
                                      "    delivery: exactly_once\n"
                                      "    max_topics: 007\n"
                                      "    buffer: 64KiB\n"
                                      "    linger: 0\n"
                                      "    idempotent: No\n"
                                      "    password: 0123\n"
                                      "    kafka_options:\n"
                                      "      linger.ms: 5\n"
                                      "      socket: { keepalive.enable: yes }\n"
                                      "    ssl: { enable: on, cacertfile: certs/ca.crt }\n",
                                      &bridge);

    expect_report("");
    mr_assert(strcmp(bridge.servers, "k:9092") == 0);
    mr_assert(strcmp(bridge.topic, "sensor_data") == 0);
    mr_assert(strcmp(bridge.message_key, "${clientid}") == 0);
    mr_assert(strcmp(bridge.password, "0123") == 0);
    mr_assert(bridge.from.count == 2 && strcmp(bridge.from.items[1], "b/+") == 0);
    mr_assert(bridge.delivery == EXACTLY_ONCE);
    mr_assert(bridge.max_topics == 7);
    mr_assert(bridge.buffer == 65536);
    mr_assert(bridge.linger == 0);
    mr_assert(!bridge.idempotent);
    mr_assert(bridge.ssl.enable);
    mr_assert(strcmp(bridge.ssl.cacertfile, "certs/ca.crt") == 0);
    mr_assert(bridge.kafka_options.count == 2);
    mr_assert(strcmp(bridge.kafka_options.items[0].name, "linger.ms") == 0);
    mr_assert(strcmp(bridge.kafka_options.items[1].name, "socket.keepalive.enable") == 0);
    mr_assert(strcmp(bridge.kafka_options.items[1].value, "yes") == 0);
    mr_config_close(config);
}

static void test_defaults(void)
{
    struct bridge bridge;
    struct mr_config *config = opened(KAFKA, &bridge);

    expect_report("");
    mr_assert(bridge.from.count == 1 && strcmp(bridge.from.items[0], "#") == 0);
    mr_assert(bridge.delivery == AT_LEAST_ONCE);
    mr_assert(bridge.buffer == 1048576 && bridge.linger == 5000 && bridge.max_topics == 100);
    mr_assert(bridge.idempotent && bridge.password == NULL && bridge.kafka_options.count == 0);
    mr_assert(!bridge.ssl.enable && bridge.ssl.password == NULL);
    mr_assert(strcmp(bridge.ssl.cacertfile, "/etc/ssl/certs/ca-certificates.crt") == 0);
    mr_config_close(config);
}

static void test_byte_order_mark_and_crlf(void)
{
    expect("\xef\xbb\xbf" KAFKA, "");
    expect("bridges:\r\n  kafka:\r\n    servers: a\r\n    tpoic: b\r\n",
           "m.yaml:4:5: unknown key 'tpoic' in bridges.kafka\n"
           "    4 |     tpoic: b\n"
           "      |     ^^^^^\n"
           "  did you mean 'topic'?\n");
}

static void test_aliases_are_copies(void)
{
    struct bridge bridge;
    struct mr_config *config =
        mr_config_open_text("m.yaml", "gateway: &g { servers: a, topic: t }\n"
                                      "bridges: { kafka: *g }\n");
    const struct mr_fill fill = {kafka_options, &bridge};

    mr_config_set(config, "bridges.kafka.topic", "changed");
    mr_config_fill(config, mr_node_child(mr_config_root(config), "gateway"), "gateway", &fill, 1);
    mr_assert(strcmp(bridge.topic, "t") == 0);
    bridge_fill(config, &bridge);
    mr_assert(strcmp(bridge.topic, "changed") == 0);
    mr_assert(mr_config_problem_count(config) == 0);
    mr_config_close(config);
}

/* ---- keys ---- */

static void test_unknown_keys(void)
{
    expect(KAFKA "    mesage_key: \"${clientid}\"\n",
           "m.yaml:4:5: unknown key 'mesage_key' in bridges.kafka\n"
           "    4 |     mesage_key: \"${clientid}\"\n"
           "      |     ^^^^^^^^^^\n"
           "  did you mean 'message_key'?\n");
    /* of the other table */
    expect(KAFKA "    form: a\n", "m.yaml:4:5: unknown key 'form' in bridges.kafka\n"
                                  "    4 |     form: a\n"
                                  "      |     ^^^^\n"
                                  "  did you mean 'from'?\n");
    /* in a section */
    expect(KAFKA "    ssl: { enabled: true, cacertfile: a }\n",
           "m.yaml:4:12: unknown key 'enabled' in bridges.kafka.ssl\n"
           "    4 |     ssl: { enabled: true, cacertfile: a }\n"
           "      |            ^^^^^^^\n"
           "  did you mean 'enable'?\n");
    /* at the top, without anything like it */
    expect(KAFKA "elsewhere: 1\n", "m.yaml:4:1: unknown key 'elsewhere'\n"
                                   "    4 | elsewhere: 1\n"
                                   "      | ^^^^^^^^^\n"
                                   "  known keys: bridges, gateway\n");
}

static void test_duplicate_key(void)
{
    expect(KAFKA "    topic: a\n    topic: b\n", "m.yaml:5:5: duplicate key 'topic'\n"
                                                 "    5 |     topic: b\n"
                                                 "      |     ^^^^^\n"
                                                 "  it is already set in line 4; keep one of the "
                                                 "two\n");
}

static void test_missing_required(void)
{
    expect("bridges:\n  kafka:\n    topic: a\n    ssl: { enable: true }\n",
           "m.yaml:2:3: missing key 'servers' in bridges.kafka\n"
           "    2 |   kafka:\n"
           "      |   ^^^^^\n"
           "  servers: Brokers to ask first.\n"
           "m.yaml:4:5: missing key 'cacertfile' in bridges.kafka.ssl\n"
           "    4 |     ssl: { enable: true }\n"
           "      |     ^^^\n"
           "  cacertfile: Who may have signed the broker's certificate.\n");
}

/* ---- values ---- */

static void test_numbers(void)
{
    expect(KAFKA "    max_topics: many\n",
           "m.yaml:4:17: bridges.kafka.max_topics: 'many' is not a number\n"
           "    4 |     max_topics: many\n"
           "      |                 ^^^^\n"
           "  write digits only; 1 to 10000\n");
    expect(KAFKA "    max_topics: 20000\n",
           "m.yaml:4:17: bridges.kafka.max_topics: '20000' is out of range\n"
           "    4 |     max_topics: 20000\n"
           "      |                 ^^^^^\n"
           "  allowed: 1 to 10000\n");
    expect(KAFKA "    max_topics: 0\n",
           "m.yaml:4:17: bridges.kafka.max_topics: '0' is out of range\n"
           "    4 |     max_topics: 0\n"
           "      |                 ^\n"
           "  allowed: 1 to 10000\n");
    expect(KAFKA "    buffer: \"1 MeB\"\n",
           "m.yaml:4:13: bridges.kafka.buffer: '1 MeB' is not a size\n"
           "    4 |     buffer: \"1 MeB\"\n"
           "      |             ^^^^^^^\n"
           "  write a number with a unit, such as 512KiB, 64MiB or 100GiB; 4KiB to 1GiB\n");
    expect(KAFKA "    buffer: 1\n", "m.yaml:4:13: bridges.kafka.buffer: '1' is out of range\n"
                                    "    4 |     buffer: 1\n"
                                    "      |             ^\n"
                                    "  allowed: 4KiB to 1GiB\n");
    expect(KAFKA "    linger: 5\n",
           "m.yaml:4:13: bridges.kafka.linger: '5' is not a duration\n"
           "    4 |     linger: 5\n"
           "      |             ^\n"
           "  write a number with a unit, such as 10ms, 5s, 3m, 24h or 7d; 0 to 1m\n");
    expect(KAFKA "    linger: 61s\n", "m.yaml:4:13: bridges.kafka.linger: '61s' is out of range\n"
                                      "    4 |     linger: 61s\n"
                                      "      |             ^^^\n"
                                      "  allowed: 0 to 1m\n");
}

static void test_words(void)
{
    expect(KAFKA "    idempotent: jes\n",
           "m.yaml:4:17: bridges.kafka.idempotent: 'jes' is neither true nor false\n"
           "    4 |     idempotent: jes\n"
           "      |                 ^^^\n"
           "  write true or false (yes, no, on and off are understood too)\n");
    expect(KAFKA "    delivery: exactly_onc\n",
           "m.yaml:4:15: bridges.kafka.delivery: 'exactly_onc' is not one of the choices\n"
           "    4 |     delivery: exactly_onc\n"
           "      |               ^^^^^^^^^^^\n"
           "  did you mean 'exactly_once'? choose one of: at_least_once, exactly_once\n");
    expect(KAFKA "    delivery: hopefully\n",
           "m.yaml:4:15: bridges.kafka.delivery: 'hopefully' is not one of the choices\n"
           "    4 |     delivery: hopefully\n"
           "      |               ^^^^^^^^^\n"
           "  choose one of: at_least_once, exactly_once\n");
}

static void test_wrong_kinds(void)
{
    expect(KAFKA "    topic: { a: b }\n",
           "m.yaml:4:5: bridges.kafka.topic: a text is expected, not a group of keys\n"
           "    4 |     topic: { a: b }\n"
           "      |     ^^^^^\n");
    expect(KAFKA "    topic: [a, b]\n",
           "m.yaml:4:5: bridges.kafka.topic: a text is expected, not a list\n"
           "    4 |     topic: [a, b]\n"
           "      |     ^^^^^\n");
    expect(KAFKA "    from: { a: b }\n",
           "m.yaml:4:5: bridges.kafka.from: a list of texts is expected, not a group of keys\n"
           "    4 |     from: { a: b }\n"
           "      |     ^^^^\n"
           "  write [\"a\", \"b\"], or '- a' in lines of their own\n");
    expect(KAFKA "    from:\n      - [a]\n",
           "m.yaml:5:9: bridges.kafka.from: a text is expected, not a list\n"
           "    5 |       - [a]\n"
           "      |         ^\n");
    expect(KAFKA "    ssl: on\n",
           "m.yaml:4:5: bridges.kafka.ssl: a group of keys is expected, not a text\n"
           "    4 |     ssl: on\n"
           "      |     ^^^\n"
           "  write them indented below it, or {} if all shall have their defaults\n");
    expect(KAFKA "    kafka_options: [linger.ms]\n",
           "m.yaml:4:5: bridges.kafka.kafka_options: a group of keys is expected, not a list\n"
           "    4 |     kafka_options: [linger.ms]\n"
           "      |     ^^^^^^^^^^^^^\n"
           "  write 'name: value' below it\n");
    expect("bridges:\n  kafka:\n", "m.yaml:2:3: bridges.kafka has no keys\n"
                                   "    2 |   kafka:\n"
                                   "      |   ^^^^^\n"
                                   "  write them indented below it, or {} if all shall have their "
                                   "defaults\n");
}

static void test_empty_values(void)
{
    expect(KAFKA "    topic:\n    linger: 1s\n",
           "m.yaml:4:5: bridges.kafka.topic has no value\n"
           "    4 |     topic:\n"
           "      |     ^^^^^\n"
           "  give it one, write \"\" for the empty text, or remove the line\n");
    expect(KAFKA "    from: #\n", "m.yaml:4:5: bridges.kafka.from has no value\n"
                                  "    4 |     from: #\n"
                                  "      |     ^^^^\n"
                                  "  what follows a '#' is a comment: put the value in quotes\n");
    expect(KAFKA "    topic: null\n",
           "m.yaml:4:5: bridges.kafka.topic has no value\n"
           "    4 |     topic: null\n"
           "      |     ^^^^^\n"
           "  a bare null or ~ means no value: put it in quotes if the word is meant\n");
    expect(KAFKA "    topic: \"\"\n    message_key: 'null'\n", "");
}

static void test_all_problems_in_order(void)
{
    expect("bridges:\n"
           "  kafka:\n"
           "    linger: soon\n"
           "    tpoic: a\n"
           "    max_topics: x\n"
           "bridge: 1\n",
           "m.yaml:2:3: missing key 'servers' in bridges.kafka\n"
           "    2 |   kafka:\n"
           "      |   ^^^^^\n"
           "  servers: Brokers to ask first.\n"
           "m.yaml:3:13: bridges.kafka.linger: 'soon' is not a duration\n"
           "    3 |     linger: soon\n"
           "      |             ^^^^\n"
           "  write a number with a unit, such as 10ms, 5s, 3m, 24h or 7d; 0 to 1m\n"
           "m.yaml:4:5: unknown key 'tpoic' in bridges.kafka\n"
           "    4 |     tpoic: a\n"
           "      |     ^^^^^\n"
           "  did you mean 'topic'?\n"
           "m.yaml:5:17: bridges.kafka.max_topics: 'x' is not a number\n"
           "    5 |     max_topics: x\n"
           "      |                 ^\n"
           "  write digits only; 1 to 10000\n"
           "m.yaml:6:1: unknown key 'bridge'\n"
           "    6 | bridge: 1\n"
           "      | ^^^^^^\n"
           "  did you mean 'bridges'?\n");
}

/* ---- environment ---- */

static void test_environment(void)
{
    struct bridge bridge;
    struct mr_config *config;

    mr_assert(setenv("MR_TEST_SET", "v: [x]\ny: 1", 1) == 0);
    mr_assert(setenv("MR_TEST_EMPTY", "", 1) == 0);
    mr_assert(setenv("MR_TEST_N", "12", 1) == 0);
    mr_assert(unsetenv("MR_TEST_UNSET") == 0);
    config = opened(KAFKA "    topic: \"a-${env:MR_TEST_SET}-${topic[1]}\"\n"
                          "    message_key: $${env:MR_TEST_SET}-$${x}\n"
                          "    max_topics: ${env:MR_TEST_N}\n"
                          "    from: ['${env:MR_TEST_UNSET:-d}${env:MR_TEST_EMPTY:-e}"
                          "${env:MR_TEST_EMPTY}']\n",
                    &bridge);
    expect_report("");
    mr_assert(strcmp(bridge.topic, "a-v: [x]\ny: 1-${topic[1]}") == 0);
    mr_assert(strcmp(bridge.message_key, "${env:MR_TEST_SET}-$${x}") == 0);
    mr_assert(bridge.max_topics == 12);
    mr_assert(strcmp(bridge.from.items[0], "de") == 0);
    mr_config_close(config);

    expect(KAFKA "    topic: \"ä${env:MR_TEST_N}-${env:MR_TEST_UNSET}\"\n",
           "m.yaml:4:31: environment variable MR_TEST_UNSET is not set\n"
           "    4 |     topic: \"ä${env:MR_TEST_N}-${env:MR_TEST_UNSET}\"\n"
           "      |                               ^^^^^^^^^^^^^^^^^^^^\n"
           "  set it, or give a default: ${env:MR_TEST_UNSET:-default}\n");
    /* one problem, not a second one about the number it did not become */
    expect(KAFKA "    max_topics: ${env:MR_TEST_UNSET}\n",
           "m.yaml:4:17: environment variable MR_TEST_UNSET is not set\n"
           "    4 |     max_topics: ${env:MR_TEST_UNSET}\n"
           "      |                 ^^^^^^^^^^^^^^^^^^^^\n"
           "  set it, or give a default: ${env:MR_TEST_UNSET:-default}\n");
    /* in the second line of a block */
    expect(KAFKA "    topic: |\n      a\n      b${env:MR_TEST_UNSET}\n",
           "m.yaml:6:8: environment variable MR_TEST_UNSET is not set\n"
           "    6 |       b${env:MR_TEST_UNSET}\n"
           "      |        ^^^^^^^^^^^^^^^^^^^^\n"
           "  set it, or give a default: ${env:MR_TEST_UNSET:-default}\n");
    expect(KAFKA "    topic: ${env:A-B}\n",
           "m.yaml:4:12: 'A-B' is not the name of an environment variable\n"
           "    4 |     topic: ${env:A-B}\n"
           "      |            ^^^^^^^^^^\n"
           "  write ${env:NAME} or ${env:NAME:-default}; names are letters, digits and '_'\n");
    expect(KAFKA "    topic: x${env:A\n", "m.yaml:4:13: '${env:' is not closed\n"
                                          "    4 |     topic: x${env:A\n"
                                          "      |             ^^^^^^^\n"
                                          "  a '}' is missing\n");
}

/* ---- secrets ---- */

static void test_secrets_are_not_shown(void)
{
    expect(KAFKA "    password: [hunter2]\n",
           "m.yaml:4:5: bridges.kafka.password: a text is expected, not a list\n"
           "    4 |     password: ***\n"
           "      |     ^^^^^^^^\n");
    expect(KAFKA "    pasword: hunter2\n", "m.yaml:4:5: unknown key 'pasword' in bridges.kafka\n"
                                           "    4 |     pasword: ***\n"
                                           "      |     ^^^^^^^\n"
                                           "  did you mean 'password'?\n");
    expect(KAFKA "    psswrd: hunter2\n", "m.yaml:4:5: unknown key 'psswrd' in bridges.kafka\n"
                                          "    4 |     psswrd: ***\n"
                                          "      |     ^^^^^^\n"
                                          "  did you mean 'password'?\n");
    expect(KAFKA "    ssl: { password: hunter2, enable: perhaps, cacertfile: a }\n",
           "m.yaml:4:39: bridges.kafka.ssl.enable: 'perhaps' is neither true nor false\n"
           "    4 |     ssl: { password: ***\n"
           "  write true or false (yes, no, on and off are understood too)\n");
}

/* ---- what libyaml refuses ---- */

static void test_syntax(void)
{
    expect("bridges:\n\tkafka: a\n", "m.yaml:2:1: a tab is used to indent\n"
                                     "    2 |  kafka: a\n"
                                     "      | ^\n"
                                     "  YAML takes blanks only; replace it by blanks\n");
    expect("bridges:\n  kafka:\n    servers: a\n   topic: b\n",
           "m.yaml:4:4: this line does not fit the lines above it\n"
           "    4 |    topic: b\n"
           "      |    ^\n"
           "  keys that belong together begin in the same column\n");
    expect("bridges:\n  kafka:\n    servers: a\n      topic: b\n",
           "m.yaml:4:12: a ':' is not expected here\n"
           "    4 |       topic: b\n"
           "      |            ^\n"
           "  either this line or the one above is indented wrongly,\n"
           "  or the text before it contains ': ' and needs quotes\n");
    expect("bridges:\n  kafka:\n    servers \"a\"\n    topic: b\n",
           "m.yaml:4:10: a ':' is not expected here\n"
           "    4 |     topic: b\n"
           "      |          ^\n"
           "  either this line or the one above is indented wrongly,\n"
           "  or the text before it contains ': ' and needs quotes\n");
    expect("bridges:\n  kafka: { servers: a\n",
           "m.yaml:2:10: this '{' is never closed, or a ',' is missing between its keys\n"
           "    2 |   kafka: { servers: a\n"
           "      |          ^\n");
    expect("bridges:\n  kafka: { from: [a, b }\n",
           "m.yaml:2:18: this '[' is never closed, or a ',' is missing between its items\n"
           "    2 |   kafka: { from: [a, b }\n"
           "      |                  ^\n");
    expect("bridges: \"abc\n", "m.yaml:1:10: this quote is never closed\n"
                               "    1 | bridges: \"abc\n"
                               "      |          ^\n");
    expect("bridges: \"C:\\Users\"\n", "m.yaml:1:15: unknown escape after '\\' in double quotes\n"
                                       "    1 | bridges: \"C:\\Users\"\n"
                                       "      |               ^\n"
                                       "  write '\\\\' for a backslash, or use single quotes\n");
    expect("bridges: @home\n", "m.yaml:1:10: a value cannot begin with this character\n"
                               "    1 | bridges: @home\n"
                               "      |          ^\n"
                               "  put the value in quotes\n");
    expect("bridges: *\n", "m.yaml:1:10: a value that begins with '*' needs quotes\n"
                           "    1 | bridges: *\n"
                           "      |          ^\n");
    expect("bridges: *none\n", "m.yaml:1:10: nothing above is called '&none'\n"
                               "    1 | bridges: *none\n"
                               "      |          ^^^^^\n"
                               "  '*' begins an alias in YAML; put the value in quotes if it is "
                               "meant as text\n");
    expect("just words\n", "m.yaml:1:1: the file must begin with a key\n"
                           "    1 | just words\n"
                           "      | ^^^^^^^^^^\n"
                           "  such as 'bridges:' at the beginning of a line, and what belongs to "
                           "it indented below\n");
    expect(KAFKA "---\na: b\n", "m.yaml:4:1: a second document begins here\n"
                                "    4 | ---\n"
                                "      | ^^^\n"
                                "  a file holds one document: remove the line '---'\n");
    expect("gateway: a\x01"
           "b\n",
           "m.yaml:1:11: the character U+0001 is not allowed\n"
           "    1 | gateway: a b\n"
           "      |           ^\n"
           "  it cannot be seen in most editors; remove it\n");
    expect("gateway: ab\nbridges: \xe4\n",
           "m.yaml:2:10: byte 0xe4 is not UTF-8 text\n"
           "    2 | bridges: \xe4\n"
           "      |          ^\n"
           "  save the file as UTF-8 (it may be Latin-1, UTF-16 or not a text file)\n");
}

/* ---- --set, colour, documentation ---- */

static void test_set(void)
{
    struct bridge bridge;
    struct mr_config *config = mr_config_open_text("m.yaml", KAFKA "    topic: a\n");

    mr_config_set(config, "bridges.kafka.topic", "b=c");
    mr_config_set(config, "bridges.kafka.ssl.cacertfile", "ca.crt");
    mr_config_set(config, "bridges.kafka.kafka_options.linger.ms", "5");
    bridge_fill(config, &bridge);
    report_make(config, false);
    expect_report("");
    mr_assert(strcmp(bridge.topic, "b=c") == 0);
    mr_assert(strcmp(bridge.ssl.cacertfile, "ca.crt") == 0);
    mr_assert(strcmp(bridge.kafka_options.items[0].name, "linger.ms") == 0);
    mr_config_close(config);

    config = mr_config_open_text("m.yaml", KAFKA);
    mr_config_set(config, "bridges.kafka.tpoic", "b");
    mr_config_set(config, "bridges.kafka.linger", "5");
    mr_config_set(config, "bridges..topic", "5");
    bridge_fill(config, &bridge);
    report_make(config, false);
    expect_report("--set: unknown key 'tpoic' in bridges.kafka\n"
                  "    1 | bridges.kafka.tpoic=b\n"
                  "      |               ^^^^^\n"
                  "  did you mean 'topic'?\n"
                  "--set: bridges.kafka.linger: '5' is not a duration\n"
                  "    1 | bridges.kafka.linger=5\n"
                  "      |                      ^\n"
                  "  write a number with a unit, such as 10ms, 5s, 3m, 24h or 7d; 0 to 1m\n"
                  "--set: a name is missing in the path\n"
                  "    1 | bridges..topic=5\n"
                  "      |         ^\n"
                  "  write it as section.key=value\n");
    mr_config_close(config);

    config = mr_config_open_text("m.yaml", ""); /* into an empty file */
    mr_config_set(config, "bridges.kafka.servers", "s");
    bridge_fill(config, &bridge);
    mr_assert(mr_config_problem_count(config) == 0 && strcmp(bridge.servers, "s") == 0);
    mr_config_close(config);
}

static void test_color_only_when_asked(void)
{
    struct bridge bridge;
    struct mr_config *config = opened(KAFKA "    linger: 5\n", &bridge);

    mr_assert(strchr(report, '\033') == NULL);
    report_make(config, true);
    mr_assert(strstr(report, "\033[1mm.yaml:4:13:\033[0m ") != NULL);
    mr_assert(strstr(report, "\033[1;31m^\033[0m\n") != NULL);
    mr_config_close(config);
}

static void test_own_problems(void)
{
    struct bridge bridge;
    struct mr_config *config = opened(KAFKA "    topic: a\n", &bridge);
    struct mr_node *kafka =
        mr_node_child(mr_node_child(mr_config_root(config), "bridges"), "kafka");

    mr_config_problem(config, mr_node_child(kafka, "topic"), NULL, "topic %s\nread the manual",
                      "x");
    mr_config_problem(config, kafka, "servers", "no such host");
    mr_config_problem(config, kafka, NULL, "bad bridge");
    mr_config_problem(config, NULL, NULL, "the whole file");
    report_make(config, false);
    expect_report("m.yaml: the whole file\n"
                  "m.yaml:2:3: bad bridge\n"
                  "    2 |   kafka:\n"
                  "      |   ^^^^^\n"
                  "m.yaml:3:5: no such host\n"
                  "    3 |     servers: \"k:9092\"\n"
                  "      |     ^^^^^^^\n"
                  "m.yaml:4:12: topic x\n"
                  "    4 |     topic: a\n"
                  "      |            ^\n"
                  "  read the manual\n");
    mr_config_close(config);
}

static void test_document(void)
{
    report_len = 0;
    mr_config_document("kafka", kafka_options, report_write, NULL);
    expect_report("### kafka\n"
                  "\n"
                  "| key | value | default | meaning |\n"
                  "|---|---|---|---|\n"
                  "| `servers` | text | required | Brokers to ask first. |\n"
                  "| `topic` | text | `events` | A \\| template. |\n"
                  "| `message_key` | text | `${clientid}` |  |\n"
                  "| `password` | secret |  |  |\n"
                  "| `kafka_options` | keys and texts |  |  |\n"
                  "| `max_topics` | number, 1 to 10000 | `100` |  |\n"
                  "| `buffer` | size, 4KiB to 1GiB | `1MiB` |  |\n"
                  "| `linger` | duration, 0 to 1m | `5ms` |  |\n"
                  "| `idempotent` | true, false | `true` |  |\n"
                  "| `ssl.enable` | true, false |  |  |\n"
                  "| `ssl.cacertfile` | path | required | Who may have signed the broker's "
                  "certificate. |\n"
                  "| `ssl.password` | secret |  |  |\n"
                  "\n");
}

static void test_nearest(void)
{
    static const char *const names[] = {"journal", "tap", "version", "message_key", NULL};

    mr_assert(strcmp(mr_config_nearest("jornal", names), "journal") == 0);
    mr_assert(strcmp(mr_config_nearest("tpa", names), "tap") == 0);
    mr_assert(strcmp(mr_config_nearest("messageKey", names), "message_key") == 0);
    mr_assert(strcmp(mr_config_nearest("ver", names), "version") == 0);
    mr_assert(mr_config_nearest("x", names) == NULL);
    mr_assert(mr_config_nearest("", names) == NULL);
    mr_assert(mr_config_nearest("kubernetes", names) == NULL);
}

/* ---- one of the choices, or pairs ---- */

static const char *const head_choices[] = {"none", "id", NULL};
static const struct mr_option head_options[] = {
    {.name = "headers",
     .type = MR_OPT_CHOICE_OR_PAIRS,
     .default_text = "none",
     .choices = head_choices},
    {.name = NULL},
};

static struct mr_config *heads_of(const char *text, struct mr_choice_or_pairs *out)
{
    struct mr_config *config = mr_config_open_text("m.yaml", text);
    const struct mr_fill fill = {head_options, out};

    memset(out, 0xa5, sizeof(*out));
    mr_config_fill(config, mr_config_root(config), "", &fill, 1);
    report_make(config, false);
    return config;
}

static void test_choice_or_pairs(void)
{
    static const char *const wholes[] = {
        "headers: { unit: \"${payload.u}\", site.no: 7 }\n",
        "headers:\n  unit: \"${payload.u}\"\n  site: { no: 7 }\n",
        "headers:\n  - unit: \"${payload.u}\"\n  - site.no: 7\n",
    };
    static const struct {
        const char *text;
        const char *part; /* of the report */
    } wrong[] = {
        {"headers: ids\n", "'ids' is not one of the choices"},
        {"headers: []\n", "headers: at least one 'name: value' is expected"},
        {"headers: {}\n", "headers: at least one 'name: value' is expected"},
        {"headers: [id]\n", "headers: a list of 'name: value' is expected, not a text"},
        {"headers: { a: [b] }\n", "headers.a: a text is expected, not a list"},
    };
    struct mr_choice_or_pairs heads;

    mr_config_close(heads_of("{}\n", &heads));
    mr_assert(report_len == 0 && heads.choice == 0 && heads.pairs.count == 0);
    mr_config_close(heads_of("headers: id\n", &heads));
    mr_assert(report_len == 0 && heads.choice == 1 && heads.pairs.count == 0);
    for (size_t i = 0; i < MR_COUNT_OF(wholes); i++) {
        struct mr_config *config = heads_of(wholes[i], &heads);
        mr_assert(report_len == 0 && heads.choice == 2 && heads.pairs.count == 2);
        mr_assert(strcmp(heads.pairs.items[0].name, "unit") == 0);
        mr_assert(strcmp(heads.pairs.items[0].value, "${payload.u}") == 0);
        mr_assert(strcmp(heads.pairs.items[1].name, "site.no") == 0);
        mr_assert(strcmp(heads.pairs.items[1].value, "7") == 0);
        mr_config_close(config);
    }
    struct mr_config *twice = heads_of("headers: [{a: x}, {a: y}]\n", &heads);
    mr_assert(report_len == 0 && heads.pairs.count == 2);
    mr_config_close(twice);
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        mr_config_close(heads_of(wrong[i].text, &heads));
        if (strstr(report, wrong[i].part) == NULL) {
            printf("%s", report);
        }
        mr_assert(strstr(report, wrong[i].part) != NULL);
        mr_assert(heads.choice == 0 || heads.pairs.count == 0);
    }
    report_len = 0;
    mr_config_document("heads", head_options, report_write, NULL);
    mr_assert(strstr(report, "| `headers` | `none`, `id`, or keys and texts | `none` |") != NULL);
}

int main(void)
{
    test_fills_everything();
    test_defaults();
    test_byte_order_mark_and_crlf();
    test_aliases_are_copies();
    test_unknown_keys();
    test_duplicate_key();
    test_missing_required();
    test_numbers();
    test_words();
    test_wrong_kinds();
    test_empty_values();
    test_all_problems_in_order();
    test_environment();
    test_secrets_are_not_shown();
    test_syntax();
    test_set();
    test_color_only_when_asked();
    test_own_problems();
    test_document();
    test_nearest();
    test_choice_or_pairs();
    return 0;
}
