/* test_explain.c
 * links: pipeline journal codec config os base
 *
 * Goal:   of one event it is told exactly what the bridge would do: skipped, kept
 *         aside and why, or sent as which record; and every rule for destinations,
 *         keys, times, headers and values is kept.
 * Method: a sink that has nothing but a shape; tables by hand.  That the running
 *         bridge does the same is shown by test_pipeline and against a real Kafka.
 *         Random payloads, the seed is printed: ./test_explain <seed>
 */
#include "pipeline/explain.h"

#include "base/hash.h"
#include "base/rng.h"
#include "codec/json.h"
#include "codec/mqtt_props.h"
#include "codec/timestamp.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RECEIVED_MS_SHIFT = 1000 };
#define RECEIVED_US ((int64_t)1763920561123456)
#define ID "00000000-0000-0000-0000-000000000000-0-42"

/* ---- a sink with a shape and nothing else ---- */

static const char *refused(struct mr_span name)
{
    return name.len > 40 ? "is longer than 40 bytes" : NULL;
}

static void shape_of(const void *conf, struct mr_shape *out)
{
    *out = *(const struct mr_shape *)conf;
    out->dest_option = "topic";
    out->key_option = "message_key";
    out->header_option = "headers";
    out->dest_refused = refused;
    out->dests_max = out->dests_max == 0 ? 3 : out->dests_max;
}

static const struct mr_sink_ops shape_sink = {.name = "shape", .shape = shape_of};

static struct mr_explain *explain_make(const struct mr_bridge_conf *conf,
                                       const struct mr_shape *shape)
{
    struct mr_explain *explain = NULL;
    struct mr_error why;
    enum mr_err err =
        mr_explain_open(&explain,
                        &(struct mr_explain_options){
                            .name = "test", .conf = conf, .sink = &shape_sink, .sink_conf = shape},
                        &why);

    if (err != MR_OK) {
        printf("%s\n", why.text);
    }
    mr_assert(err == MR_OK);
    return explain;
}

static struct mr_explain_event event_of(const char *topic, const char *payload)
{
    return (struct mr_explain_event){.client = mr_span_of("press-4"),
                                     .topic = mr_span_of(topic),
                                     .payload = mr_span_of(payload),
                                     .received_us = RECEIVED_US,
                                     .seq = 42,
                                     .qos = 1};
}

static const struct mr_bridge_conf plain_conf = {.start = "oldest"};

/* ---- destination and key ---- */

static const struct {
    const char *dest;
    const char *key;
    const char *payload;
    const char *dest_expected;
    const char *key_expected;
    const char *reason; /* instead of both */
} routes[] = {
    {"all", "${clientid}", "x", "all", "press-4", NULL},
    {"all", NULL, "x", "all", "", NULL},
    {"s_${topic[1]}", "${payload.id}", "{\"id\":7}", "s_temp", "7", NULL},
    {"s_${payload.kind}", "${clientid}", "{\"kind\":\"a b/c\"}", "s_a_b_c", "press-4", NULL},
    {"s_${payload.kind:-any}", "k${qos}", "{}", "s_any", "k1", NULL},
    {"s_${payload.kind}", "${clientid}", "{}", NULL, NULL, "the payload has no field 'kind'"},
    {"s_${payload.kind}", NULL, "{\"kind\":\"0123456789012345678901234567890123456789\"}", NULL,
     NULL, "topic 's_0123456789012345678901234567890123456789': is longer than 40 bytes"},
    {"all", "${payload.id}", "{\"id\":null}", NULL, NULL, "the payload's field 'id' is null"},
    {"all", "${payload.id}", "21.5 C", NULL, NULL,
     "the payload is not JSON, so it has no field 'id'"},
    {"all", "${payload.id:-}", "21.5 C", "all", "", NULL},
    {"all", "${username}", "x", NULL, NULL, "the device has no user name"},
    {"s_${topic[5]}", NULL, "x", NULL, NULL, "the topic has no level 5 (it has 3, from 0)"},
    {"all", "${props.site}", "x", NULL, NULL, "the event has no user property 'site'"},
};

static void test_destinations_and_keys(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(routes); i++) {
        struct mr_shape shape = {.dest_template = routes[i].dest, .key_template = routes[i].key};
        struct mr_explain *explain = explain_make(&plain_conf, &shape);
        struct mr_explain_event event = event_of("plant/temp/7", routes[i].payload);
        struct mr_explained got;

        for (int again = 0; again < 2; again++) {
            mr_explain(explain, &event, &got);
            bool as_expected =
                routes[i].reason != NULL
                    ? got.fate == MR_EXPLAINED_DEAD && strcmp(got.reason, routes[i].reason) == 0
                    : got.fate == MR_EXPLAINED_SEND && got.reason == NULL &&
                          strcmp(got.dest, routes[i].dest_expected) == 0 &&
                          mr_span_is(got.key, routes[i].key_expected);
            if (!as_expected) {
                printf("%s, %s, %s: %s\n", routes[i].dest, routes[i].key, routes[i].payload,
                       got.reason != NULL ? got.reason : got.dest);
            }
            mr_assert(as_expected);
        }
        if (got.fate == MR_EXPLAINED_SEND) {
            struct mr_span by = got.key.len != 0 ? got.key : event.client;
            mr_assert(mr_span_equal(got.partition_by, by));
            mr_assert((int32_t)(got.partition_hash % 7) == mr_kafka_partition(by.at, by.len, 7));
            mr_assert(mr_span_equal(got.value, event.payload));
            mr_assert(got.time_from == MR_EXPLAINED_TIME_RECEIVED && got.header_count == 0);
            mr_assert(got.time_ms == RECEIVED_US / RECEIVED_MS_SHIFT);
        }
        mr_explain_close(explain);
    }
}

/* A device cannot make more destinations than are allowed, whatever it sends. */
static void test_bounds_destinations(void)
{
    struct mr_shape shape = {.dest_template = "s_${payload.k}", .dests_max = 100};
    struct mr_explain *explain = explain_make(&plain_conf, &shape);
    struct mr_explained got;
    char payload[40];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 150; i++) {
            sprintf(payload, "{\"k\":%d}", i);
            struct mr_explain_event event = event_of("a", payload);
            mr_explain(explain, &event, &got);
            mr_assert(got.fate == (i < 100 ? MR_EXPLAINED_SEND : MR_EXPLAINED_DEAD));
            mr_assert(i < 100 || strstr(got.reason, "one more than the 100 allowed") != NULL);
        }
    }
    mr_explain_close(explain);
}

/* Some character of up to three bytes, NUL and controls among them. */
static size_t put_any(struct mr_rng *rng, uint8_t *out)
{
    unsigned code = (unsigned)mr_rng_below(rng, mr_rng_below(rng, 2) == 0 ? 128 : 0xd000);

    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 63));
        return 2;
    }
    out[0] = (uint8_t)(0xe0 | code >> 12);
    out[1] = (uint8_t)(0x80 | (code >> 6 & 63));
    out[2] = (uint8_t)(0x80 | (code & 63));
    return 3;
}

/* Whatever a device sends: the name begins as the operator says, and is tame; the key
 * is what was sent, byte for byte.
 */
static void test_no_payload_chooses_a_destination(uint64_t seed)
{
    struct mr_shape shape = {
        .dest_template = "s_${payload.k}", .key_template = "${payload.k}", .dests_max = 100000};
    struct mr_explain *explain = explain_make(&plain_conf, &shape);
    struct mr_rng rng;

    mr_rng_seed(&rng, seed);
    for (int i = 0; i < 20000; i++) {
        uint8_t text[200];
        char payload[1500] = "{\"a\":[1,{}],\"k\":";
        size_t len = 0;
        for (uint64_t n = mr_rng_below(&rng, 30); n != 0; n--) {
            len += put_any(&rng, text + len);
        }
        char *end = mr_json_put_string(payload + strlen(payload), mr_span_make(text, len));
        *end++ = '}';
        struct mr_explain_event event = event_of("a", "");
        struct mr_explained got;
        event.payload = mr_span_make(payload, (size_t)(end - payload));
        mr_explain(explain, &event, &got);
        mr_assert(got.fate == MR_EXPLAINED_SEND && strncmp(got.dest, "s_", 2) == 0);
        mr_assert(strspn(got.dest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "0123456789._-") == strlen(got.dest));
        mr_assert(mr_span_equal(got.key, mr_span_make(text, len)));
    }
    mr_explain_close(explain);
}

static void test_filters(void)
{
    static const char *items[] = {"sensors/+/temp", "plant/#"};
    struct mr_bridge_conf conf = {.from = {.items = items, .count = 2}};
    struct mr_shape shape = {.dest_template = "all"};
    struct mr_explain *explain = explain_make(&conf, &shape);
    struct mr_explain_event event = event_of("plant/temp/7", "");
    struct mr_explained got;

    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_SEND && strcmp(got.filter, "plant/#") == 0);
    mr_assert(got.value.len == 0);
    event.topic = mr_span_of("sensors/a/b/temp");
    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_SKIP && got.filter == NULL);
    mr_assert(strcmp(got.reason, "no filter of `from` matches the topic") == 0);
    mr_explain_close(explain);
}

/* ---- time ---- */

static const struct {
    const char *template;
    const char *payload;
    uint32_t unit;
    int64_t ms; /* 0: replaced by the receive time */
    const char *reason;
} times[] = {
    {"${payload.ts}", "{\"ts\":1763920500.5}", MR_TIME_AUTO, 1763920500500, NULL},
    {"${payload.ts}", "{\"ts\":\"2025-11-23T17:55:00.5Z\"}", MR_TIME_AUTO, 1763920500500, NULL},
    {"${payload.d}T${payload.t}Z", "{\"d\":\"2025-11-23\",\"t\":\"17:55:00\"}", MR_TIME_RFC3339,
     1763920500000, NULL},
    {"${props.ts}", "", MR_TIME_AUTO, 0, "timestamp: the event has no user property 'ts'"},
    {"${received}", "", MR_TIME_AUTO, 1763920561123, NULL},
    {"${payload.ts}", "{}", MR_TIME_AUTO, 0, "timestamp: the payload has no field 'ts'"},
    {"${payload.ts}", "{\"ts\":\"soon\"}", MR_TIME_AUTO, 0,
     "timestamp 'soon' is neither a number nor a time as RFC 3339 writes it"},
    {"${payload.ts}", "{\"ts\":\"soon\"}", MR_TIME_MS, 0, "timestamp 'soon' is not a number"},
    {"${payload.ts}", "{\"ts\":0}", MR_TIME_AUTO, 0,
     "timestamp '0' is not after the beginning of 1970"},
    {"${payload.ts}", "{\"ts\":-5}", MR_TIME_AUTO, 0,
     "timestamp '-5' is not after the beginning of 1970"},
    {"${payload.ts}", "{\"ts\":1763834161.123455}", MR_TIME_AUTO, 0,
     "timestamp '1763834161.123455' is further in the past than timestamp_max_past"},
    {"${payload.ts}", "{\"ts\":1763834161.123456}", MR_TIME_AUTO, 1763834161123, NULL},
    {"${payload.ts}", "{\"ts\":1763924161.123456}", MR_TIME_AUTO, 1763924161123, NULL},
    {"${payload.ts}", "{\"ts\":1763924161.123457}", MR_TIME_AUTO, 0,
     "timestamp '1763924161.123457' is further in the future than timestamp_max_future"},
    {"${payload.ts}",
     "{\"ts\":{\"a\":\"012345678901234567890123456789012345678901234567890123456789\"}}",
     MR_TIME_AUTO, 0, "timestamp: the text is too long to be a time"},
};

static void test_times(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(times); i++) {
        for (uint32_t on_error = 0; on_error < 2; on_error++) {
            struct mr_bridge_conf conf = {.timestamp = times[i].template,
                                          .timestamp_unit = times[i].unit,
                                          .timestamp_on_error = on_error,
                                          .timestamp_max_past_us = 86400000000,
                                          .timestamp_max_future_us = 3600000000};
            struct mr_shape shape = {.dest_template = "all", .value_encoder = MR_VALUE_JSON};
            struct mr_explain *explain = explain_make(&conf, &shape);
            struct mr_explain_event event = event_of("a", times[i].payload);
            struct mr_explained got;
            char head[80];

            mr_explain(explain, &event, &got);
            if (times[i].ms == 0 && on_error == MR_TIMESTAMP_DEAD_LETTER) {
                mr_assert(got.fate == MR_EXPLAINED_DEAD);
                mr_assert(strcmp(got.reason, times[i].reason) == 0);
            } else {
                int64_t ms = times[i].ms == 0 ? RECEIVED_US / RECEIVED_MS_SHIFT : times[i].ms;
                mr_assert(got.fate == MR_EXPLAINED_SEND && got.time_ms == ms);
                mr_assert(got.time_from == (times[i].ms == 0 ? MR_EXPLAINED_TIME_REPLACED
                                                             : MR_EXPLAINED_TIME_EVENT));
                mr_assert(times[i].ms != 0 || strcmp(got.time_reason, times[i].reason) == 0);
                /* the envelope has both clocks */
                size_t len = (size_t)sprintf(head, "{\"ts\":%lld,\"received\":1763920561123,",
                                             (long long)ms);
                mr_assert(got.value.len > len && memcmp(got.value.at, head, len) == 0);
            }
            mr_explain_close(explain);
        }
    }
}

/* ---- headers ---- */

static struct mr_span properties_of(uint8_t *out, size_t size, unsigned users)
{
    static uint8_t raw[16000];
    struct mr_mqtt_props props = {.content_type = mr_span_of("text/plain"),
                                  .response_topic = mr_span_of("answers/4"),
                                  .correlation_data = mr_span_make("\x00\xff", 2)};
    static const char *const names[] = {"unit", "mqtt_topic", "Millrace_id", "mqtt", "unit"};
    ptrdiff_t len = 0;

    for (unsigned i = 0; i < users; i++) {
        len += mr_mqtt_user_property_put(mr_span_of(names[i % MR_COUNT_OF(names)]), mr_span_of("v"),
                                         raw + len, sizeof(raw) - (size_t)len);
    }
    props.user_raw = mr_span_make(raw, (size_t)len);
    mr_mqtt_set(&props, MR_MQTT_PROP_USER);
    mr_mqtt_set(&props, MR_MQTT_PROP_CONTENT_TYPE);
    mr_mqtt_set(&props, MR_MQTT_PROP_RESPONSE_TOPIC);
    mr_mqtt_set(&props, MR_MQTT_PROP_CORRELATION_DATA);
    len = mr_mqtt_props_encode(&props, MR_MQTT_PUBLISH, out, size);
    mr_assert(len > 0);
    return mr_span_make(out, (size_t)len);
}

static void check_headers(const struct mr_explained *got, const char *const (*expected)[2],
                          size_t count)
{
    mr_assert(got->fate == MR_EXPLAINED_SEND);
    for (uint16_t i = 0; i < got->header_count && i < count; i++) {
        const struct mr_header *header = &got->headers[i];
        mr_assert(header->name.at[header->name.len] == '\0');
        if (!mr_span_is(header->name, expected[i][0]) ||
            (expected[i][1] != NULL && !mr_span_is(header->value, expected[i][1]))) {
            printf("header %u: %s=%.*s\n", i, (const char *)header->name.at, (int)header->value.len,
                   (const char *)header->value.at);
            mr_assert(false);
        }
    }
    mr_assert(got->header_count == count);
}

static void test_headers_id_and_full(void)
{
    static const char *const id[][2] = {{"millrace_id", ID}};
    static const char *const bare[][2] = {{"millrace_id", ID},
                                          {"mqtt_topic", "plant/temp/7"},
                                          {"mqtt_qos", "1"},
                                          {"mqtt_retain", "false"},
                                          {"mqtt_client", "press-4"}};
    static const char *const full[][2] = {{"millrace_id", ID},
                                          {"mqtt_topic", "plant/temp/7"},
                                          {"mqtt_qos", "1"},
                                          {"mqtt_retain", "true"},
                                          {"mqtt_client", "press-4"},
                                          {"mqtt_content_type", "text/plain"},
                                          {"mqtt_response_topic", "answers/4"},
                                          {"mqtt_correlation_data", NULL},
                                          {"unit", "v"},
                                          {"user_mqtt_topic", "v"}, /* no forgery */
                                          {"user_Millrace_id", "v"},
                                          {"mqtt", "v"},
                                          {"unit", "v"}};
    static uint8_t raw[20000];
    struct mr_shape shape = {.dest_template = "all", .headers = MR_HEADERS_ID};
    struct mr_explain *explain = explain_make(&plain_conf, &shape);
    struct mr_explain_event event = event_of("plant/temp/7", "x");
    struct mr_explained got;

    mr_explain(explain, &event, &got);
    check_headers(&got, id, MR_COUNT_OF(id));
    mr_explain_close(explain);

    shape.headers = MR_HEADERS_FULL;
    explain = explain_make(&plain_conf, &shape);
    mr_explain(explain, &event, &got);
    check_headers(&got, bare, MR_COUNT_OF(bare));
    event.retain = true;
    event.properties = properties_of(raw, sizeof(raw), 5);
    mr_explain(explain, &event, &got);
    check_headers(&got, full, MR_COUNT_OF(full));
    mr_assert(got.headers[7].value.len == 2 && memcmp(got.headers[7].value.at, "\x00\xff", 2) == 0);
    event.properties = properties_of(raw, sizeof(raw), 256);
    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_SEND && got.header_count == 8 + 256);
    event.properties = properties_of(raw, sizeof(raw), 257);
    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_DEAD && strstr(got.reason, "256 user properties") != NULL);
    event.properties = mr_span_of("\xff");
    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_DEAD && strstr(got.reason, "do not parse") != NULL);
    mr_explain_close(explain);
}

static void test_headers_of_templates(void)
{
    static struct mr_pair pairs[] = {{"site", "plant-7"},
                                     {"unit", "${payload.unit}"},
                                     {"kind", "${topic[1]}"},
                                     {"trace", "${props.trace:-}"}};
    static const char *const all[][2] = {
        {"site", "plant-7"}, {"unit", "C"}, {"kind", "temp"}, {"trace", ""}};
    static const char *const some[][2] = {{"site", "plant-7"}, {"kind", "temp"}, {"trace", ""}};
    struct mr_shape shape = {.dest_template = "all",
                             .headers = MR_HEADERS_LIST,
                             .header_list = {.items = pairs, .count = MR_COUNT_OF(pairs)}};
    struct mr_explain *explain = explain_make(&plain_conf, &shape);
    struct mr_explain_event event = event_of("plant/temp/7", "{\"unit\":\"C\"}");
    struct mr_explained got;

    mr_explain(explain, &event, &got);
    check_headers(&got, all, MR_COUNT_OF(all));
    event.payload = mr_span_of("{}"); /* what the event does not have is left out */
    mr_explain(explain, &event, &got);
    check_headers(&got, some, MR_COUNT_OF(some));
    mr_explain_close(explain);
}

static void test_values(void)
{
    struct mr_shape shape = {.dest_template = "all", .value_bytes_max = 5};
    struct mr_explain *explain = explain_make(&plain_conf, &shape);
    struct mr_explain_event event = event_of("a", "123456");
    struct mr_explained got;

    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_DEAD);
    mr_assert(strcmp(got.reason, "the value has 6 bytes, more than the 5 allowed") == 0);
    event.payload = mr_span_make(NULL, 0);
    mr_explain(explain, &event, &got);
    mr_assert(got.fate == MR_EXPLAINED_SEND && got.value.len == 0);
    mr_explain_close(explain);
}

/* ---- faults of the configuration ---- */

static void on_fault(void *arg, const char *fault)
{
    printf("  %s\n", fault);
    *(unsigned *)arg += 1;
}

static void test_faults_are_said(void)
{
    static struct mr_pair pairs[] = {{"bad", "${payload}}${nothing}"}};
    struct mr_shape shape = {.dest_template = "${payload.a}",
                             .key_template = "${clientId}",
                             .headers = MR_HEADERS_LIST,
                             .header_list = {.items = pairs, .count = 1}};
    struct mr_bridge_conf conf = {.timestamp = "recieved", .start = "yesterday"};
    struct mr_explain *explain = NULL;
    struct mr_error why;
    unsigned said = 0;

    mr_assert(mr_bridge_check(&conf, &shape_sink, &shape, on_fault, &said) == 5 && said == 5);
    mr_assert(mr_explain_open(
                  &explain,
                  &(struct mr_explain_options){
                      .name = "test", .conf = &conf, .sink = &shape_sink, .sink_conf = &shape},
                  &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "bridge 'test': topic: column 1") != NULL);
    mr_explain_close(NULL);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);

    printf("seed %llu\n", (unsigned long long)seed);
    test_no_payload_chooses_a_destination(seed);
    test_destinations_and_keys();
    test_bounds_destinations();
    test_filters();
    test_times();
    test_headers_id_and_full();
    test_headers_of_templates();
    test_values();
    test_faults_are_said();
    return 0;
}
