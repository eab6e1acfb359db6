/* bench_load.c - publish as fast as a server can take it, at almost no cost.
 *
 * DESIGN
 *
 * On a machine of two cores the generator takes from the server what it burns
 * itself, so the packets are built once: each connection has a block of `burst`
 * PUBLISH packets, and sending it means overwriting packet id, sequence number and
 * time in each and one write().
 *
 * Closed loop (--rate 0): a connection sends the next burst as soon as its window
 * has room.  That measures throughput.  Its latencies say how long the queue is
 * that the window allows, no more.
 *
 * Open loop (--rate N): burst k is due at start + k * burst / N, on connection k
 * modulo connections, whatever the server does.  A burst that finds its window
 * full goes late, and its latency is still counted from when it was due: a server
 * that stalls for a second is charged for all that should have been sent in it
 * ("coordinated omission" hides exactly that).  Beyond what a server can take, that
 * number only grows, so the time from the write itself is reported beside it ("taken").
 * The generator's own lateness is reported too (when it looked at a burst that was due,
 * whether or not the window let it go): where more than 1 % of the bursts are later than
 * a millisecond, it measures itself.
 *
 * The latency of a burst is that of its last event.
 *
 * --realtime: devices have processors of their own, so where the generator shares its cores
 * with what it measures it may take them first; only for rates that need little of one.
 *
 * --seconds ends the sending after so long, for runs whose rate is not known before.
 *
 * --durable FILE is written by bench_trace.so inside the server: how far each device's
 * events had been flushed.  An acknowledgement beyond that came too early; they are
 * counted, and the program ends with 1.
 *
 * --wait: connected, it says so on stderr and begins when a line comes on stdin, so that
 * others can read their counters in between.
 *
 * Rejected: one thread per core.  The second core belongs to the server.
 *
 * INVARIANTS
 *
 *   (1) acked <= sent <= acked + window, per connection.
 *   (2) PUBACKs arrive in the order of their PUBLISHes; bench_acks_take() checks it.
 *   (3) A block is not patched while a part of it waits to be written.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, READ_BYTES = 64 * 1024, TOPIC_MAX = 64, PATH_BYTES = 512 };
enum { LATE_NS = 1000000, EVENTS_A_LOOK = 16 };

struct load_burst {
    int64_t due_ns;  /* when it was, or should have been, sent */
    int64_t sent_ns; /* when it was given to the socket */
};

struct load_conn {
    int fd;
    uint16_t id;     /* of the last PUBLISH */
    uint8_t *block;  /* `burst` packets */
    size_t unsent;   /* bytes of the block that wait for room */
    uint64_t sent;   /* events */
    uint64_t bursts; /* given to the block so far */
    uint64_t bursts_due;
    struct load_burst *in_flight; /* by burst modulo slots */
    struct bench_acks acks;
    uint8_t seq[BENCH_SEQ_DIGITS];
};

struct load {
    /* options */
    uint64_t port;
    uint64_t conn_count;
    uint64_t burst;
    uint64_t window;
    uint64_t count;
    uint64_t rate;
    uint64_t bytes;
    uint64_t device_first;
    uint64_t drain_s;
    uint64_t seconds;
    uint64_t server_pid;
    const char *topic;
    const char *ledger;
    const char *durable_path;
    bool wait;
    bool realtime;

    struct load_conn *conns;
    size_t packet_bytes; /* differs only with the length of the topic: fixed by %07 */
    size_t id_at;
    size_t payload_at;
    uint64_t slots; /* window / burst */
    int epoll;

    uint64_t sent;
    uint64_t acked;
    uint64_t next_burst; /* open loop: the next one to become due */
    int64_t begin_ns;
    int64_t begin_wall_ns;
    int64_t last_send_ns;
    int64_t last_ack_ns;
    int64_t end_ns;                  /* nothing is sent from here on */
    const _Atomic uint64_t *durable; /* per device, its highest number that was flushed */
    uint64_t early;                  /* acknowledgements that came before */
    uint64_t late;                   /* bursts that the generator began too late */
    struct mr_histogram latency;
    struct mr_histogram taken;    /* from the write, not from when it was due */
    struct mr_histogram lateness; /* how late the generator itself was */
};

/* ---- set-up ---- */

static void load_block_build(struct load *load, struct load_conn *conn, uint64_t device)
{
    char topic[TOPIC_MAX];
    uint8_t packet[BENCH_EVENT_MAX + TOPIC_MAX + 16];
    struct bench_event event = {.device = device};

    (void)snprintf(topic, sizeof(topic), "%s/%07llu", load->topic, (unsigned long long)device);
    load->packet_bytes = bench_mqtt_publish(packet, sizeof(packet), topic, load->bytes,
                                            &load->id_at, &load->payload_at);
    bench_event_write(packet + load->payload_at, load->bytes, &event);
    conn->block = mr_alloc(load->packet_bytes * load->burst);
    for (uint64_t i = 0; i < load->burst; i++) {
        memcpy(conn->block + i * load->packet_bytes, packet, load->packet_bytes);
    }
    bench_digits_write(conn->seq, BENCH_SEQ_DIGITS, BENCH_SEQ_BASE);
    conn->in_flight = mr_alloc(load->slots * sizeof(*conn->in_flight));
}

static void load_durable_map(struct load *load)
{
    int fd = open(load->durable_path, O_RDONLY | O_CLOEXEC);
    void *at = fd < 0
                   ? MAP_FAILED
                   : mmap(NULL, BENCH_DEVICES_MAX * sizeof(uint64_t), PROT_READ, MAP_SHARED, fd, 0);

    if (at == MAP_FAILED) {
        bench_fail("cannot map '%s': %s", load->durable_path, bench_cause());
    }
    load->durable = at;
    (void)close(fd);
}

static void load_connect(struct load *load)
{
    load->conns = mr_alloc(load->conn_count * sizeof(*load->conns));
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint64_t i = 0; i < load->conn_count; i++) {
        struct load_conn *conn = &load->conns[i];
        /* Edge-triggered with both directions: one registration, and a connection
         * is looked at when acks came or room came, never otherwise.
         */
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = conn};
        char id[32];

        (void)bench_client_id(id, sizeof(id), load->device_first + i);
        load_block_build(load, conn, load->device_first + i);
        conn->fd = bench_mqtt_connect((uint16_t)load->port, id);
        if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
            bench_fail("cannot watch a connection: %s", bench_cause());
        }
    }
}

/* ---- sending ---- */

static void load_patch(struct load *load, struct load_conn *conn, int64_t due_ns)
{
    uint8_t time_text[BENCH_TIME_DIGITS];
    uint8_t *at = conn->block;

    bench_digits_write(time_text, BENCH_TIME_DIGITS,
                       (uint64_t)(load->begin_wall_ns + (due_ns - load->begin_ns)));
    for (uint64_t i = 0; i < load->burst; i++) {
        uint8_t *payload = at + load->payload_at;

        conn->id = bench_id_next(conn->id);
        bench_digits_next(conn->seq, BENCH_SEQ_DIGITS);
        mr_put_be16(at + load->id_at, conn->id);
        memcpy(payload + BENCH_SEQ_AT, conn->seq, BENCH_SEQ_DIGITS);
        memcpy(payload + BENCH_TIME_AT, time_text, BENCH_TIME_DIGITS);
        at += load->packet_bytes;
    }
}

/* Write what waits.  True: nothing waits any more. */
static bool load_write(struct load *load, struct load_conn *conn)
{
    const size_t block_bytes = load->packet_bytes * load->burst;

    while (conn->unsent > 0) {
        ssize_t done =
            send(conn->fd, conn->block + (block_bytes - conn->unsent), conn->unsent, MSG_NOSIGNAL);
        if (done < 0) {
            if (errno == EAGAIN) {
                return false;
            }
            bench_fail("a connection broke while sending: %s", bench_cause());
        }
        conn->unsent -= (size_t)done;
    }
    return true;
}

static bool load_over(const struct load *load)
{
    return bench_stopped() || bench_mono_ns() >= load->end_ns;
}

/* May this connection begin a burst now?  In an open loop it must be due, in a
 * closed one the whole run must not be over.
 */
static bool load_may_send(const struct load *load, const struct load_conn *conn)
{
    if (conn->sent - conn->acks.acked + load->burst > load->window) {
        return false;
    }
    if (load_over(load)) {
        return false;
    }
    return load->rate != 0 ? conn->bursts < conn->bursts_due
                           : load->sent + load->burst <= load->count;
}

static int64_t load_burst_due_ns(const struct load *load, uint64_t burst)
{
    return load->begin_ns +
           (int64_t)((double)burst * (double)load->burst * 1e9 / (double)load->rate);
}

static void load_pump(struct load *load, struct load_conn *conn)
{
    const uint64_t index = (uint64_t)(conn - load->conns);

    while (load_write(load, conn) && load_may_send(load, conn)) {
        int64_t now_ns = bench_mono_ns();
        int64_t due_ns = now_ns;

        if (load->rate != 0) {
            due_ns = load_burst_due_ns(load, conn->bursts * load->conn_count + index);
        }
        load_patch(load, conn, due_ns);
        conn->in_flight[conn->bursts % load->slots] =
            (struct load_burst){.due_ns = due_ns, .sent_ns = now_ns};
        conn->bursts += 1;
        conn->sent += load->burst;
        load->sent += load->burst;
        load->last_send_ns = now_ns;
        conn->unsent = load->packet_bytes * load->burst;
    }
}

/* Open loop: make due what the clock says, and pump it.  Returns how long nothing
 * more is due, -1 if nothing ever is.
 */
static int64_t load_tick(struct load *load)
{
    for (;;) {
        if (load->next_burst * load->burst >= load->count || load_over(load)) {
            return -1;
        }
        int64_t wait_ns = load_burst_due_ns(load, load->next_burst) - bench_mono_ns();
        if (wait_ns > 0) {
            return wait_ns;
        }
        mr_histogram_add(&load->lateness, -wait_ns);
        load->late += -wait_ns > LATE_NS ? 1 : 0;
        struct load_conn *conn = &load->conns[load->next_burst % load->conn_count];
        conn->bursts_due += 1;
        load->next_burst += 1;
        load_pump(load, conn);
    }
}

/* ---- acknowledgements ---- */

/* Record the bursts whose last event is now acknowledged. */
static void load_settle(struct load *load, struct load_conn *conn, uint64_t acked_before)
{
    int64_t now_ns = bench_mono_ns();
    uint64_t burst = acked_before / load->burst;

    for (; (burst + 1) * load->burst <= conn->acks.acked; burst++) {
        const struct load_burst *which = &conn->in_flight[burst % load->slots];

        mr_histogram_add(&load->latency, now_ns - which->due_ns);
        mr_histogram_add(&load->taken, now_ns - which->sent_ns);
    }
    load->acked += conn->acks.acked - acked_before;
    load->last_ack_ns = now_ns;
}

static void load_durable_check(struct load *load, const struct load_conn *conn)
{
    uint64_t device = load->device_first + (uint64_t)(conn - load->conns);
    uint64_t flushed = atomic_load_explicit(&load->durable[device], memory_order_acquire);

    load->early += conn->acks.acked > flushed ? 1 : 0;
}

static void load_read(struct load *load, struct load_conn *conn)
{
    static uint8_t input[READ_BYTES];

    for (;;) {
        uint64_t before = conn->acks.acked;
        ssize_t got = recv(conn->fd, input, sizeof(input), 0);

        if (got < 0 && errno == EAGAIN) {
            return;
        }
        if (got <= 0) {
            bench_fail("the server closed a connection: %s", got == 0 ? "end" : bench_cause());
        }
        if (!bench_acks_take(&conn->acks, input, (size_t)got) || conn->acks.acked > conn->sent) {
            bench_fail("device %llu: after %llu PUBACKs came something else, or one out of order",
                       (unsigned long long)(load->device_first + (uint64_t)(conn - load->conns)),
                       (unsigned long long)conn->acks.acked);
        }
        if (load->durable != NULL) {
            load_durable_check(load, conn);
        }
        load_settle(load, conn, before);
        if (got < (ssize_t)sizeof(input)) {
            return; /* edge-triggered: a short read was the last one */
        }
    }
}

static bool load_done(const struct load *load, int64_t now_ns)
{
    bool all_sent = load_over(load) || load->sent + load->burst > load->count;

    if (!all_sent) {
        return false;
    }
    return load->acked == load->sent ||
           now_ns - load->last_send_ns > (int64_t)load->drain_s * 1000000000;
}

static void load_run(struct load *load)
{
    struct epoll_event events[EVENTS_MAX];

    load->begin_ns = bench_mono_ns();
    load->begin_wall_ns = bench_wall_ns();
    load->last_send_ns = load->begin_ns;
    load->end_ns =
        load->seconds == 0 ? INT64_MAX : load->begin_ns + (int64_t)load->seconds * 1000000000;
    for (uint64_t i = 0; load->rate == 0 && i < load->conn_count; i++) {
        load_pump(load, &load->conns[i]);
    }
    while (!load_done(load, bench_mono_ns())) {
        int64_t wait_ns = load->rate != 0 ? load_tick(load) : -1;
        /* At least twice a second: the drain limit is looked at. */
        wait_ns = wait_ns < 0 || wait_ns > 500000000 ? 500000000 : wait_ns;
        struct timespec limit = {.tv_sec = 0, .tv_nsec = wait_ns};
        int count = epoll_pwait2(load->epoll, events, EVENTS_MAX, &limit, NULL);

        for (int i = 0; i < count; i++) {
            struct load_conn *conn = events[i].data.ptr;
            if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
                load_read(load, conn);
            }
            load_pump(load, conn);
            /* Hundreds of answers that came together may not make late what is due meanwhile. */
            if (load->rate != 0 && i % EVENTS_A_LOOK == EVENTS_A_LOOK - 1) {
                (void)load_tick(load);
            }
        }
    }
}

/* ---- results ---- */

/* Complete when it is there: others wait for it. */
static void load_ledger_write(const struct load *load)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s.part", load->ledger);
    FILE *file = fopen(path, "we");

    if (file == NULL) {
        bench_fail("cannot write '%s': %s", path, bench_cause());
    }
    for (uint64_t i = 0; i < load->conn_count; i++) {
        (void)fprintf(file, "%llu %llu %llu\n", (unsigned long long)(load->device_first + i),
                      (unsigned long long)load->conns[i].sent,
                      (unsigned long long)load->conns[i].acks.acked);
    }
    if (fclose(file) != 0 || rename(path, load->ledger) != 0) {
        bench_fail("cannot write '%s': %s", load->ledger, bench_cause());
    }
}

struct load_cpu {
    int64_t own_ns;
    uint64_t server_begin_ns;
    uint64_t server_end_ns;
};

static void load_report(const struct load *load, const struct load_cpu *cpu)
{
    struct bench_json json = bench_json_open("load");
    int64_t took_ns = load->acked == 0 ? 1 : load->last_ack_ns - load->begin_ns;
    double seconds = (double)took_ns / 1e9;

    bench_json_u64(&json, "connections", load->conn_count);
    bench_json_u64(&json, "burst", load->burst);
    bench_json_u64(&json, "window", load->window);
    bench_json_u64(&json, "rate_wanted", load->rate);
    bench_json_u64(&json, "sent", load->sent);
    bench_json_u64(&json, "acked", load->acked);
    bench_json_number(&json, "seconds", seconds);
    bench_json_number(&json, "events_per_s", (double)load->acked / seconds);
    bench_json_number(&json, "own_cpu_ns_per_event",
                      (double)cpu->own_ns / (double)(load->sent == 0 ? 1 : load->sent));
    bench_json_number(&json, "own_cpu_share", (double)cpu->own_ns / 1e9 / seconds);
    bench_json_histogram(&json, "puback", &load->latency);
    if (load->rate != 0) {
        bench_json_histogram(&json, "taken", &load->taken);
        bench_json_histogram(&json, "late", &load->lateness);
        bench_json_u64(&json, "due", load->next_burst * load->burst);
        bench_json_number(&json, "late_share",
                          (double)load->late /
                              (double)(load->next_burst == 0 ? 1 : load->next_burst));
    }
    if (load->durable != NULL) {
        bench_json_u64(&json, "early", load->early);
    }
    bench_json_u64(&json, "begin_wall_ns", (uint64_t)load->begin_wall_ns);
    bench_json_u64(&json, "server_cpu_begin_ns", cpu->server_begin_ns);
    bench_json_u64(&json, "server_cpu_end_ns", cpu->server_end_ns);
    bench_json_close(&json);
}

static void load_wait(void)
{
    char line[16];

    (void)fprintf(stderr, "connected\n");
    if (fgets(line, sizeof(line), stdin) == NULL) {
        bench_fail("nobody said that the load may begin");
    }
}

static void load_check_options(const struct load *load)
{
    if (load->port == 0 || load->port > UINT16_MAX) {
        bench_fail("--port is needed: the TCP port of the server on 127.0.0.1");
    }
    if (load->burst == 0 || load->window < load->burst || load->window % load->burst != 0 ||
        load->window >= BENCH_IDS) {
        bench_fail("--window must be a multiple of --burst and less than %d", BENCH_IDS);
    }
    if (load->bytes < BENCH_EVENT_MIN || load->bytes > BENCH_EVENT_MAX) {
        bench_fail("--bytes must be within %d and %d", BENCH_EVENT_MIN, BENCH_EVENT_MAX);
    }
    if (load->conn_count == 0 || load->device_first + load->conn_count > BENCH_DEVICES_MAX) {
        bench_fail("--connections must be within 1 and %d", BENCH_DEVICES_MAX);
    }
    if (strlen(load->topic) > TOPIC_MAX - 16) {
        bench_fail("--topic may have %d characters", TOPIC_MAX - 16);
    }
}

int main(int argc, char **argv)
{
    static struct load load = {
        .conn_count = 100,
        .burst = 50,
        .window = 1000,
        .count = 1000000,
        .bytes = 100,
        .drain_s = 30,
        .topic = "sensors/bench",
    };
    const struct bench_option table[] = {
        {"port", BENCH_U64, &load.port, "TCP port of the server on 127.0.0.1"},
        {"connections", BENCH_U64, &load.conn_count, "one device each"},
        {"burst", BENCH_U64, &load.burst, "publishes per write"},
        {"window", BENCH_U64, &load.window, "unacknowledged publishes per connection"},
        {"count", BENCH_U64, &load.count, "events in all"},
        {"rate", BENCH_U64, &load.rate, "events/s in all, open loop; 0: as fast as acks allow"},
        {"bytes", BENCH_U64, &load.bytes, "payload bytes"},
        {"topic", BENCH_TEXT, &load.topic, "topic prefix; the device's number follows"},
        {"device-first", BENCH_U64, &load.device_first, "number of the first device"},
        {"seconds", BENCH_U64, &load.seconds, "send no longer than this; 0: until --count"},
        {"drain", BENCH_U64, &load.drain_s, "seconds to wait for the last acks"},
        {"ledger", BENCH_TEXT, &load.ledger, "file for `device sent acked` lines"},
        {"durable", BENCH_TEXT, &load.durable_path, "what bench_trace.so writes: check each ack"},
        {"wait", BENCH_FLAG, &load.wait, "connect, say `connected`, begin at a line on stdin"},
        {"realtime", BENCH_FLAG, &load.realtime, "run before all others, where that is permitted"},
        {"server-pid", BENCH_U64, &load.server_pid, "read this process's CPU before and after"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };
    struct load_cpu cpu = {0};

    bench_options(argc, argv, "publish QoS 1 events over many connections", table);
    load_check_options(&load);
    load.slots = load.window / load.burst;
    load.count -= load.count % load.burst; /* whole bursts */
    bench_descriptors(load.conn_count + 16);
    bench_stop_on_signals();
    if (load.durable_path != NULL) {
        load_durable_map(&load);
    }
    load_connect(&load);
    if (load.wait) {
        load_wait();
    }
    if (load.realtime) {
        const struct sched_param first = {.sched_priority = 1};
        (void)sched_setscheduler(0, SCHED_RR, &first); /* else its lateness tells */
    }

    cpu.server_begin_ns = bench_process_cpu_ns(load.server_pid);
    cpu.own_ns = -bench_cpu_ns();
    load_run(&load);
    cpu.own_ns += bench_cpu_ns();
    cpu.server_end_ns = bench_process_cpu_ns(load.server_pid);

    if (load.ledger != NULL) {
        load_ledger_write(&load);
    }
    load_report(&load, &cpu);
    return load.acked == load.sent && load.early == 0 ? 0 : 1;
}
