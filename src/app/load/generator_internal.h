/* generator_internal.h - what generator.c and generator_conn.c share.
 *
 *     generator.c       which event is due when, on which connection; counters
 *     generator_conn.c  one connection: connect, CONNACK, PUBLISH, PUBACK, ping, again
 */
#ifndef MR_APP_LOAD_GENERATOR_INTERNAL_H
#define MR_APP_LOAD_GENERATOR_INTERNAL_H

#include "app/load/generator.h"
#include "app/load/outbox.h"
#include "codec/mqtt.h"

enum {
    GENERATOR_INPUT_BYTES = 64 * 1024,
    GENERATOR_OUTPUT_BYTES = 64 * 1024,
    GENERATOR_PART_MAX = 1024, /* largest packet a server may send us; CONNACK is the largest */
    GENERATOR_KEEP_ALIVE_S = 60,
    GENERATOR_OPENING_MAX = 256, /* connects under way at once: a listen backlog is finite */
};

enum conn_state {
    CONN_DOWN,     /* waits for retry_ns */
    CONN_OPENING,  /* TCP connect under way */
    CONN_GREETING, /* CONNECT sent, CONNACK awaited */
    CONN_UP,
};

struct conn {
    int fd; /* -1 when DOWN */
    uint8_t state;
    bool blocked;      /* the socket takes no more: MR_READY_WRITE is watched */
    bool unreliable;   /* drops its connection now and then */
    bool resting;      /* has done so, and waits for retry_ns */
    bool ping_due;     /* a PINGREQ is to be written before the next packet begins */
    uint32_t attempts; /* failed ones in a row */
    uint32_t window;   /* what the server allows, at most ours */
    uint16_t part_len;
    int64_t retry_ns;
    int64_t drop_ns; /* UP and unreliable: when it will drop its connection */
    int64_t last_in_ns;
    int64_t last_out_ns;
    uint64_t made; /* events of this connection so far */
    uint64_t due;  /* of them, how many the clock has made due */
    struct mr_outbox outbox;
    uint8_t part[GENERATOR_PART_MAX]; /* an incomplete packet from the server */
};

struct mr_generator {
    struct mr_generator_options options;
    struct mr_generator_stats stats;
    struct mr_loop *loop;
    struct conn *conns;
    struct mr_sensor *sensors;
    struct mr_rng jitter;
    uint8_t *input;  /* one read, behind room for a kept part */
    uint8_t *output; /* one write */
    int64_t now_ns;
    int64_t wall_offset_us; /* wall = mono / 1000 + this */
    int64_t open_ns;        /* of the first step */
    int64_t begin_ns;       /* when event 0 was due; only when begun */
    int64_t next_look_ns;   /* for time-outs and retries */
    uint64_t next_event;    /* the next that the clock makes due */
    uint32_t opening;
    bool begun;
    bool stopped;
    struct mr_histogram latency;
    struct mr_histogram interval;
};

/* ---- generator.c ---- */

/* Encode the connection's next event into its outbox.  False: none is due, or there
 * is no room.
 */
bool generator_make(struct mr_generator *generator, struct conn *conn);
bool generator_made_all(const struct mr_generator *generator); /* nothing more will be due */
void generator_acked(struct mr_generator *generator, int64_t due_ns);
void generator_client_id(const struct mr_generator *generator, const struct conn *conn,
                         struct mr_text *out);

/* ---- generator_conn.c ---- */

void conn_open(struct mr_generator *generator, struct conn *conn);
void conn_ready(struct mr_generator *generator, struct conn *conn, uint32_t what);
void conn_pump(struct mr_generator *generator, struct conn *conn); /* make and send */
void conn_look(struct mr_generator *generator, struct conn *conn); /* retry, ping, time-out */
void conn_goodbye(struct mr_generator *generator, struct conn *conn);

#endif
