/* bench.h - what the measuring programs share: clocks, options, the event, MQTT.
 *
 * The programs of this folder are the yardstick, so they share nothing with what
 * they measure: they frame MQTT themselves and call the kernel themselves.  From
 * the product they take only helpers that are not on any measured path (memory,
 * assertions, the histogram, murmur2, which has the Java client's vectors).
 *
 * Each program prints one JSON object on stdout; messages go to stderr.
 *
 * Thread: one, unless a program says otherwise.
 * Memory: taken at start and left to the end of the process.
 */
#ifndef MR_BENCH_BENCH_H
#define MR_BENCH_BENCH_H

#include "app/load/histogram.h"
#include "base/bytes.h"

#include <stdio.h>

/* ---- clocks (bench_common.c) ---- */

int64_t bench_mono_ns(void);
int64_t bench_wall_ns(void);
int64_t bench_cpu_ns(void); /* of this process, all threads, user and kernel */

/* On-CPU nanoseconds of all threads of `pid` (schedstat, not ticks), 0 if unknown. */
uint64_t bench_process_cpu_ns(uint64_t pid);

/* ---- options ---- */

enum bench_option_type { BENCH_U64, BENCH_TEXT, BENCH_FLAG };

struct bench_option {
    const char *name; /* without dashes; NULL ends the table */
    enum bench_option_type type;
    void *into;       /* uint64_t, const char * or bool, holding the default */
    const char *help; /* one sentence */
};

/* Fill from the command line, or end the process: with the table on --help, with
 * a message and 64 on a mistake.
 */
void bench_options(int argc, char **argv, const char *about, const struct bench_option *table);

/* A message "<program>: ..." on stderr, and the end of the process with 1. */
_Noreturn void bench_fail(const char *fmt, ...) MR_PRINTF(1, 2);

/* `errno` in words, for bench_fail(). */
const char *bench_cause(void);

/* True after SIGINT or SIGTERM, once bench_stop_on_signals() was called; blocking
 * calls then end with EINTR.
 */
void bench_stop_on_signals(void);
bool bench_stopped(void);

/* As many descriptors as the hard limit allows; ends the process below `needed`. */
void bench_descriptors(uint64_t needed);

/* ---- results ---- */

struct bench_json {
    FILE *file;
    bool any;
};

/* {"bench": "<name>", ... } with one member per call. */
struct bench_json bench_json_open(const char *name);
void bench_json_u64(struct bench_json *json, const char *key, uint64_t value);
void bench_json_number(struct bench_json *json, const char *key, double value);
void bench_json_text(struct bench_json *json, const char *key, const char *value);
/* <key>_us_p50, _p99, _p999, _max */
void bench_json_histogram(struct bench_json *json, const char *key,
                          const struct mr_histogram *histogram);
void bench_json_close(struct bench_json *json);

/* ---- the event: 100 bytes of JSON by default (bench_event.c) ---- */

/* {"d":1000012,"s":1000000001,"t":1700000000000000000,"v":21.50,"x":"abc..."}
 *
 * Fixed places, so that an event is made by overwriting three numbers and read
 * without a JSON parser.  The numbers begin at 1000000 and 1000000000 because JSON
 * forbids leading zeroes.
 */
enum {
    BENCH_DEVICE_AT = 5,
    BENCH_DEVICE_DIGITS = 7,
    BENCH_SEQ_AT = 17,
    BENCH_SEQ_DIGITS = 10,
    BENCH_TIME_AT = 32,
    BENCH_TIME_DIGITS = 19,
    BENCH_EVENT_MIN = 68,
    BENCH_EVENT_MAX = 65536,
    BENCH_DEVICES_MAX = 1000000,
};
#define BENCH_DEVICE_BASE UINT64_C(1000000)
#define BENCH_SEQ_BASE UINT64_C(1000000000)

/* What was sent, as a device would say it. */
struct bench_event {
    uint64_t device;
    uint64_t seq;    /* 1, 2, 3, ... per device */
    int64_t wall_ns; /* when it was sent, or should have been (open loop) */
};

/* Write a whole event of `bytes` (BENCH_EVENT_MIN to BENCH_EVENT_MAX). */
void bench_event_write(uint8_t *at, size_t bytes, const struct bench_event *event);

/* False: not an event of ours. */
bool bench_event_read(const uint8_t *at, size_t bytes, struct bench_event *out);

/* `digits` decimal digits of `value`, leading zeroes kept. */
void bench_digits_write(uint8_t *at, unsigned digits, uint64_t value);

/* Add 1 to `digits` decimal digits in place; cheaper than writing them. */
static inline void bench_digits_next(uint8_t *at, unsigned digits)
{
    unsigned i = digits - 1;

    while (at[i] == '9') {
        at[i] = '0';
        mr_assert(i > 0);
        i -= 1;
    }
    at[i] = (uint8_t)(at[i] + 1);
}

/* The client id (and Kafka key) of a device: "dev<device>".  Returns its length. */
size_t bench_client_id(char *into, size_t size, uint64_t device);

/* ---- MQTT 3.1.1, the client's side (bench_mqtt.c) ---- */

/* A connected, blocking socket with TCP_NODELAY to 127.0.0.1:port; ends the process without. */
int bench_mqtt_dial(uint16_t port);

/* Write a CONNECT with clean session and no keep-alive; returns its bytes. */
size_t bench_mqtt_connect_packet(uint8_t *at, size_t size, const char *client_id);

/* Connect to 127.0.0.1:port and do CONNECT/CONNACK; ends the process if it does
 * not work.  The descriptor is non-blocking with TCP_NODELAY afterwards.
 */
int bench_mqtt_connect(uint16_t port, const char *client_id);

/* Write a QoS 1 PUBLISH with packet id 0 and a payload of zeroes.  Returns the
 * whole packet's bytes; *id_at and *payload_at are places inside it.
 */
size_t bench_mqtt_publish(uint8_t *at, size_t size, const char *topic, size_t payload_bytes,
                          size_t *id_at, size_t *payload_at);

/* Packet ids go round 1..BENCH_IDS; before the first one `id` is 0. */
enum { BENCH_IDS = 60000 };

static inline uint16_t bench_id_next(uint16_t id)
{
    return id == BENCH_IDS ? 1 : (uint16_t)(id + 1);
}

/* Where the acknowledgements of one connection stand in the byte stream. */
struct bench_acks {
    uint64_t acked;  /* PUBACKs so far, in the order of their PUBLISHes */
    uint16_t id;     /* of the last one */
    uint8_t part[4]; /* the beginning of one that is not complete */
    uint32_t part_len;
};

/* Count the PUBACKs in `bytes`.  False: something else came, or out of order
 * ([MQTT-4.6.0-2]).
 */
bool bench_acks_take(struct bench_acks *acks, const uint8_t *bytes, size_t len);

#endif
