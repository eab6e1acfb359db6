/* generator.h - many simulated devices that publish to one MQTT server.
 *
 * For demos and for trying out a set-up, on any machine, against any server, and for
 * realistic loads of the bench (whose own bench_load costs less and does less).
 *
 *     sensors ──due by the clock──▶ outbox of a connection ──▶ server
 *                                        ▲ PUBACK               │
 *                                        └──────────────────────┘
 *
 * Open loop: with a rate, event k is due at begin + k / rate (begin: all connections
 * stand for the first time, or five seconds have passed), whatever the server
 * does, and its latency counts from then.  What cannot be sent now (window full, server
 * away) is not dropped but late: a sensor's readings come gapless and in order.
 * With rate 0 each connection publishes as fast as acknowledgements allow.
 *
 * Some devices may be unreliable: they drop their connection without a word now and
 * then, and come back.  Profiles may bend the schedule into bursts (profile.h).
 *
 * A lost connection is opened again with growing pauses; then everything that was
 * not acknowledged is sent again, in order, with DUP.  MQTT 5.0.
 *
 * Thread: one.   Memory: taken in open().
 * Time:   mr_clock_mono_ns() and mr_clock_wall_us(), read once per step.
 */
#ifndef MR_APP_LOAD_GENERATOR_H
#define MR_APP_LOAD_GENERATOR_H

#include "app/load/histogram.h"
#include "app/load/profile.h"
#include "os/loop.h"

struct mr_generator;

enum {
    MR_GENERATOR_LOGIN_MAX = 256,
    MR_GENERATOR_PREFIX_MAX = 64,
    MR_GENERATOR_SENSORS_MAX = 1000000
};

struct mr_generator_options {
    const char *address;  /* "127.0.0.1:1883"; borrowed */
    const char *prefix;   /* topics are <prefix>/<kind>/<place>/<id>; borrowed */
    const char *username; /* NULL: none; borrowed */
    const char *password; /* NULL: none; borrowed */
    enum mr_profile profile;
    uint8_t qos;          /* 0 or 1 */
    uint32_t sensors;     /* 1 to MR_GENERATOR_SENSORS_MAX */
    uint32_t connections; /* 1 to sensors */
    uint32_t window; /* unacknowledged packets per connection, at most; the server may allow less */
    uint64_t rate;   /* events per second in all; 0: as fast as possible */
    uint64_t count;  /* events in all; 0: no limit */
    uint64_t seed;
    uint64_t time_begin_s;        /* "t" of event 0, Unix; 0: now.  With a rate, or 1 ms an event */
    uint32_t disconnect_pct;      /* so many of 100 connections are unreliable */
    uint64_t disconnect_every_us; /* about so long each of them stands */
};

/* Counters since open(); sums over all connections. */
struct mr_generator_stats {
    uint64_t made;     /* events given to a connection */
    uint64_t acked;    /* QoS 1: PUBACKs; QoS 0: written to the socket */
    uint64_t resent;   /* sent again after a lost connection */
    uint64_t refused;  /* PUBACKs with an error code; counted in acked too */
    uint64_t lost;     /* connections lost */
    uint64_t dropped;  /* connections that their unreliable device dropped; not in lost */
    int64_t begin_ns;  /* when the first event was due (mono); 0: the schedule has not begun */
    uint32_t up;       /* connections that are accepted now */
    uint32_t resting;  /* those that were dropped and have not tried again */
    bool ever_up;      /* one was accepted at least once */
    char trouble[160]; /* why the last connection was lost or refused; "" if none was */
};

/* MR_ERR_CONFIG: an option is out of range, or no descriptors for so many
 * connections.  Does not connect yet: step() does.
 */
enum mr_err mr_generator_open(struct mr_generator **out, const struct mr_generator_options *options,
                              struct mr_error *why) MR_MUST_USE;

/* Do what can be done now, waiting at most `timeout_ns` for something to do; `wake`
 * ends the wait.  False: all `count` events are acknowledged, or after stop() all
 * that were made.
 */
bool mr_generator_step(struct mr_generator *generator, int64_t timeout_ns, struct mr_wake *wake);

/* Make no more events; go on stepping until what is on its way is acknowledged. */
void mr_generator_stop(struct mr_generator *generator);

void mr_generator_stats(const struct mr_generator *generator, struct mr_generator_stats *out);

/* PUBACK latencies: of the whole run, and since the last mr_generator_interval(). */
const struct mr_histogram *mr_generator_latency(const struct mr_generator *generator);
const struct mr_histogram *mr_generator_interval(const struct mr_generator *generator);
void mr_generator_interval_clear(struct mr_generator *generator);

/* Say DISCONNECT on every connection and free everything. */
void mr_generator_close(struct mr_generator *generator);

#endif
