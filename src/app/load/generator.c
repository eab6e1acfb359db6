/* generator.c - see generator.h for the contract.
 *
 * DESIGN
 *
 * Sensor s belongs to connection s % connections.  Events go round the sensors:
 * number k is the one of sensor k % sensors, due at begin + k / rate.  So a
 * connection's m-th event is known without a queue: it has n sensors, the m-th event
 * is that of its sensor m % n in round m / n, hence
 *
 *     k = (m / n) * sensors + (m % n) * connections + connection
 *
 * and when a server is away for an hour, an hour of due events costs no memory.
 *
 * The clock makes events due one after the other (`next_event`) and hands each to
 * its connection, so a step costs as much as there are events due, not as there are
 * connections.
 *
 * INVARIANTS
 *
 *   (1) conn->made <= conn->due with a rate; the sum of made is stats.made.
 *   (2) What was made is in an outbox until it is acknowledged (QoS 1) or written
 *       (QoS 0); so made - acked is what would be lost if we ended now.
 */
#include "app/load/generator_internal.h"
#include "os/clock.h"
#include "os/process.h"

enum {
    DESCRIPTORS_OWN = 32,
    EVENTS_PER_STEP = 256,
    LOOK_EVERY_NS = 50 * 1000 * 1000,
    LOOK_OPENING_NS = 5 * 1000 * 1000,
};

#define BEGIN_AFTER_NS INT64_C(5000000000)

/* How many sensors the connection has. */
static uint64_t generator_share(const struct mr_generator *generator, uint64_t index)
{
    uint64_t conns = generator->options.connections;
    return (generator->options.sensors - index + conns - 1) / conns;
}

/* Number k of the connection's m-th event, and whose it is. */
static uint64_t generator_event(const struct mr_generator *generator, const struct conn *conn,
                                uint64_t m, uint32_t *sensor)
{
    uint64_t index = (uint64_t)(conn - generator->conns);
    uint64_t share = generator_share(generator, index);

    *sensor = (uint32_t)(m % share * generator->options.connections + index);
    return m / share * generator->options.sensors + *sensor;
}

static int64_t generator_due_ns(const struct mr_generator *generator, uint64_t k)
{
    double seconds =
        mr_profile_bend(generator->options.profile, (double)k / (double)generator->options.rate);
    return generator->begin_ns + (int64_t)(seconds * 1e9);
}

static bool generator_limit_reached(const struct mr_generator *generator, uint64_t events)
{
    return generator->stopped ||
           (generator->options.count != 0 && events >= generator->options.count);
}

/* Unix milliseconds of event k. */
static int64_t generator_time_ms(const struct mr_generator *generator, uint64_t k, int64_t due_ns)
{
    int64_t begin_ms = (int64_t)generator->options.time_begin_s * 1000;

    if (begin_ms == 0) {
        return (due_ns / 1000 + generator->wall_offset_us) / 1000;
    }
    return begin_ms +
           (generator->options.rate == 0 ? (int64_t)k : (due_ns - generator->begin_ns) / 1000000);
}

void generator_client_id(const struct mr_generator *generator, const struct conn *conn,
                         struct mr_text *out)
{
    uint64_t index = (uint64_t)(conn - generator->conns);

    if (generator_share(generator, index) > 1) {
        mr_text_fmt(out, "sim-%05u", (unsigned)index); /* speaks for several sensors */
    } else {
        mr_text_fmt(out, "sim-%s-%05u", mr_sensor_kind_name(generator->sensors[index].kind),
                    (unsigned)index);
    }
}

bool generator_make(struct mr_generator *generator, struct conn *conn)
{
    const bool paced = generator->options.rate != 0;
    char topic[MR_GENERATOR_PREFIX_MAX + 1 + MR_SENSOR_TOPIC_MAX + 1];
    char payload[MR_SENSOR_PAYLOAD_MAX + 1];
    struct mr_text topic_text = mr_text_over(topic, sizeof(topic));
    struct mr_text payload_text = mr_text_over(payload, sizeof(payload));
    uint32_t sensor = 0;

    if (!generator->begun || !mr_outbox_has_room(&conn->outbox, conn->window) ||
        (paced ? conn->made >= conn->due
               : generator_limit_reached(generator, generator->stats.made))) {
        return false;
    }
    uint64_t k = generator_event(generator, conn, conn->made, &sensor);
    int64_t due_ns = paced ? generator_due_ns(generator, k) : generator->now_ns;

    mr_text_add(&topic_text, generator->options.prefix);
    mr_text_add(&topic_text, "/");
    mr_sensor_topic(&generator->sensors[sensor], &topic_text);
    mr_sensor_payload(&generator->sensors[sensor], generator_time_ms(generator, k, due_ns),
                      &payload_text);
    mr_assert(!topic_text.truncated && !payload_text.truncated);

    uint8_t qos = generator->options.qos;
    struct mr_mqtt_publish packet = {
        .topic = mr_span_make(topic, topic_text.len),
        .payload = mr_span_make(payload, payload_text.len),
        .packet_id = qos == 0 ? 0 : mr_outbox_next_id(&conn->outbox),
        .qos = qos,
    };
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, MR_MQTT_5, mr_outbox_next(&conn->outbox),
                                           MR_OUTBOX_PACKET_MAX);
    mr_assert(len > 0); /* prefix, topic and payload are bounded to fit */
    mr_outbox_push(&conn->outbox, (size_t)len, due_ns);
    conn->made += 1;
    generator->stats.made += 1;
    return true;
}

void generator_acked(struct mr_generator *generator, int64_t due_ns)
{
    int64_t latency_ns = generator->now_ns - due_ns;

    mr_histogram_add(&generator->latency, latency_ns);
    mr_histogram_add(&generator->interval, latency_ns);
}

/* Hand out what the clock has made due.  Returns how long nothing more is due. */
static int64_t generator_tick(struct mr_generator *generator)
{
    while (!generator_limit_reached(generator, generator->next_event)) {
        int64_t wait_ns = generator_due_ns(generator, generator->next_event) - generator->now_ns;
        if (wait_ns > 0) {
            return wait_ns;
        }
        uint64_t sensor = generator->next_event % generator->options.sensors;
        struct conn *conn = &generator->conns[sensor % generator->options.connections];
        conn->due += 1;
        generator->next_event += 1;
        if (conn->state == CONN_UP && !conn->blocked) {
            conn_pump(generator, conn);
        }
    }
    return INT64_MAX;
}

/* Every 50 ms: open what is down, ping what is silent.  More often while connections
 * are missing, because each look opens only so many.
 */
static int64_t generator_look(struct mr_generator *generator)
{
    bool complete = generator->stats.up == generator->options.connections;

    if (generator->now_ns >= generator->next_look_ns) {
        for (uint32_t i = 0; i < generator->options.connections; i++) {
            conn_look(generator, &generator->conns[i]);
        }
        generator->next_look_ns = generator->now_ns + (complete ? LOOK_EVERY_NS : LOOK_OPENING_NS);
    }
    return generator->next_look_ns - generator->now_ns;
}

bool generator_made_all(const struct mr_generator *generator)
{
    return generator->stopped ||
           (generator->options.count != 0 && generator->stats.made >= generator->options.count);
}

static bool generator_finished(const struct mr_generator *generator)
{
    if (!generator_made_all(generator)) {
        return false;
    }
    for (uint32_t i = 0; i < generator->options.connections; i++) {
        if (mr_outbox_held(&generator->conns[i].outbox) != 0) {
            return false;
        }
    }
    return true;
}

/* The schedule begins when all connections stand for the first time: opening them is
 * not what a latency should tell.  A server that does not let all of them in is given
 * five seconds.
 */
static void generator_begin(struct mr_generator *generator)
{
    if (generator->open_ns == 0) {
        generator->open_ns = generator->now_ns;
    }
    if (!generator->begun && (generator->stats.up == generator->options.connections ||
                              generator->now_ns - generator->open_ns > BEGIN_AFTER_NS)) {
        generator->begun = true;
        generator->begin_ns = generator->now_ns;
        generator->stats.begin_ns = generator->now_ns;
        generator->wall_offset_us = mr_clock_wall_us() - generator->now_ns / 1000;
        for (uint32_t i = 0; i < generator->options.connections; i++) {
            if (generator->conns[i].state == CONN_UP) {
                conn_pump(generator, &generator->conns[i]);
            }
        }
    }
}

bool mr_generator_step(struct mr_generator *generator, int64_t timeout_ns, struct mr_wake *wake)
{
    struct mr_ready ready[EVENTS_PER_STEP];
    bool woken = false;

    generator->now_ns = mr_clock_mono_ns();
    int64_t look_ns = generator_look(generator);
    generator_begin(generator);
    int64_t due_ns =
        generator->options.rate != 0 && generator->begun ? generator_tick(generator) : INT64_MAX;
    if (generator_finished(generator)) {
        return false;
    }

    int64_t wait_ns = timeout_ns < look_ns ? timeout_ns : look_ns;
    wait_ns = wait_ns < due_ns ? wait_ns : due_ns;
    size_t count = mr_loop_wait(generator->loop, ready, MR_COUNT_OF(ready), wait_ns, wake, &woken);
    generator->now_ns = mr_clock_mono_ns();
    for (size_t i = 0; i < count; i++) {
        conn_ready(generator, &generator->conns[ready[i].tag], ready[i].what);
    }
    return true;
}

void mr_generator_stop(struct mr_generator *generator)
{
    generator->stopped = true;
    for (uint32_t i = 0; i < generator->options.connections; i++) {
        generator->conns[i].due = generator->conns[i].made; /* late ones are not made any more */
    }
}

static enum mr_err generator_check(const struct mr_generator_options *options, struct mr_error *why)
{
    size_t prefix_len = strlen(options->prefix);

    if (options->sensors == 0 || options->sensors > MR_GENERATOR_SENSORS_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "the number of sensors must be within 1 and %d",
                            MR_GENERATOR_SENSORS_MAX);
    }
    if (options->connections == 0 || options->connections > options->sensors) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%u connections for %u sensors: every connection needs a sensor",
                            options->connections, options->sensors);
    }
    if (prefix_len == 0 || prefix_len > MR_GENERATOR_PREFIX_MAX ||
        strpbrk(options->prefix, "+#") != NULL || !mr_utf8_valid(mr_span_of(options->prefix))) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "the topic prefix '%s' must have 1 to %d bytes and no wildcards",
                            options->prefix, MR_GENERATOR_PREFIX_MAX);
    }
    if ((options->username != NULL && strlen(options->username) > MR_GENERATOR_LOGIN_MAX) ||
        (options->password != NULL && strlen(options->password) > MR_GENERATOR_LOGIN_MAX)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "the user name and the password may have %d bytes each",
                            MR_GENERATOR_LOGIN_MAX);
    }
    uint64_t descriptors = mr_descriptors_raise();
    if (descriptors < (uint64_t)options->connections + DESCRIPTORS_OWN) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%u connections need more than the %llu descriptors that this process "
                            "may have; raise `ulimit -Hn` or take fewer connections",
                            options->connections, (unsigned long long)descriptors);
    }
    return MR_OK;
}

enum mr_err mr_generator_open(struct mr_generator **out, const struct mr_generator_options *options,
                              struct mr_error *why)
{
    struct mr_loop *loop = NULL;
    enum mr_err err = generator_check(options, why);

    if (err == MR_OK) {
        err = mr_loop_open(&loop, why);
    }
    if (err != MR_OK) {
        return err;
    }

    struct mr_generator *generator = mr_alloc(sizeof(*generator));
    generator->options = *options;
    generator->loop = loop;
    generator->input = mr_alloc(GENERATOR_PART_MAX + GENERATOR_INPUT_BYTES);
    generator->output = mr_alloc(GENERATOR_OUTPUT_BYTES);
    mr_rng_seed(&generator->jitter, options->seed);
    generator->sensors = mr_alloc(options->sensors * sizeof(*generator->sensors));
    for (uint32_t i = 0; i < options->sensors; i++) {
        mr_sensor_init(&generator->sensors[i], mr_profile_kind(options->profile, i), i,
                       options->seed);
    }
    generator->conns = mr_alloc(options->connections * sizeof(*generator->conns));
    for (uint32_t i = 0; i < options->connections; i++) {
        generator->conns[i].fd = -1;
        generator->conns[i].window = options->window;
        generator->conns[i].unreliable =
            mr_rng_below(&generator->jitter, 100) < options->disconnect_pct;
        mr_outbox_open(&generator->conns[i].outbox, options->window);
    }
    *out = generator;
    return MR_OK;
}

void mr_generator_stats(const struct mr_generator *generator, struct mr_generator_stats *out)
{
    *out = generator->stats;
    out->acked = 0;
    for (uint32_t i = 0; i < generator->options.connections; i++) {
        out->acked += generator->conns[i].outbox.acked;
    }
}

const struct mr_histogram *mr_generator_latency(const struct mr_generator *generator)
{
    return &generator->latency;
}

const struct mr_histogram *mr_generator_interval(const struct mr_generator *generator)
{
    return &generator->interval;
}

void mr_generator_interval_clear(struct mr_generator *generator)
{
    mr_histogram_clear(&generator->interval);
}

void mr_generator_close(struct mr_generator *generator)
{
    for (uint32_t i = 0; i < generator->options.connections; i++) {
        conn_goodbye(generator, &generator->conns[i]);
        mr_outbox_close(&generator->conns[i].outbox);
    }
    mr_loop_close(generator->loop);
    mr_free(generator->conns);
    mr_free(generator->sensors);
    mr_free(generator->input);
    mr_free(generator->output);
    mr_free(generator);
}
