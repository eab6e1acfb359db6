/* generator_conn.c - one connection of a simulated device; see generator.h.
 *
 * DESIGN
 *
 *     DOWN ──retry──▶ OPENING ──connected──▶ GREETING ──CONNACK──▶ UP
 *      ▲                 │                      │                  │
 *      └─────────────────┴───────lost, refused, silent─────────────┘
 *
 * The pause before the n-th attempt is 100 ms * 2^n, at most 5 s, and half of it is
 * random: a thousand devices that lost their gateway at one moment must not come
 * back at one moment.
 *
 * Every CONNECT asks for a clean start, so nothing of a run remains on the server.
 * What is sent again carries DUP all the same: it may have arrived before, and
 * whoever looks at the wire should see that.
 *
 * A server that is silent for a minute although it was pinged is treated as gone:
 * nobody tells a client that its server's power failed.
 */
#include "app/load/generator_internal.h"

enum {
    PAUSE_FIRST_MS = 100,
    PAUSE_MAX_MS = 5000,
    REST_MIN_MS = 200,
    REST_SPREAD_MS = 2800,
    CONNECT_MAX_NS_S = 10,
    SILENT_PING_S = 20,
    SILENT_LOST_S = 60,
};

#define CONN_SECOND_NS INT64_C(1000000000)

static uint64_t conn_tag(const struct mr_generator *generator, const struct conn *conn)
{
    return (uint64_t)(conn - generator->conns);
}

static void conn_shut(struct mr_generator *generator, struct conn *conn)
{
    generator->opening -= conn->state == CONN_OPENING || conn->state == CONN_GREETING ? 1 : 0;
    generator->stats.up -= conn->state == CONN_UP ? 1 : 0;
    if (conn->fd >= 0) {
        mr_loop_remove(generator->loop, conn->fd);
        mr_socket_close(conn->fd);
        conn->fd = -1;
    }
    conn->part_len = 0;
    conn->state = CONN_DOWN;
    conn->blocked = false;
    conn->ping_due = false;
}

/* Close, and try again after a pause. */
static void conn_lost(struct mr_generator *generator, struct conn *conn, const char *cause)
{
    struct mr_text trouble =
        mr_text_over(generator->stats.trouble, sizeof(generator->stats.trouble));
    uint64_t pause_ms = (uint64_t)PAUSE_FIRST_MS << (conn->attempts < 6 ? conn->attempts : 6);

    mr_text_add(&trouble, cause);
    generator->stats.lost += conn->state == CONN_UP ? 1 : 0;
    conn_shut(generator, conn);
    pause_ms = pause_ms > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause_ms;
    pause_ms = pause_ms / 2 + mr_rng_below(&generator->jitter, pause_ms / 2 + 1);
    conn->retry_ns = generator->now_ns + (int64_t)pause_ms * 1000000;
    conn->attempts += 1;
}

/* What an unreliable device does: gone without a word, in the middle of anything, and
 * back after a while.
 */
static void conn_drop(struct mr_generator *generator, struct conn *conn)
{
    conn_shut(generator, conn);
    conn->resting = true;
    conn->retry_ns = generator->now_ns + REST_MIN_MS * INT64_C(1000000) +
                     (int64_t)mr_rng_below(&generator->jitter, REST_SPREAD_MS) * INT64_C(1000000);
    generator->stats.dropped += 1;
    generator->stats.resting += 1;
}

void conn_open(struct mr_generator *generator, struct conn *conn)
{
    struct mr_error why;
    int fd = -1;

    generator->stats.resting -= conn->resting ? 1 : 0;
    conn->resting = false;
    if (mr_socket_connect(generator->options.address, &fd, &why) != MR_OK) {
        conn_lost(generator, conn, why.text);
        return;
    }
    if (mr_loop_add(generator->loop, fd, MR_READY_WRITE, conn_tag(generator, conn)) != MR_OK) {
        mr_socket_close(fd);
        conn_lost(generator, conn, "the kernel watches no more connections");
        return;
    }
    conn->fd = fd;
    conn->state = CONN_OPENING;
    conn->last_in_ns = generator->now_ns;
    generator->opening += 1;
}

/* The TCP connection stands: send CONNECT. */
static void conn_greet(struct mr_generator *generator, struct conn *conn)
{
    char id[48];
    struct mr_text id_text = mr_text_over(id, sizeof(id));
    uint8_t packet[128 + 2 * MR_GENERATOR_LOGIN_MAX];
    struct mr_error why;
    size_t sent = 0;

    if (mr_socket_connected(conn->fd, &why) != MR_OK) {
        conn_lost(generator, conn, why.text);
        return;
    }
    generator_client_id(generator, conn, &id_text);
    struct mr_mqtt_connect connect = {
        .client_id = mr_span_make(id, id_text.len),
        .keep_alive_s = GENERATOR_KEEP_ALIVE_S,
        .version = MR_MQTT_5,
        .clean_start = true,
    };
    if (generator->options.username != NULL) {
        connect.has_username = true;
        connect.username = mr_span_of(generator->options.username);
    }
    if (generator->options.password != NULL) {
        connect.has_password = true;
        connect.password = mr_span_of(generator->options.password);
    }
    ptrdiff_t len = mr_mqtt_connect_encode(&connect, packet, sizeof(packet));
    mr_assert(len > 0);
    /* A fresh socket has room for so few bytes, or it is no use to us. */
    if (mr_socket_write(conn->fd, packet, (size_t)len, &sent) != MR_OK || sent != (size_t)len) {
        conn_lost(generator, conn, "the connection broke while it was greeted");
        return;
    }
    conn->state = CONN_GREETING;
    conn->last_out_ns = generator->now_ns;
    mr_loop_change(generator->loop, conn->fd, MR_READY_READ, conn_tag(generator, conn));
}

/* ---- sending ---- */

static void conn_watch(struct mr_generator *generator, struct conn *conn, bool blocked)
{
    if (conn->blocked != blocked) {
        conn->blocked = blocked;
        mr_loop_change(generator->loop, conn->fd,
                       blocked ? MR_READY_READ | MR_READY_WRITE : MR_READY_READ,
                       conn_tag(generator, conn));
    }
}

/* Write what the outbox holds.  False: the connection was lost. */
static bool conn_flush(struct mr_generator *generator, struct conn *conn)
{
    for (;;) {
        size_t sent = 0;
        size_t len = 0;

        /* Between packets, never inside one. */
        if (conn->ping_due && conn->outbox.part == 0) {
            (void)mr_mqtt_ping_put(generator->output, MR_MQTT_PINGREQ);
            len = MR_MQTT_PING_BYTES;
            if (mr_socket_write(conn->fd, generator->output, len, &sent) != MR_OK || sent == 1) {
                conn_lost(generator, conn, "the connection broke while sending");
                return false;
            }
            conn->ping_due = sent == 0;
        } else {
            len = mr_outbox_gather(&conn->outbox, generator->output, GENERATOR_OUTPUT_BYTES);
            if (len == 0) {
                conn_watch(generator, conn, false);
                return true;
            }
            if (mr_socket_write(conn->fd, generator->output, len, &sent) != MR_OK) {
                conn_lost(generator, conn, "the connection broke while sending");
                return false;
            }
            mr_outbox_sent(&conn->outbox, sent);
        }
        conn->last_out_ns = generator->now_ns;
        if (sent < len) {
            conn_watch(generator, conn, true);
            return true;
        }
    }
}

void conn_pump(struct mr_generator *generator, struct conn *conn)
{
    const bool paced = generator->options.rate != 0;
    bool again = false;

    do {
        while (generator_make(generator, conn)) {
        }
        if (!conn_flush(generator, conn)) {
            return;
        }
        /* QoS 0 is not answered: what was written is done, and makes room. */
        again = generator->options.qos == 0 && mr_outbox_forget_written(&conn->outbox) > 0;
    } while (again && paced && !conn->blocked);
    if (again && !paced) {
        conn_watch(generator, conn, true); /* as fast as possible, but all in turn */
    }
}

/* ---- receiving ---- */

static bool conn_connack(struct mr_generator *generator, struct conn *conn,
                         const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_connack packet;
    struct mr_mqtt_why why;

    if (conn->state != CONN_GREETING ||
        mr_mqtt_connack_decode(frame, MR_MQTT_5, &packet, &why) != MR_OK) {
        conn_lost(generator, conn, "the server's CONNACK does not obey the specification");
        return false;
    }
    if (packet.reason != MR_MQTT_SUCCESS) {
        char cause[96];
        struct mr_text text = mr_text_over(cause, sizeof(cause));
        mr_text_fmt(&text, "the server refused: %s (0x%02x)", mr_mqtt_reason_name(packet.reason),
                    packet.reason);
        conn_lost(generator, conn, cause);
        return false;
    }
    uint32_t allowed = mr_mqtt_has(&packet.props, MR_MQTT_PROP_RECEIVE_MAX)
                           ? packet.props.receive_max
                           : UINT16_MAX;
    conn->window = allowed < generator->options.window ? allowed : generator->options.window;
    generator->opening -= 1;
    generator->stats.up += 1;
    generator->stats.ever_up = true;
    conn->state = CONN_UP;
    conn->attempts = 0;
    if (conn->unreliable) { /* half to one and a half of the usual time */
        uint64_t every_us = generator->options.disconnect_every_us;
        conn->drop_ns = generator->now_ns +
                        (int64_t)(every_us / 2 + mr_rng_below(&generator->jitter, every_us)) * 1000;
    }
    uint64_t again = mr_outbox_rewind(&conn->outbox, generator->options.qos != 0);
    generator->stats.resent += generator->options.qos != 0 ? again : 0;
    return true;
}

static bool conn_puback(struct mr_generator *generator, struct conn *conn,
                        const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = MR_MQTT_5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_ack packet;
    struct mr_mqtt_why why;
    int64_t due_ns = 0;

    if (mr_mqtt_ack_decode(frame, mode, &packet, &why) != MR_OK) {
        conn_lost(generator, conn, "a PUBACK does not obey the specification");
        return false;
    }
    if (mr_outbox_ack(&conn->outbox, packet.packet_id, &due_ns) != MR_OK) {
        conn_lost(generator, conn, "a PUBACK came for a packet that was never sent");
        return false;
    }
    generator->stats.refused += packet.reason >= MR_MQTT_UNSPECIFIED ? 1 : 0;
    generator_acked(generator, due_ns);
    return true;
}

static bool conn_disconnected(struct mr_generator *generator, struct conn *conn,
                              const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = MR_MQTT_5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_disconnect packet = {.reason = MR_MQTT_UNSPECIFIED};
    struct mr_mqtt_why why;
    char cause[96];
    struct mr_text text = mr_text_over(cause, sizeof(cause));

    if (mr_mqtt_disconnect_decode(frame, mode, &packet, &why) != MR_OK) {
        packet.reason = MR_MQTT_UNSPECIFIED;
    }
    mr_text_fmt(&text, "the server disconnected us: %s (0x%02x)",
                mr_mqtt_reason_name(packet.reason), packet.reason);
    conn_lost(generator, conn, cause);
    return false;
}

/* False: the connection is gone. */
static bool conn_packet(struct mr_generator *generator, struct conn *conn,
                        const struct mr_mqtt_frame *frame)
{
    switch (frame->type) {
    case MR_MQTT_PUBACK:
        return conn_puback(generator, conn, frame);
    case MR_MQTT_CONNACK:
        return conn_connack(generator, conn, frame);
    case MR_MQTT_PINGRESP:
        return true;
    case MR_MQTT_DISCONNECT:
        return conn_disconnected(generator, conn, frame);
    default:
        conn_lost(generator, conn, "the server sent what a publisher does not expect");
        return false;
    }
}

/* All complete packets of `bytes`; keeps the incomplete rest.  False: gone. */
static bool conn_packets(struct mr_generator *generator, struct conn *conn, struct mr_span bytes)
{
    while (bytes.len > 0) {
        struct mr_mqtt_frame frame;
        enum mr_err err = mr_mqtt_frame(bytes, GENERATOR_PART_MAX, &frame);

        if (err == MR_ERR_AGAIN) {
            break;
        }
        if (err != MR_OK) {
            conn_lost(generator, conn, "the server sent no MQTT");
            return false;
        }
        if (!conn_packet(generator, conn, &frame)) {
            return false;
        }
        bytes.at += frame.total_bytes;
        bytes.len -= frame.total_bytes;
    }
    mr_assert(bytes.len <= GENERATOR_PART_MAX);
    if (bytes.len > 0) {
        memcpy(conn->part, bytes.at, bytes.len);
    }
    conn->part_len = (uint16_t)bytes.len;
    return true;
}

/* False: gone. */
static bool conn_read(struct mr_generator *generator, struct conn *conn)
{
    uint8_t *fresh = generator->input + GENERATOR_PART_MAX;
    size_t got = 0;
    enum mr_err err = mr_socket_read(conn->fd, fresh, GENERATOR_INPUT_BYTES, &got);

    if (err == MR_ERR_AGAIN) {
        return true;
    }
    if (err != MR_OK || got == 0) {
        conn_lost(generator, conn, "the server closed the connection");
        return false;
    }
    conn->last_in_ns = generator->now_ns;
    memcpy(fresh - conn->part_len, conn->part, conn->part_len);
    return conn_packets(generator, conn,
                        mr_span_make(fresh - conn->part_len, got + conn->part_len));
}

void conn_ready(struct mr_generator *generator, struct conn *conn, uint32_t what)
{
    if (conn->state == CONN_DOWN) {
        return; /* it was closed by an event before this one */
    }
    if (conn->state == CONN_OPENING) {
        conn_greet(generator, conn);
        return;
    }
    /* What the server said before it closed is read first, acknowledgements above all. */
    if ((what & (MR_READY_READ | MR_READY_GONE)) != 0 && !conn_read(generator, conn)) {
        return;
    }
    if (conn->state == CONN_UP) {
        conn_pump(generator, conn);
    }
}

void conn_look(struct mr_generator *generator, struct conn *conn)
{
    int64_t silent_ns = generator->now_ns - conn->last_in_ns;

    switch (conn->state) {
    case CONN_DOWN:
        if (generator->now_ns >= conn->retry_ns && generator->opening < GENERATOR_OPENING_MAX) {
            conn_open(generator, conn);
        }
        break;
    case CONN_OPENING:
    case CONN_GREETING:
        if (silent_ns > CONNECT_MAX_NS_S * CONN_SECOND_NS) {
            conn_lost(generator, conn, "the server did not answer within 10 s");
        }
        break;
    case CONN_UP:
    default:
        if (conn->unreliable && generator->begun && generator->now_ns >= conn->drop_ns &&
            !generator_made_all(generator)) {
            conn_drop(generator, conn);
        } else if (silent_ns > SILENT_LOST_S * CONN_SECOND_NS) {
            conn_lost(generator, conn, "the server has been silent for a minute");
        } else if (generator->now_ns - conn->last_out_ns > SILENT_PING_S * CONN_SECOND_NS ||
                   (silent_ns > SILENT_PING_S * CONN_SECOND_NS &&
                    generator->now_ns - conn->last_out_ns > CONN_SECOND_NS)) {
            conn->ping_due = true;
            conn_pump(generator, conn);
        }
        break;
    }
}

void conn_goodbye(struct mr_generator *generator, struct conn *conn)
{
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT, .reason = MR_MQTT_SUCCESS};
    uint8_t bytes[32];
    size_t sent = 0;

    if (conn->state == CONN_UP && conn->outbox.part == 0) {
        ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        (void)!mr_socket_write(conn->fd, bytes, (size_t)len, &sent); /* a courtesy only */
    }
    if (conn->fd >= 0) {
        mr_loop_remove(generator->loop, conn->fd);
        mr_socket_close(conn->fd);
        conn->fd = -1;
    }
}
