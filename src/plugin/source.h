/* source.h - what a source promises the gateway.
 *
 * A source brings events in: an upstream broker, an OPC UA server, a Kafka topic.
 * (MQTT listeners are the broker's own and do not pass here.)
 *
 * THE RULE, the mirror of sink.h: a source may tell its upstream "I have it" only
 * when ack() says so, never when take() returns.  take() hands an event over;
 * ack() comes when the journal has it on disk.
 *
 *     upstream ─▶ mr_source_take(event, token) ─▶ lane
 *     upstream ◀── ack(token) ◀── durable_seq ──── commit
 *
 * Thread: a source runs on the shard that owns its lane; poll() and ack() are
 *         called there and must not block.
 * Memory: the event's bytes are the source's until take() returns.
 * Time:   poll() at most a millisecond at a time.
 */
#ifndef MR_PLUGIN_SOURCE_H
#define MR_PLUGIN_SOURCE_H

#include "base/span.h"
#include "config/option.h"

struct mr_source_port; /* the gateway's side; opaque here */

struct mr_source_event {
    struct mr_span client; /* who, as the order of events is promised per client */
    struct mr_span topic;
    struct mr_span payload;
    struct mr_span properties; /* MQTT 5 form; may be empty */
    int64_t source_time_us;    /* by the source's clock; 0: unknown */
    uint8_t qos;
    bool retain;
};

struct mr_source_ops {
    const char *name;
    size_t state_size;
    size_t conf_size;
    const struct mr_option *options;

    enum mr_err (*init)(void *state, const void *conf, struct mr_source_port *port,
                        struct mr_error *why);
    enum mr_err (*open)(void *state, struct mr_error *why);

    /* Do what is due; returns in how many ns to be called again (-1: when woken). */
    int64_t (*poll)(void *state, int64_t now_ns);

    /* Everything taken with a token at or below this one is durable: acknowledge
     * upstream.  Tokens come back in the order they were given. */
    void (*ack)(void *state, uint64_t token);

    void (*close)(void *state);
    void (*fini)(void *state);
};

/* Hand one event over.  MR_OK: it is in the journal's memory; ack(token) follows
 * when it is on disk.  FULL: not taken; offer it again when poll is next called.
 * REJECT: it can never be taken (too large, impossible topic).
 */
enum mr_err mr_source_take(struct mr_source_port *port, const struct mr_source_event *event,
                           uint64_t token) MR_MUST_USE;

/* Ask for poll() soon, from any thread. */
void mr_source_wake(struct mr_source_port *port);

#endif
