/* fuzz_session.c - a few clients and the whole broker: journal, sessions, network.
 *
 * Input: one byte that says whether and how the broker begins anew behind it, then steps, each a
 * byte that chooses what is done and by whom, and bytes for that: packets of all kinds, raw bytes,
 * packets that are changed or cut on their way, acknowledgements in any order, connections that
 * end, time that passes.  When the input is used up, everybody goes.
 *
 * Promised, behind each input:
 *   - what the broker sends decodes, and is what somebody asked for (session_peer.h)
 *   - a connection that broke the protocol has been closed, and told why
 *   - one that did not has not been closed, unless its id was taken over
 *   - a healthy subscriber has had each message of QoS 1 and 2 that was accepted, and once
 *   - a healthy publisher and this subscriber are served
 *   - when all sessions have ended and nothing is retained, the broker holds what it held before
 *
 * The broker (session_machine.h) lives on from input to input, is started anew on the same disk
 * now and then, and on an empty one every WORLD_RUNS inputs.  What happens in an input follows
 * from those since that one, of which "broken, in input N" counts; replay.c leaves the number M of
 * the mutation, so
 *
 *     FUZZ_TELL=1 replay_session corpus/session SEED N M-N+1
 *
 * repeats a find and tells each packet.
 */
#include "fuzz.h"

#include "os/sim.h"
#include "session_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORLD_RUNS = 4096,
    RESTART_RUNS = 500, /* at least, from one to the next */
    NAMES_MAX = 64,     /* sessions or topics that are ended at a time */
    SETTLE_MS = 60000,
    MEMORY_RUNS = 8, /* from one look at the memory to the next */
    MEMORY_MS = 2500,
    RISES_MAX = 16,
};
#define HEALTHY "healthy-" /* client ids begin so */

static bool is_open;
static uint32_t restart_runs; /* since the broker began */
static uint32_t rises;        /* of its memory */
static struct machine_books before;

/* ---- those who do nothing wrong ---- */

static bool healthy_are_in(void)
{
    return publisher.let_in && watcher.let_in;
}

static bool watcher_is_answered(void)
{
    return watcher.owed_count == 0;
}

static void healthy_connect(bool first)
{
    struct mr_mqtt_connect packet = {.version = MR_MQTT_5,
                                     .client_id = mr_span_of(HEALTHY "subscriber")};
    uint8_t raw[32];
    uint8_t bytes[64];

    packet.props.session_expiry_s = UINT32_MAX;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    peer_open(&watcher);
    peer_connect(&watcher, &packet);
    peer_open(&publisher);
    packet = (struct mr_mqtt_connect){
        .version = MR_MQTT_311, .clean_start = true, .client_id = mr_span_of(HEALTHY "publisher")};
    peer_connect(&publisher, &packet);
    wait_for(healthy_are_in, "the healthy pair to be let in");
    if (watcher.session_present == first) {
        broken("the session of the healthy subscriber is %s", first ? "there" : "not there");
    }
    if (first) {
        struct mr_mqtt_subscription one = {.filter = mr_span_of("q/#"), .qos = 2};
        ptrdiff_t len = mr_mqtt_subscription_put(&one, raw, sizeof(raw));
        struct mr_mqtt_subscribe subscribe = {.packet_id = 1,
                                              .raw = mr_span_make(raw, (size_t)len)};
        len = mr_mqtt_subscribe_encode(&subscribe, MR_MQTT_5, bytes, sizeof(bytes));
        peer_send(&watcher, bytes, (size_t)len, NO_TAG);
        wait_for(watcher_is_answered, "the healthy subscriber's SUBACK");
    }
}

static bool probe_is_done(void)
{
    return probes.accepted == probes.sent && probes.got == probes.sent &&
           publisher.owed_count == 0 && watcher.inbound_count == 0;
}

/* The broker lends a publisher a larger table at its second topic, for good. */
static void publish_elsewhere(bool retain)
{
    uint8_t bytes[32];
    struct mr_mqtt_publish packet = {.topic = mr_span_of("elsewhere"), .retain = retain};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, MR_MQTT_311, bytes, sizeof(bytes));

    peer_send(&publisher, bytes, (size_t)len, NO_TAG);
}

/* One message of the pair's, to its end. */
static void probe(void)
{
    uint8_t payload[TAG_BYTES];
    uint8_t bytes[128];
    struct mr_mqtt_publish packet = {.topic = mr_span_of("q/probe"),
                                     .qos = 2,
                                     .packet_id = (uint16_t)(1 + run.number % 60000),
                                     .payload = mr_span_make(payload, sizeof(payload))};

    tag_put(TAG_PROBE, payload);
    probes.sent += 1;
    publish_elsewhere(false);
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, MR_MQTT_311, bytes, sizeof(bytes));
    peer_send(&publisher, bytes, (size_t)len, 0);
    wait_for(probe_is_done, "a message of the healthy pair");
    if (probes.got != probes.sent) {
        broken("a message of the healthy pair comes twice");
    }
}

/* ---- the end of a run ---- */

static bool breakers_are_closed(void)
{
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].fd >= 0 && slots[i].broke) {
            return false;
        }
    }
    return true;
}

static bool accepted_have_come(void)
{
    for (uint32_t i = 0; i < run.tag_count; i++) {
        if (run.tags[i].wanted && run.tags[i].accepted && run.tags[i].got == 0) {
            return false;
        }
    }
    return true;
}

static void restart(uint8_t how)
{
    tell("the broker ends: %u", how);
    machine_restart((enum machine_end)(how - 1));
    for (int i = 0; i < SLOTS; i++) {
        slots[i].fd = -1;
    }
    watcher.fd = -1;
    publisher.fd = -1;
    restart_runs = 0;
    rises = 0;
    before.lent = 0;
    healthy_connect(false);
}

static struct {
    size_t len;
    uint8_t bytes[1024];
} names[NAMES_MAX];
static uint32_t name_count;

static void name_note(struct mr_span name)
{
    if (name_count < NAMES_MAX && name.len <= sizeof(names[0].bytes)) {
        names[name_count].len = name.len;
        memcpy(names[name_count].bytes, name.at, name.len);
        name_count += 1;
    }
}

static bool ending_are_gone(void)
{
    for (int i = 0; i < ENDING_MAX; i++) {
        if (ending[i].fd >= 0) {
            return false;
        }
    }
    return true;
}

/* Each session is taken over by a connection that wants none, and goes. */
static void sessions_end(void)
{
    name_count = 0;
    machine_sessions(HEALTHY, name_note);
    for (uint32_t done = 0; done < name_count;) {
        for (int i = 0; i < ENDING_MAX && done < name_count; i++, done++) {
            struct mr_mqtt_connect packet = {.version = MR_MQTT_5,
                                             .clean_start = true,
                                             .client_id =
                                                 mr_span_make(names[done].bytes, names[done].len)};
            static const uint8_t bye[] = {0xe0, 0};
            peer_open(&ending[i]);
            ending[i].doubt = true;
            peer_connect(&ending[i], &packet);
            peer_send(&ending[i], bye, sizeof(bye), NO_TAG);
        }
        wait_for(ending_are_gone, "sessions to be taken over and to end");
    }
}

static void retained_end(void)
{
    uint8_t bytes[2048];

    name_count = 0;
    machine_retained(name_note);
    for (uint32_t i = 0; i < name_count; i++) {
        struct mr_mqtt_publish packet = {.topic = mr_span_make(names[i].bytes, names[i].len),
                                         .retain = true};
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, MR_MQTT_311, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_send(&publisher, bytes, (size_t)len, NO_TAG);
    }
    happen();
}

static void all_end(void)
{
    struct machine_books now;

    sessions_end();
    machine_look(&now);
    if (now.retained != 0) {
        retained_end();
    }
}

/* All but the memory, and what is forgotten in time. */
static bool books_are_even(void)
{
    struct machine_books now;

    machine_look(&now);
    return memcmp(&now, &before, offsetof(struct machine_books, cleared)) == 0;
}

static void books_tell(void)
{
    static const char *const what[] = {"connections", "sessions", "keeps",   "subscriptions",
                                       "queued",      "kept",     "bytes",   "retained",
                                       "bytes",       "waiting",  "cleared", "lent"};
    struct machine_books now;
    const uint64_t *was = &before.connections;
    const uint64_t *is = &now.connections;

    machine_look(&now);
    for (size_t i = 0; i < MR_COUNT_OF(what); i++) {
        fprintf(stderr, "%s: %llu before, %llu now\n", what[i], (unsigned long long)was[i],
                (unsigned long long)is[i]);
    }
}

/* Tables of the broker grow and stay so, a leak grows for ever.  What is on its way to the disk has
 * some time first.
 */
static void memory_check(void)
{
    struct machine_books now;

    if (restart_runs % MEMORY_RUNS != 0) {
        return;
    }
    time_passes(MEMORY_MS * NS_PER_MS);
    (void)machine_wait();
    happen();
    machine_look(&now);
    if (now.cleared == 0 && now.lent > before.lent) {
        before.lent = now.lent;
        rises += 1;
    }
    if (rises > RISES_MAX) {
        books_tell();
        broken("the broker holds more and more memory when everybody has gone");
    }
}

static void books_check(void)
{
    int64_t end_ns = machine_now_ns() + SETTLE_MS * NS_PER_MS;

    while (!books_are_even()) {
        if (machine_now_ns() > end_ns) {
            books_tell();
            broken("the broker holds something when everybody has gone");
        }
        (void)machine_wait();
        publish_elsewhere(
            true); /* a shard without clients sleeps, and what is over stays until then */
        happen();
        all_end(); /* what was still on its way may have made a session */
    }
    memory_check();
}

static void everybody_goes(void)
{
    for (int i = 0; i < SLOTS; i++) {
        peer_drop(&slots[i], false);
    }
    happen();
    all_end();
    probe();
    books_check();
}

static void run_end(uint8_t how)
{
    mr_sim_disk_pace(0, 0);
    wait_for(breakers_are_closed, "connections to be closed that broke the protocol");
    wait_for(accepted_have_come, "accepted messages to come to the healthy subscriber");
    if ((how & 3) != 0 && restart_runs >= RESTART_RUNS) {
        restart(how & 3);
    }
    everybody_goes();
}

/* ---- worlds ---- */

static void world_close(void)
{
    if (is_open) {
        is_open = false;
        machine_close();
    }
}

static void world_open(const uint8_t *data, size_t size)
{
    static bool known;
    uint64_t seed = size;

    if (!known) {
        known = true;
        (void)atexit(world_close);
        for (int i = 0; i < SLOTS; i++) {
            slots[i] = (struct peer){.fd = -1, .name = "a client"};
        }
        for (int i = 0; i < ENDING_MAX; i++) {
            ending[i] = (struct peer){.fd = -1, .name = "one that ends a session"};
        }
    }
    for (size_t i = 0; i < size; i++) {
        seed = (seed ^ data[i]) * UINT64_C(0x100000001b3);
    }
    machine_open(seed);
    is_open = true;
    run.number = 0;
    restart_runs = 0;
    probes = (struct probes){.sent = 0};
    publisher.fd = -1;
    watcher.fd = -1;
    watcher.inbound_count = 0;
    healthy_connect(true);
    probe();
    machine_look(&before);
    rises = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (is_open && run.number == WORLD_RUNS) {
        for (int i = 0; i < SLOTS; i++) {
            peer_drop(&slots[i], false);
        }
        peer_drop(&watcher, false);
        peer_drop(&publisher, false);
        world_close();
    }
    if (!is_open) {
        world_open(data, size);
    }
    restart_runs += 1;
    run_begin();
    steps_do(mr_span_make(data + (size != 0), size - (size != 0)));
    run_end(size == 0 ? 0 : data[0]);
    return 0;
}
