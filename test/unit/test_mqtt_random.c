/* test_mqtt_random.c
 *
 * links: codec base
 *
 * Goal:   what we encode is decoded to the same packet; no cut and no damaged
 *         byte makes a decoder read outside its packet or accept what it cannot
 *         repeat.
 * Method: random packets of every type, version and side, built from structs;
 *         each is encoded, decoded and compared, cut at every byte, and damaged
 *         in random places.  The inline PUBLISH decoder is compared with the full
 *         one on all of it.  The seed is printed: ./test_mqtt_random <seed>
 */
#include "../fuzz/mqtt_any.h"
#include "base/rng.h"

#include <stdio.h>

static struct mr_rng rng;
static uint8_t text_pool[4096];
static size_t text_used;

static uint32_t below(uint32_t bound)
{
    return (uint32_t)mr_rng_below(&rng, bound);
}

static bool chance(uint32_t percent)
{
    return below(100) < percent;
}

/* Some text of 0 to `max` characters, now and then beyond ASCII. */
static struct mr_span random_text(uint32_t min, uint32_t max)
{
    static const char *const wide[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\xaa\x9b\x94",
                                       "\xef\xbb\xbf"};
    const uint8_t *start = text_pool + text_used;
    uint32_t count = min + below(max - min + 1);

    for (uint32_t i = 0; i < count; i++) {
        mr_assert(text_used + 4 < sizeof(text_pool));
        if (chance(3)) {
            const char *character = wide[below(4)];
            memcpy(text_pool + text_used, character, strlen(character));
            text_used += strlen(character);
        } else {
            text_pool[text_used++] = "abcxyz0189/ _-$"[below(15)];
        }
    }
    return mr_span_make(start, (size_t)(text_pool + text_used - start));
}

static struct mr_span random_bytes(uint32_t max)
{
    uint8_t *start = text_pool + text_used;
    uint32_t count = below(max + 1);

    mr_assert(text_used + count <= sizeof(text_pool));
    for (uint32_t i = 0; i < count; i++) {
        start[i] = (uint8_t)mr_rng_u64(&rng);
    }
    text_used += count;
    return mr_span_make(start, count);
}

/* Fill whatever this packet may carry.  Which that is, props_decode tells: a
 * property it refuses is dropped again.
 */
static void random_props(struct mr_mqtt_props *props, uint8_t type, uint8_t from)
{
    struct mr_mqtt_props one;
    struct mr_mqtt_why why;

    *props = (struct mr_mqtt_props){
        .content_type = random_text(0, 9),
        .response_topic = random_text(1, 9),
        .correlation_data = random_bytes(9),
        .assigned_client_id = random_text(0, 9),
        .auth_method = random_text(0, 5),
        .auth_data = random_bytes(9),
        .response_info = random_text(0, 5),
        .server_reference = random_text(0, 5),
        .reason_string = random_text(0, 9),
        .message_expiry_s = (uint32_t)mr_rng_u64(&rng),
        .session_expiry_s = (uint32_t)mr_rng_u64(&rng),
        .will_delay_s = (uint32_t)mr_rng_u64(&rng),
        .packet_max = 1 + below(UINT32_MAX),
        .subscription_id = 1 + below(MR_MQTT_LENGTH_MAX),
        .server_keep_alive = (uint16_t)mr_rng_u64(&rng),
        .receive_max = (uint16_t)(1 + below(65535)),
        .topic_alias_max = (uint16_t)mr_rng_u64(&rng),
        .topic_alias = (uint16_t)(1 + below(65535)),
        .payload_format = below(2) != 0,
        .maximum_qos = below(2) != 0,
        .request_problem_info = below(2) != 0,
        .request_response_info = below(2) != 0,
        .retain_available = below(2) != 0,
        .wildcard_available = below(2) != 0,
        .subscription_id_available = below(2) != 0,
        .shared_available = below(2) != 0,
    };
    /* Two user properties with a subscription identifier between them. */
    const struct mr_span name = random_text(0, 5);
    const struct mr_span value = random_text(0, 5);
    uint8_t *raw = text_pool + text_used;
    ptrdiff_t len = mr_mqtt_user_property_put(name, value, raw, 64);
    mr_assert(len > 0);
    props->subscription_id = 1 + below(70000);
    len += mr_mqtt_subscription_id_put(props->subscription_id, raw + len, 8);
    memcpy(raw + len, "\x26\x00\x01k\x00\x01v", 7);
    text_used += (size_t)len + 7;
    props->user_raw = mr_span_make(raw, (size_t)len + 7);
    props->subscription_ids_raw = props->user_raw;
    for (unsigned id = 1; id <= MR_MQTT_PROP_SHARED_AVAILABLE; id++) {
        uint8_t probe[] = {(uint8_t)id, 0, 0, 0, 0};
        if (mr_mqtt_props_decode(mr_span_make(probe, 5), type, from, &one, &why) != MR_OK &&
            (strstr(why.what, "unknown") != NULL || strstr(why.what, "not valid for") != NULL ||
             strstr(why.what, "other side") != NULL)) {
            continue;
        }
        if (chance(40)) {
            mr_mqtt_set(props, id);
        }
    }
}

static uint8_t pick(const char *set, size_t count)
{
    return (uint8_t)set[below((uint32_t)count)];
}
#define PICK(set) pick(set, sizeof(set) - 1)

static void random_connect(struct mr_mqtt_connect *out, uint8_t version)
{
    *out = (struct mr_mqtt_connect){
        .version = version,
        .client_id = random_text(1, 30),
        .keep_alive_s = (uint16_t)mr_rng_u64(&rng),
        .clean_start = chance(50),
        .has_will = chance(50),
        .has_username = chance(50),
    };
    if (out->has_will) {
        out->will_qos = (uint8_t)below(3);
        out->will_retain = chance(50);
        out->will_topic = random_text(1, 20);
        out->will_payload = random_bytes(20);
    }
    if (out->has_username) {
        out->username = random_text(0, 10);
    }
    if ((out->has_username || version == MR_MQTT_5) && chance(50)) {
        out->has_password = true;
        out->password = random_bytes(20);
    }
    if (version == MR_MQTT_5) {
        random_props(&out->props, MR_MQTT_CONNECT, MR_MQTT_FROM_CLIENT);
        mr_mqtt_set(&out->props, MR_MQTT_PROP_AUTH_METHOD); /* data needs a method */
        if (out->has_will) {
            random_props(&out->will_props, MR_MQTT_WILL, MR_MQTT_FROM_CLIENT);
        }
    }
}

static void random_subscribe(struct mr_mqtt_subscribe *out, uint8_t type, bool is_v5)
{
    uint8_t *raw;
    size_t len = 0;

    out->packet_id = (uint16_t)(1 + below(65535));
    out->filter_count = 1 + below(4);
    for (uint32_t i = 0; i < out->filter_count; i++) {
        uint8_t one[128];
        struct mr_mqtt_subscription item = {
            .filter = chance(30) ? mr_span_of("a/+/#") : random_text(1, 20),
            .qos = (uint8_t)below(3),
            .no_local = is_v5 && chance(50),
            .retain_as_published = is_v5 && chance(50),
            .retain_handling = is_v5 ? (uint8_t)below(3) : 0,
        };
        ptrdiff_t bytes = type == MR_MQTT_SUBSCRIBE
                              ? mr_mqtt_subscription_put(&item, one, sizeof(one))
                              : mr_mqtt_unsubscription_put(item.filter, one, sizeof(one));
        mr_assert(bytes > 0);
        raw = text_pool + text_used; /* behind the filter, which is not needed again */
        memcpy(raw, one, (size_t)bytes);
        if (i == 0) {
            out->raw.at = raw;
        } else {
            memmove((uint8_t *)out->raw.at + len, raw, (size_t)bytes);
        }
        len += (size_t)bytes;
        text_used = (size_t)(out->raw.at - text_pool) + len;
    }
    out->raw.len = len;
}

static void random_publish(struct mr_mqtt_publish *out, bool is_v5, uint8_t from)
{
    *out = (struct mr_mqtt_publish){
        .topic = random_text(1, 40),
        .payload = random_bytes(60),
        .qos = (uint8_t)below(3),
        .retain = chance(50),
    };
    if (out->qos != 0) {
        out->packet_id = (uint16_t)(1 + below(65535));
        out->dup = chance(50);
    }
    if (is_v5 && chance(60)) {
        random_props(&out->props, MR_MQTT_PUBLISH, from);
    }
}

static void random_any(struct any *out)
{
    static const uint8_t versions[] = {MR_MQTT_31, MR_MQTT_311, MR_MQTT_5, MR_MQTT_5};

    *out = (struct any){0};
    text_used = 0;
    do {
        out->type = (uint8_t)(1 + below(15));
        out->mode.version = versions[below(4)];
        out->mode.from = (uint8_t)below(2);
    } while (!mr_mqtt_may_send(out->mode.from, out->type) ||
             (out->mode.version != MR_MQTT_5 &&
              (out->type == MR_MQTT_AUTH ||
               (out->type == MR_MQTT_DISCONNECT && out->mode.from == MR_MQTT_FROM_SERVER))));

    const bool is_v5 = out->mode.version == MR_MQTT_5;
    const uint16_t packet_id = (uint16_t)(1 + below(65535));
    const bool is_client = out->mode.from == MR_MQTT_FROM_CLIENT;
    struct mr_mqtt_props props = {0};
    if (is_v5 && chance(60) && out->type != MR_MQTT_PINGREQ && out->type != MR_MQTT_PINGRESP) {
        random_props(&props, out->type, out->mode.from);
    }
    switch ((enum mr_mqtt_type)out->type) {
    case MR_MQTT_CONNECT:
        random_connect(&out->connect, out->mode.version);
        break;
    case MR_MQTT_CONNACK:
        out->connack.reason = is_v5 ? PICK("\x00\x80\x86\x9f") : PICK("\x00\x84\x85\x88\x86\x87");
        out->connack.session_present =
            out->connack.reason == 0 && out->mode.version != MR_MQTT_31 && chance(50);
        out->connack.props = props;
        break;
    case MR_MQTT_PUBLISH:
        random_publish(&out->publish, is_v5, out->mode.from);
        break;
    case MR_MQTT_SUBSCRIBE:
    case MR_MQTT_UNSUBSCRIBE:
        out->subscribe.props = props;
        random_subscribe(&out->subscribe, out->type, is_v5);
        break;
    case MR_MQTT_SUBACK:
    case MR_MQTT_UNSUBACK:
        out->suback =
            (struct mr_mqtt_suback){.type = out->type, .packet_id = packet_id, .props = props};
        if (out->type == MR_MQTT_SUBACK) {
            out->suback.codes = mr_span_of("\x01\x02\x80\x80");
        } else if (is_v5) {
            out->suback.codes = mr_span_of("\x11\x80\x87");
        }
        break;
    case MR_MQTT_PINGREQ:
    case MR_MQTT_PINGRESP:
        break;
    case MR_MQTT_DISCONNECT:
    case MR_MQTT_AUTH:
        out->disconnect = (struct mr_mqtt_disconnect){.type = out->type, .props = props};
        if (out->type == MR_MQTT_AUTH) {
            out->disconnect.reason = MR_MQTT_CONTINUE_AUTHENTICATION;
            out->disconnect.props.auth_method = mr_span_of("method");
            mr_mqtt_set(&out->disconnect.props, MR_MQTT_PROP_AUTH_METHOD);
        } else if (is_v5) {
            out->disconnect.reason = is_client ? PICK("\x00\x04\x80\x99") : PICK("\x8b\x8e\xa2");
        }
        break;
    default:
        out->ack = (struct mr_mqtt_ack){.type = out->type, .packet_id = packet_id, .props = props};
        if (is_v5) {
            bool is_first = out->type == MR_MQTT_PUBACK || out->type == MR_MQTT_PUBREC;
            out->ack.reason = is_first ? PICK("\x00\x10\x97") : PICK("\x00\x92");
        }
    }
}

/* A copy of exactly `len` bytes, so that the sanitizer sees any read behind it. */
static bool check_copy(const uint8_t *at, size_t len, struct mr_mqtt_mode mode)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);

    mr_assert(copy != NULL);
    memcpy(copy, at, len);
    bool valid = any_check(mr_span_make(copy, len), mode);
    free(copy);
    return valid;
}

/* A packet whose body was cut, with a header that says so. */
static void check_cut(const uint8_t *packet, size_t header, size_t total, struct mr_mqtt_mode mode)
{
    uint8_t cut[4096];

    for (size_t body = 0; body < total - header; body++) {
        mr_assert(body < 16384);
        size_t at = 0;
        cut[at++] = packet[0];
        if (body >= 128) {
            cut[at++] = (uint8_t)(body | 0x80);
            cut[at++] = (uint8_t)(body >> 7);
        } else {
            cut[at++] = (uint8_t)body;
        }
        memcpy(cut + at, packet + header, body);
        /* It may still be valid: a PUBLISH only loses payload. */
        (void)check_copy(cut, at + body, mode);
        /* With the old header it is merely incomplete. */
        struct mr_mqtt_frame frame;
        struct mr_span part = mr_span_make(packet, header + body);
        mr_assert(mr_mqtt_frame(part, MR_MQTT_PACKET_MAX, &frame) == MR_ERR_AGAIN);
        mr_assert(frame.total_bytes == total);
    }
}

static unsigned check_one(void)
{
    static uint8_t packet[4096];
    static struct any any;
    static struct any back;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why = {.what = "none"};
    unsigned survived = 0;

    random_any(&any);
    ptrdiff_t len = any_encode(&any, packet, sizeof(packet));
    mr_assert(len > 0 && (size_t)len == any_size(&any));
    mr_assert(mr_mqtt_frame(mr_span_make(packet, (size_t)len), MR_MQTT_PACKET_MAX, &frame) ==
              MR_OK);
    mr_assert(frame.total_bytes == (size_t)len);
    enum mr_err err = any_decode(&frame, any.mode, &back, &why);
    if (err != MR_OK) {
        printf("%s version %u refused: %s\n", mr_mqtt_type_name(any.type), any.mode.version,
               why.what);
    }
    mr_assert(err == MR_OK);
    mr_assert(any_equal(&any, &back));
    mr_assert(check_copy(packet, (size_t)len, any.mode));

    if (chance(5)) {
        check_cut(packet, (size_t)len - frame.body.len, (size_t)len, any.mode);
    }
    for (int i = 0; i < 8; i++) {
        static uint8_t damaged[4096];
        memcpy(damaged, packet, (size_t)len);
        for (uint32_t n = 1 + below(3); n != 0; n--) {
            damaged[below((uint32_t)len)] = (uint8_t)mr_rng_u64(&rng);
        }
        survived += check_copy(damaged, (size_t)len, any.mode);
    }
    return survived;
}

/* Every topic of up to 20 characters, with one odd byte at each place: the words
 * of the inline check overlap at the end.
 */
static void test_plain_topics(void)
{
    static const uint8_t odd[] = {0, '+', '#', 0x80, 0xff, 0xc3};
    static const uint8_t even[] = {1, ' ', '*', ',', '"', '$', '/', 0x7f, 'a'};

    for (size_t len = 1; len <= 20; len++) {
        uint8_t *topic = malloc(len);
        mr_assert(topic != NULL);
        for (size_t at = 0; at < len; at++) {
            for (size_t i = 0; i < sizeof(even); i++) {
                memset(topic, 'x', len);
                topic[at] = even[i];
                mr_assert(mr_mqtt_topic_is_plain(topic, len));
            }
            for (size_t i = 0; i < sizeof(odd); i++) {
                memset(topic, 'x', len);
                topic[at] = odd[i];
                mr_assert(!mr_mqtt_topic_is_plain(topic, len));
            }
        }
        free(topic);
    }
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    unsigned survived = 0;

    printf("seed %u\n", seed);
    fflush(stdout);
    mr_rng_seed(&rng, seed);
    test_plain_topics();
    for (int step = 0; step < 20000; step++) {
        survived += check_one();
    }
    /* Damage must be able to pass, or nothing behind the first check was tested. */
    mr_assert(survived > 1000);
    printf("damaged packets still valid: %u of 160000\n", survived);
    return 0;
}
