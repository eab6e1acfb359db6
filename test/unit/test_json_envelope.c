/* test_json_envelope.c
 *
 * links: codec base
 *
 * Goal:   the envelope is the one that envelope.h promises, for any
 *         payload and any properties, within the size promised.
 * Method: whole documents by hand; then random payloads and properties, whose
 *         documents must be JSON and stay within mr_envelope_size_max().
 */
#include "codec/envelope.h"
#include "codec/json.h"
#include "codec/mqtt.h"

#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

static ptrdiff_t write_of(struct mr_envelope *envelope, char *out, size_t out_size)
{
    mr_envelope_classify(envelope);
    return mr_envelope_write(envelope, out, out_size);
}

static void expect(struct mr_envelope *envelope, const char *written)
{
    char out[2048];
    ptrdiff_t len = write_of(envelope, out, sizeof(out));

    mr_assert(len > 0);
    if (!mr_span_is(mr_span_make(out, (size_t)len), written)) {
        printf("got      %.*s\nexpected %s\n", (int)len, out, written);
    }
    mr_assert(mr_span_is(mr_span_make(out, (size_t)len), written));
    mr_assert((size_t)len <= mr_envelope_size_max(envelope));
    mr_assert(mr_envelope_write(envelope, out, mr_envelope_size_max(envelope) - 1) == MR_ERR_FULL);
    mr_assert(mr_json_valid(mr_span_make(out, (size_t)len)));
}

#define HEAD                                                                   \
    "{\"ts\":1763920561123,\"received\":1763920561125,\"client\":\"press-4\"," \
    "\"topic\":\"plant/temp\",\"qos\":1,\"retain\":false,"

static struct mr_envelope event_of(const char *payload, size_t len)
{
    return (struct mr_envelope){
        .ts_ms = 1763920561123,
        .received_ms = 1763920561125,
        .client = mr_span_of("press-4"),
        .topic = mr_span_of("plant/temp"),
        .qos = 1,
        .payload = mr_span_make(payload, len),
    };
}
#define EVENT(literal) event_of(literal, sizeof(literal) - 1)

static void test_payloads(void)
{
    struct mr_envelope event = EVENT("{\"t\": 21.5}");

    expect(&event, HEAD "\"payload\":{\"t\": 21.5},\"encoding\":\"json\",\"props\":{}}");
    event = EVENT("21.5");
    expect(&event, HEAD "\"payload\":21.5,\"encoding\":\"json\",\"props\":{}}");
    event = EVENT("21,5 \"C\"\n");
    expect(&event, HEAD "\"payload\":\"21,5 \\\"C\\\"\\n\",\"encoding\":\"text\",\"props\":{}}");
    event = EVENT("");
    expect(&event, HEAD "\"payload\":\"\",\"encoding\":\"text\",\"props\":{}}");
    event = EVENT("\xff\xfe\x00");
    expect(&event, HEAD "\"payload\":\"//4A\",\"encoding\":\"base64\",\"props\":{}}");
    event = EVENT("a\0b");
    expect(&event, HEAD "\"payload\":\"YQBi\",\"encoding\":\"base64\",\"props\":{}}");

    event = EVENT("1");
    event.client = mr_span_of("a\"b");
    event.topic = mr_span_of("\xc3\xa4\t");
    event.ts_ms = -1;
    event.received_ms = INT64_MIN;
    event.qos = 2;
    event.retain = true;
    expect(&event, "{\"ts\":-1,\"received\":-9223372036854775808,\"client\":\"a\\\"b\","
                   "\"topic\":\"\xc3\xa4\\t\",\"qos\":2,\"retain\":true,\"payload\":1,"
                   "\"encoding\":\"json\",\"props\":{}}");
}

#define TAIL "\"payload\":1,\"encoding\":\"json\",\"props\":"
#define USER(k, v) "\x26\x00" k "\x00" v

static void test_props(void)
{
    struct mr_envelope event = EVENT("1");

#define PROPS(literal) event.props_raw = mr_span_make(literal, sizeof(literal) - 1)
    PROPS("\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x02t\"\x08\x00\x03r/t\x09\x00\x02\xff\xff" USER(
        "\x01k", "\x01v"));
    expect(&event, HEAD TAIL
           "{\"content_type\":\"t\\\"\",\"response_topic\":\"r/t\",\"correlation_data\":\"//8=\","
           "\"payload_format_indicator\":1,\"message_expiry_interval\":60,"
           "\"user_properties\":{\"k\":\"v\"}}}");
    /* A name that repeats gathers its values, where it first stood. */
    PROPS(USER("\x01"
               "a",
               "\x01"
               "1") USER("\x01"
                         "b",
                         "\x01"
                         "2") USER("\x01"
                                   "a",
                                   "\x01"
                                   "3") USER("\x01"
                                             "a",
                                             "\x00") USER("\x00", "\x00"));
    expect(&event,
           HEAD TAIL "{\"user_properties\":{\"a\":[\"1\",\"3\",\"\"],\"b\":\"2\",\"\":\"\"}}}");
    /* A user property cannot pass for one of the others. */
    PROPS(USER("\x0c"
               "content_type",
               "\x01"
               "x"));
    expect(&event, HEAD TAIL "{\"user_properties\":{\"content_type\":\"x\"}}}");
    /* What belongs to the connection is left out. */
    PROPS("\x23\x00\x01\x0b\x05");
    expect(&event, HEAD TAIL "{}}");
}

static void test_refusals(void)
{
    static uint8_t raw[5 * (MR_ENVELOPE_USER_PROPS_MAX + 1)];
    static char out[1 << 16];
    struct mr_envelope event = EVENT("1");

    event.props_raw = mr_span_of("\x01\x02");
    mr_assert(write_of(&event, out, sizeof(out)) == MR_ERR_CORRUPT);
    event.props_raw = mr_span_of("\x7f");
    mr_assert(write_of(&event, out, sizeof(out)) == MR_ERR_CORRUPT);
    for (size_t i = 0; i < sizeof(raw); i += 5) {
        raw[i] = MR_MQTT_PROP_USER;
    }
    event.props_raw = mr_span_make(raw, sizeof(raw) - 5);
    mr_assert(write_of(&event, out, sizeof(out)) > 0);
    event.props_raw = mr_span_make(raw, sizeof(raw));
    mr_assert(write_of(&event, out, sizeof(out)) == MR_ERR_REJECT);
}

/* Random events into a buffer of exactly the size promised. */
static void test_random(uint64_t seed)
{
    static const char letters[] = "{}[]\":,0129.ae \\\n\x01";
    struct mr_rng rng;
    unsigned seen[3] = {0};

    mr_rng_seed(&rng, seed);
    for (int step = 0; step < 20000; step++) {
        uint8_t payload[24];
        uint8_t raw[256];
        size_t raw_len = 0;
        struct mr_envelope event = EVENT("");
        size_t len = mr_rng_below(&rng, sizeof(payload) + 1);
        for (size_t i = 0; i < len; i++) {
            payload[i] = (uint8_t)letters[mr_rng_below(&rng, sizeof(letters))];
        }
        event.payload = mr_span_make(payload, len);
        event.ts_ms = (int64_t)mr_rng_u64(&rng);
        for (uint64_t count = mr_rng_below(&rng, 6); count != 0; count--) {
            char name[] = {(char)('a' + mr_rng_below(&rng, 3)), '\x01', 0};
            char value[] = {(char)(1 + mr_rng_below(&rng, 0x30)), 0};
            ptrdiff_t bytes = mr_mqtt_user_property_put(mr_span_of(name), mr_span_of(value),
                                                        raw + raw_len, sizeof(raw) - raw_len);
            mr_assert(bytes > 0);
            raw_len += (size_t)bytes;
        }
        event.props_raw = mr_span_make(raw, raw_len);
        mr_envelope_classify(&event);
        seen[event.encoding] += 1;
        size_t size = mr_envelope_size_max(&event);
        char *out = malloc(size);
        mr_assert(out != NULL);
        ptrdiff_t written = mr_envelope_write(&event, out, size);
        mr_assert(written > 0 && mr_json_valid(mr_span_make(out, (size_t)written)));
        free(out);
    }
    mr_assert(seen[MR_ENVELOPE_JSON] > 100 && seen[MR_ENVELOPE_TEXT] > 100);
    mr_assert(seen[MR_ENVELOPE_BASE64] > 100);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_payloads();
    test_props();
    test_refusals();
    test_random(seed);
    return 0;
}
