/* test_load.c
 *
 * Goal:   the load tool's figures and its own delivery can be trusted: quantiles are
 *         right, readings are valid, bounded and like the real thing, an outbox loses
 *         and doubles nothing.
 * Method: histogram against sorted numbers; payloads against their bounds; the
 *         outbox in a seeded random walk with partial sends and lost connections,
 *         against a model server that must see every packet in order.
 *         Replay with: ./test_load <seed>
 * links: load codec base
 */
#include "app/load/histogram.h"
#include "app/load/outbox.h"
#include "app/load/profile.h"
#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

static int compare_ns(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void test_quantiles_are_within_their_precision(uint64_t seed)
{
    enum { COUNT = 20000 };
    static struct mr_histogram histogram;
    static int64_t values[COUNT];
    const double quantiles[] = {0.001, 0.5, 0.9, 0.99, 0.999, 1};
    struct mr_rng rng;

    mr_rng_seed(&rng, seed);
    for (size_t i = 0; i < COUNT; i++) {
        /* Every power of two up to 2^39, evenly. */
        values[i] = (int64_t)(mr_rng_u64(&rng) >> (25 + mr_rng_below(&rng, 39)));
        mr_histogram_add(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare_ns);
    for (size_t i = 0; i < MR_COUNT_OF(quantiles); i++) {
        size_t rank = (size_t)(quantiles[i] * (double)COUNT + 0.999999);
        double exact = (double)values[rank - 1];
        double told = (double)mr_histogram_quantile_ns(&histogram, quantiles[i]);
        mr_assert(told >= exact && told <= exact * (1 + 1.0 / 64) + 1);
    }
    mr_assert(histogram.count == COUNT && histogram.max_ns == values[COUNT - 1]);
}

static void test_the_edges_of_a_histogram(void)
{
    static struct mr_histogram histogram;

    mr_assert(mr_histogram_quantile_ns(&histogram, 0.5) == 0);
    mr_histogram_add(&histogram, -5);
    mr_assert(mr_histogram_quantile_ns(&histogram, 1) == 0);
    mr_histogram_clear(&histogram);
    mr_histogram_add(&histogram, INT64_MAX); /* longer than the last bucket */
    mr_assert(mr_histogram_quantile_ns(&histogram, 0.5) == INT64_MAX);
}

/* One object, only the characters that our payloads use, quotes in pairs. */
static void check_payload(const char *payload, size_t len, uint64_t reading)
{
    char expected[64];
    unsigned quotes = 0;

    mr_assert(len > 0 && payload[0] == '{' && payload[len - 1] == '}');
    (void)snprintf(expected, sizeof(expected),
                   "{\"t\":1700000000123,\"n\":%llu,\"v\":", (unsigned long long)reading);
    mr_assert(strncmp(payload, expected, strlen(expected)) == 0);
    for (size_t i = 0; i < len; i++) {
        quotes += payload[i] == '"' ? 1 : 0;
        mr_assert(payload[i] >= ' ' && payload[i] <= '~' && payload[i] != '\\');
    }
    mr_assert(quotes % 2 == 0 && strstr(payload, ",,") == NULL && strstr(payload, ".,") == NULL);
}

static void test_readings_are_bounded_and_repeatable(uint64_t seed)
{
    for (unsigned kind = 0; kind < MR_SENSOR_KINDS; kind++) {
        struct mr_sensor sensor;
        struct mr_sensor twin;

        mr_sensor_init(&sensor, (enum mr_sensor_kind)kind, 12345, seed);
        mr_sensor_init(&twin, (enum mr_sensor_kind)kind, 12345, seed);
        for (uint64_t reading = 1; reading <= 20000; reading++) {
            char a[MR_SENSOR_PAYLOAD_MAX + 1];
            char b[MR_SENSOR_PAYLOAD_MAX + 1];
            struct mr_text text_a = mr_text_over(a, sizeof(a));
            struct mr_text text_b = mr_text_over(b, sizeof(b));

            mr_sensor_payload(&sensor, 1700000000123, &text_a);
            mr_sensor_payload(&twin, 1700000000123, &text_b);
            mr_assert(!text_a.truncated && text_a.len == text_b.len);
            mr_assert(memcmp(a, b, text_a.len) == 0);
            check_payload(a, text_a.len, reading);
        }
    }
}

static void test_a_mixed_plant_has_every_kind(void)
{
    unsigned seen = 0;

    for (uint32_t i = 0; i < 20; i++) {
        seen |= 1u << mr_profile_kind(MR_PROFILE_MIXED, i);
    }
    mr_assert((seen | 1u << MR_SENSOR_WAVEFORM) == (1u << MR_SENSOR_KINDS) - 1);
    mr_assert(mr_profile_kind(MR_PROFILE_TRAINS, 7) == MR_SENSOR_TRAIN);
}

/* The sensor's next reading. */
static void next_reading(struct mr_sensor *sensor, int64_t unix_ms,
                         char payload[MR_SENSOR_PAYLOAD_MAX + 1])
{
    struct mr_text text = mr_text_over(payload, MR_SENSOR_PAYLOAD_MAX + 1);

    mr_sensor_payload(sensor, unix_ms, &text);
}

static double value_of(const char *payload, const char *name)
{
    char key[32];

    (void)snprintf(key, sizeof(key), "\"%s\":", name);
    const char *at = strstr(payload, key);
    mr_assert(at != NULL);
    return strtod(at + strlen(key), NULL);
}

/* A hundred households together take more at 19:00 than at 3:00, and as much as usual
 * over the day.
 */
static void test_meters_follow_the_day(uint64_t seed)
{
    double watts[24] = {0};
    double mean = 0;

    for (uint32_t id = 0; id < 100; id++) {
        struct mr_sensor sensor;
        mr_sensor_init(&sensor, MR_SENSOR_METER, id, seed);
        for (int64_t hour = 0; hour < 24; hour++) {
            char payload[MR_SENSOR_PAYLOAD_MAX + 1];
            next_reading(&sensor, 1700006400000 + hour * 3600000, payload);
            watts[hour] += value_of(payload, "watt") / 100;
        }
    }
    for (size_t hour = 0; hour < 24; hour++) {
        mean += watts[hour] / 24;
    }
    mr_assert(watts[19] > 3 * watts[3] && watts[19] > 1.5 * mean && watts[3] < 0.6 * mean);
}

/* A train stays on its line, never jumps, stops with open doors and drives with closed
 * ones.
 */
static void test_trains_run_and_stop(uint64_t seed)
{
    for (uint32_t id = 0; id < 8; id++) {
        struct mr_sensor sensor;
        double lat = 0;
        double lon = 0;
        unsigned stops = 0;
        bool stood = false;

        mr_sensor_init(&sensor, MR_SENSOR_TRAIN, id, seed);
        for (unsigned second = 0; second < 20000; second++) {
            char payload[MR_SENSOR_PAYLOAD_MAX + 1];

            next_reading(&sensor, 0, payload);
            double kmh = value_of(payload, "v");
            double now_lat = value_of(payload, "lat");
            double now_lon = value_of(payload, "lon");
            bool open = strstr(payload, "\"doors\":\"open\"") != NULL;
            mr_assert(kmh >= 0 && kmh <= 230 && (!open || kmh == 0));
            mr_assert(now_lat > 48 && now_lat < 54 && now_lon > 8 && now_lon < 15);
            /* 230 km/h are 64 m, about 0.001 degrees east in the north. */
            mr_assert(second == 0 || (now_lat - lat < 0.0012 && lat - now_lat < 0.0012 &&
                                      now_lon - lon < 0.0012 && lon - now_lon < 0.0012));
            lat = now_lat;
            lon = now_lon;
            stops += open && !stood;
            stood = open;
        }
        mr_assert(stops >= 3);
    }
}

static void test_bursts_keep_the_rate_and_the_order(void)
{
    double last = -1;
    unsigned early = 0;

    for (unsigned k = 0; k < 10000; k++) {
        double seconds = mr_profile_bend(MR_PROFILE_TOLLING, k / 100.0);
        mr_assert(seconds > last);
        early += seconds - (double)(unsigned)(seconds / 10) * 10 < 3;
        last = seconds;
    }
    mr_assert(last > 99 && last < 100 && early > 6900 && early < 7100);
    mr_assert(mr_profile_bend(MR_PROFILE_METERS, 3.25) == 3.25);
}

static void test_topics_are_bounded_and_end_in_the_number(void)
{
    for (unsigned kind = 0; kind < MR_SENSOR_KINDS; kind++) {
        char topic[MR_SENSOR_TOPIC_MAX + 1];
        struct mr_text text = mr_text_over(topic, sizeof(topic));
        struct mr_sensor sensor;

        mr_sensor_init(&sensor, (enum mr_sensor_kind)kind, 999999, 1);
        mr_sensor_topic(&sensor, &text);
        mr_assert(!text.truncated && strcmp(strrchr(topic, '/'), "/999999") == 0);
        mr_assert(strchr(topic, '+') == NULL && strchr(topic, '#') == NULL);
    }
}

/* ---- the outbox against a model server ---- */

/* What the model server keeps: of the current connection and of its life. */
struct model {
    uint8_t stream[1 << 16]; /* bytes of this connection */
    size_t len;
    uint64_t next;      /* the packet number it must see next on this connection */
    uint64_t delivered; /* the highest packet number seen, plus 1 */
    uint64_t acked;     /* what the outbox has been told */
    uint64_t ack_ready; /* complete packets of this connection, as a packet number */
    bool returning;     /* this connection is not the first one */
};

/* A packet whose number can be read back: PUBLISH, topic "", id, 8 bytes. */
static size_t packet_write(uint8_t *at, uint16_t id, uint64_t number, size_t extra)
{
    at[0] = 0x32;
    at[1] = (uint8_t)(4 + 8 + extra);
    mr_put_be16(at + 2, 0);
    mr_put_be16(at + 4, id);
    mr_put_u64(at + 6, number);
    memset(at + 14, 'x', extra);
    return 14 + extra;
}

/* Take complete packets off the stream: in order, none skipped, none changed. */
static void model_take(struct model *model)
{
    size_t at = 0;

    while (model->len - at >= 2 && model->len - at >= 2u + model->stream[at + 1]) {
        const uint8_t *packet = model->stream + at;
        uint64_t number = mr_get_u64(packet + 6);
        bool again = number < model->delivered;

        mr_assert((packet[0] & ~0x08) == 0x32);
        mr_assert(number == model->next);
        mr_assert(mr_get_be16(packet + 4) == number % 65535 + 1);
        /* Seen whole before: DUP.  DUP on a first sight: its beginning was lost. */
        mr_assert(!again || (packet[0] & 0x08) != 0);
        mr_assert((packet[0] & 0x08) == 0 || model->returning);
        model->next += 1;
        model->delivered = model->delivered > model->next ? model->delivered : model->next;
        model->ack_ready = model->next;
        at += 2u + packet[1];
    }
    memmove(model->stream, model->stream + at, model->len - at);
    model->len -= at;
}

static void walk_push(struct mr_outbox *outbox, struct mr_rng *rng)
{
    if (mr_outbox_has_room(outbox, UINT32_MAX)) {
        uint64_t number = outbox->head;
        size_t len = packet_write(mr_outbox_next(outbox), mr_outbox_next_id(outbox), number,
                                  mr_rng_below(rng, 60));
        mr_outbox_push(outbox, len, (int64_t)number * 10);
    } else {
        mr_assert(mr_outbox_held(outbox) == outbox->window);
    }
}

static void walk_send(struct mr_outbox *outbox, struct mr_rng *rng, struct model *model)
{
    size_t room = sizeof(model->stream) - model->len;
    size_t size = mr_rng_below(rng, 400) + 1;
    size_t len = mr_outbox_gather(outbox, model->stream + model->len, size < room ? size : room);
    size_t sent = mr_rng_below(rng, len + 1); /* the socket took only a part */

    mr_outbox_sent(outbox, sent);
    model->len += sent;
    model_take(model);
}

static void walk_ack(struct mr_outbox *outbox, struct mr_rng *rng, struct model *model)
{
    uint64_t ready = model->ack_ready > model->acked ? model->ack_ready - model->acked : 0;

    for (uint64_t i = mr_rng_below(rng, ready + 1); i > 0; i--) {
        int64_t due_ns = 0;
        uint16_t id = (uint16_t)(model->acked % 65535 + 1);

        mr_assert(mr_outbox_ack(outbox, id, &due_ns) == MR_OK);
        mr_assert(due_ns == (int64_t)model->acked * 10);
        mr_assert(mr_outbox_ack(outbox, id, &due_ns) == MR_ERR_REJECT);
        model->acked += 1;
    }
    mr_assert(outbox->acked == model->acked);
}

static void test_an_outbox_loses_nothing(uint64_t seed)
{
    static struct model model;
    struct mr_outbox outbox;
    struct mr_rng rng;
    int64_t due_ns = 0;

    mr_rng_seed(&rng, seed);
    mr_outbox_open(&outbox, 37);
    mr_assert(mr_outbox_ack(&outbox, 1, &due_ns) == MR_ERR_REJECT);
    mr_assert(mr_outbox_ack(&outbox, 0, &due_ns) == MR_ERR_REJECT);
    for (unsigned step = 0; step < 600000; step++) {
        switch (mr_rng_below(&rng, step % 1000 == 0 ? 5 : 4)) {
        case 0:
        case 1:
            walk_push(&outbox, &rng);
            break;
        case 2:
            walk_send(&outbox, &rng, &model);
            break;
        case 3:
            walk_ack(&outbox, &rng, &model);
            break;
        default: /* the connection is lost, with all that was not acknowledged */
            mr_assert(mr_outbox_rewind(&outbox, true) == outbox.begun - outbox.acked);
            model.len = 0;
            model.next = model.acked;
            model.ack_ready = model.acked;
            model.returning = true;
        }
    }
    mr_assert(model.acked > 65535 * 2); /* ids went round */
    mr_outbox_close(&outbox);
}

static void test_acks_out_of_order_wait_for_the_first(void)
{
    struct mr_outbox outbox;
    uint8_t bytes[256];
    int64_t due_ns = 0;

    mr_outbox_open(&outbox, 4);
    for (uint64_t n = 0; n < 3; n++) {
        size_t len = packet_write(mr_outbox_next(&outbox), mr_outbox_next_id(&outbox), n, 0);
        mr_outbox_push(&outbox, len, 0);
    }
    mr_outbox_sent(&outbox, mr_outbox_gather(&outbox, bytes, sizeof(bytes)));
    mr_assert(mr_outbox_ack(&outbox, 2, &due_ns) == MR_OK && outbox.acked == 0);
    mr_assert(mr_outbox_ack(&outbox, 1, &due_ns) == MR_OK && outbox.acked == 2);
    mr_assert(mr_outbox_rewind(&outbox, false) == 1);
    mr_assert(mr_outbox_gather(&outbox, bytes, sizeof(bytes)) == 14 && bytes[0] == 0x32);
    mr_outbox_close(&outbox);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    (void)printf("seed %llu\n", (unsigned long long)seed);
    test_quantiles_are_within_their_precision(seed);
    test_the_edges_of_a_histogram();
    test_readings_are_bounded_and_repeatable(seed);
    test_a_mixed_plant_has_every_kind();
    test_meters_follow_the_day(seed);
    test_trains_run_and_stop(seed);
    test_bursts_keep_the_rate_and_the_order();
    test_topics_are_bounded_and_end_in_the_number();
    test_an_outbox_loses_nothing(seed);
    test_acks_out_of_order_wait_for_the_first();
    return 0;
}
