/* cost.c - a fixed trace through the whole way of an event, for who counts instructions.
 *
 *     devices ══ os_sim streams ══ parse ─▶ append ─▶ seal ─▶ commit ─▶ PUBACK
 *                                                        └▶ read back ─▶ fill ─▶ sink ─▶ settle
 *
 * DESIGN
 *
 * The gateway's own parts (net, broker, journal, pipeline) run on the simulated machine,
 * where the seed decides who runs when.  So two runs execute the same instructions, on any
 * machine and however busy it is, and a count of them is exact.  cost.py runs this program
 * twice under valgrind, with fewer and with more rounds; the difference has no start in it.
 *
 * The load is (a) of docs/BENCHMARKS.md: DEVICES connections, BURST publishes in a write, QoS 1,
 * 100 bytes of JSON, key = client id.  A round is one write of each device, and ends when
 * all is acknowledged and settled: a commit carries about what it does under full load.
 *
 * The sink takes whatever it is given and settles it in its next turn, as a target that
 * answers at once.  What the Kafka sink costs is counted by cost_kafka.c.
 */
#include "base/log.h"
#include "broker/broker.h"
#include "codec/mqtt.h"
#include "config/config.h"
#include "os/clock.h"
#include "os/sim.h"
#include "pipeline/bridge.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DEVICES = 100,
    BURST = 50,
    PAYLOAD_BYTES = 100,
    PACKET_MAX = 256,
    HELD_MAX = 64,
    TURNS_MAX = 100000, /* without everything being acknowledged: it hangs */
};

static const char address[] = "127.0.0.1:1883";

/* ---- the target ---- */

struct swallow {
    struct mr_sink_port *port;
    const struct mr_batch *held[HELD_MAX];
    uint32_t held_count;
};

static uint64_t swallowed; /* records that the target has */

static enum mr_err swallow_init(void *state, const void *conf, struct mr_sink_port *port,
                                struct mr_error *why)
{
    struct swallow *s = state;

    (void)conf;
    (void)why;
    s->port = port;
    return MR_OK;
}

static enum mr_err swallow_open(void *state, struct mr_error *why)
{
    struct swallow *s = state;

    (void)why;
    mr_sink_up(s->port);
    return MR_OK;
}

static enum mr_err swallow_submit(void *state, const struct mr_batch *batch)
{
    struct swallow *s = state;

    if (s->held_count == HELD_MAX) {
        return MR_ERR_FULL;
    }
    s->held[s->held_count++] = batch;
    mr_sink_wake(s->port);
    return MR_OK;
}

static void swallow_tick(void *state, int64_t now_ns)
{
    struct swallow *s = state;

    (void)now_ns;
    for (uint32_t i = 0; i < s->held_count; i++) {
        swallowed += s->held[i]->record_count;
        mr_sink_settle(s->port, s->held[i]->token, s->held[i]->record_count, MR_VERDICT_DONE, NULL);
    }
    s->held_count = 0;
}

static void swallow_close(void *state, int64_t patience_ns)
{
    swallow_tick(state, patience_ns);
}

static void swallow_fini(void *state)
{
    (void)state;
}

static void swallow_shape(const void *conf, struct mr_shape *out)
{
    (void)conf;
    *out = (struct mr_shape){.dest_template = "sensor_data",
                             .dest_option = "topic",
                             .key_template = "${clientid}",
                             .key_option = "message_key",
                             .value_encoder = MR_VALUE_RAW,
                             .headers = MR_HEADERS_NONE,
                             .dests_max = 4};
}

static const struct mr_sink_ops swallow_sink = {
    .name = "swallow",
    .state_size = sizeof(struct swallow),
    .conf_size = 1,
    .shape = swallow_shape,
    .init = swallow_init,
    .open = swallow_open,
    .submit = swallow_submit,
    .tick = swallow_tick,
    .close = swallow_close,
    .fini = swallow_fini,
};

/* ---- the gateway, as src/app/wire.c puts it together ---- */

static const struct mr_bridge_conf bridge_conf = {
    .inflight_records = 100000,
    .retry_min_us = 10000,
    .retry_max_us = 200000,
};
static const struct mr_listener_conf listener = {.name = "mqtt", .bind = address};

static struct mr_journal *journal;
static struct mr_bridge_group *group;
static struct mr_bridge *bridge;
static struct mr_broker *broker;
static bool up;

static void must(enum mr_err err, const struct mr_error *why)
{
    if (err != MR_OK) {
        (void)fprintf(stderr, "cost: %s\n", why->text);
        exit(1);
    }
}

/* What the configuration says by default. */
static struct mr_broker_limits limits(void)
{
    struct mr_broker_limits limits = {.max_packet_size = 0};
    const struct mr_fill fill = {.table = mr_broker_options, .into = &limits};
    struct mr_config *config = mr_config_open_text("defaults", "");

    mr_config_fill(config, NULL, "mqtt", &fill, 1);
    mr_assert(mr_config_problem_count(config) == 0);
    mr_config_close(config);
    limits.sys_interval_us = 0;
    return limits;
}

static void gateway_main(void *arg)
{
    struct mr_error why = {.text = ""};

    (void)arg;
    must(mr_journal_open(&journal,
                         &(struct mr_journal_options){.path = "data/journal",
                                                      .name = "journal",
                                                      .lane_count = 1,
                                                      .max_bytes = 256 << 20,
                                                      .record_bytes_max = 1 << 20},
                         NULL, &why),
         &why);
    must(mr_bridge_group_open(&group, journal, "kafka", &bridge_conf, &why), &why);
    must(mr_bridge_create(&bridge,
                          &(struct mr_bridge_options_run){
                              .group = group,
                              .name = "kafka",
                              .gateway_name = "cost",
                              .journal = journal,
                              .conf = &bridge_conf,
                              .sink = &swallow_sink,
                              .sink_conf = "",
                              .dead_letters_path = "data/dead-letters/kafka",
                              .dead_letters_bytes_max = 8 << 20,
                          },
                          &why),
         &why);
    must(mr_bridge_start(bridge, &why), &why);
    must(mr_broker_open(&broker,
                        &(struct mr_broker_run){.journal = journal,
                                                .listeners = &listener,
                                                .listener_count = 1,
                                                .limits = limits()},
                        &why),
         &why);
    must(mr_broker_start(broker, &why), &why);
    up = true;
}

/* ---- the devices ---- */

struct device {
    int fd;
    size_t len; /* of one write */
    size_t packet_bytes;
    size_t id_at; /* of the packet id, in a packet */
    uint16_t id;
    uint64_t acked;
    uint8_t bytes[BURST * PACKET_MAX];
};

static struct device devices[DEVICES];

/* One turn of the machine, or what time brings next. */
static void turn(void)
{
    if (mr_sim_turn() == MR_SIM_IDLE) {
        int64_t wait_ns = mr_sim_next_ns() - mr_clock_mono_ns();
        mr_sim_advance(wait_ns > 0 ? wait_ns : 1000);
    }
}

/* What has come, into `into`; 0: nothing. */
static size_t device_read(struct device *device, uint8_t *into, size_t size)
{
    size_t got = 0;
    enum mr_err err = mr_socket_read(device->fd, into, size, &got);

    mr_assert(err == MR_ERR_AGAIN || (err == MR_OK && got != 0));
    return got;
}

static void device_connect(struct device *device, unsigned number)
{
    struct mr_error why = {.text = ""};
    uint8_t bytes[PACKET_MAX];
    char name[32];
    size_t sent = 0;
    size_t got = 0;

    (void)snprintf(name, sizeof(name), "device-%05u", number);
    const struct mr_mqtt_connect packet = {
        .version = MR_MQTT_311, .client_id = mr_span_of(name), .clean_start = true};
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    must(mr_socket_connect(address, &device->fd, &why), &why);
    must(mr_socket_write(device->fd, bytes, (size_t)len, &sent), &why);
    mr_assert(sent == (size_t)len);
    for (int turns = 0; got < 4; turns++) {
        mr_assert(turns < TURNS_MAX);
        turn();
        got += device_read(device, bytes + got, sizeof(bytes) - got);
    }
    mr_assert(got == 4 && bytes[0] == MR_MQTT_CONNACK << 4 && bytes[3] == 0);
}

/* BURST publishes in a row; only their packet ids change later. */
static void device_prepare(struct device *device, unsigned number)
{
    char topic[64];
    char payload[PAYLOAD_BYTES + 1];
    uint8_t packet[PACKET_MAX];

    (void)snprintf(topic, sizeof(topic), "sensors/temp/%05u", number);
    int payload_len = snprintf(payload, sizeof(payload),
                               "{\"device\":%05u,\"seq\":1000000,\"t\":1700000000000000000,"
                               "\"value\":21.5,\"unit\":\"C\"}",
                               number);
    memset(payload + payload_len, ' ', PAYLOAD_BYTES - (size_t)payload_len);
    const struct mr_mqtt_publish publish = {
        .topic = mr_span_of(topic),
        .payload = mr_span_make(payload, PAYLOAD_BYTES),
        .packet_id = 1,
        .qos = 1,
    };
    ptrdiff_t len = mr_mqtt_publish_encode(&publish, MR_MQTT_311, packet, sizeof(packet));
    mr_assert(len > 0);
    device->packet_bytes = (size_t)len;
    device->id_at = device->packet_bytes - PAYLOAD_BYTES - sizeof(uint16_t);
    for (int i = 0; i < BURST; i++) {
        memcpy(device->bytes + (size_t)i * device->packet_bytes, packet, device->packet_bytes);
    }
    device->len = BURST * device->packet_bytes;
}

static void device_publish(struct device *device)
{
    size_t sent = 0;

    for (int i = 0; i < BURST; i++) {
        uint8_t *id = device->bytes + (size_t)i * device->packet_bytes + device->id_at;
        device->id = device->id == UINT16_MAX ? 1 : (uint16_t)(device->id + 1);
        id[0] = (uint8_t)(device->id >> 8);
        id[1] = (uint8_t)device->id;
    }
    mr_assert(mr_socket_write(device->fd, device->bytes, device->len, &sent) == MR_OK);
    mr_assert(sent == device->len);
}

static void round_of_all(uint64_t number)
{
    static uint8_t acks[BURST * 4];
    uint64_t until = number * DEVICES * BURST;
    uint64_t acked = 0;

    for (unsigned i = 0; i < DEVICES; i++) {
        device_publish(&devices[i]);
    }
    for (int turns = 0; acked < until || swallowed < until; turns++) {
        mr_assert(turns < TURNS_MAX);
        turn();
        acked = 0;
        for (unsigned i = 0; i < DEVICES; i++) {
            devices[i].acked += device_read(&devices[i], acks, sizeof(acks)) / 4;
            acked += devices[i].acked;
        }
    }
    mr_assert(acked == until && swallowed == until);
}

int main(int argc, char **argv)
{
    struct mr_thread *thread = NULL;
    uint64_t rounds = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;

    if (rounds == 0) {
        (void)fprintf(stderr, "cost: ROUNDS, of %d events each\n", DEVICES * BURST);
        return 64;
    }
    mr_sim_start(1);
    mr_log_set_clock(mr_clock_wall_us);
    mr_assert(mr_thread_start(&thread, "main", gateway_main, NULL, NULL) == MR_OK);
    while (!up) {
        turn();
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        device_connect(&devices[i], i);
        device_prepare(&devices[i], i);
    }
    for (uint64_t i = 1; i <= rounds; i++) {
        round_of_all(i);
    }
    (void)printf("%llu\n", (unsigned long long)(rounds * DEVICES * BURST));
    return 0; /* the machine goes as by kill -9 */
}
