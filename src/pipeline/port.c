/* port.c - the pipeline's side of plugin/sink.h: verdicts, wakes, up and down.
 *
 * Any thread may call in here.  A verdict of DONE is one atomic subtraction and,
 * for the last record of a span, a ring; everything else takes the mutex and is
 * rare.
 */
#include "pipeline/bridge_internal.h"

#include "base/hash.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>

void mr_port_error(struct mr_bridge *b, const char *text)
{
    mr_mutex_lock(&b->mutex);
    snprintf(b->last_error, sizeof(b->last_error), "%s", text);
    mr_mutex_unlock(&b->mutex);
}

/* The flags are set before `left` falls, so whoever sees the count sees them. */
void mr_port_fail(struct mr_bridge *b, struct flight *flight, enum mr_verdict verdict,
                  const char *reason)
{
    if (verdict == MR_VERDICT_SUSPECT) {
        uint64_t seq = atomic_load(&b->suspect_seq);
        while (seq < flight->batch.seq_last &&
               !atomic_compare_exchange_weak(&b->suspect_seq, &seq, flight->batch.seq_last)) {
        }
        atomic_store(&flight->suspect, true);
    }
    atomic_store(&flight->failed, true);
    mr_mutex_lock(&b->mutex);
    if (reason != NULL && b->fail_reason[0] == '\0') {
        snprintf(b->fail_reason, sizeof(b->fail_reason), "%s", reason);
    }
    mr_mutex_unlock(&b->mutex);
    atomic_store(&b->failing, true);
}

/* `count` records have their verdict; `done` of them, the target has. */
void mr_port_settled(struct flight *flight, uint32_t count, uint32_t done)
{
    uint32_t left = (uint32_t)atomic_fetch_sub_explicit(
        &flight->verdicts, count - done * VERDICT_DONE, memory_order_acq_rel);

    mr_assert(left >= count); /* each record is settled once */
    if (left == count) {
        mr_wake_ring(&flight->bridge->wake);
    }
}

void mr_sink_settle(struct mr_sink_port *port, void *token, uint32_t count, enum mr_verdict verdict,
                    const char *reason)
{
    struct flight *flight = token;

    mr_assert(flight->bridge == port->bridge);
    if (verdict != MR_VERDICT_DONE) {
        mr_port_fail(port->bridge, flight, verdict, reason);
    }
    mr_port_settled(flight, count, verdict == MR_VERDICT_DONE ? count : 0);
}

/* The worker writes the letter, then counts the record as settled.  Without a free
 * place the record is offered again alone, which leads here once more.
 */
void mr_sink_reject(struct mr_sink_port *port, void *token, uint64_t seq, const char *reason)
{
    struct mr_bridge *b = port->bridge;
    struct flight *flight = token;
    bool taken = false;

    mr_mutex_lock(&b->mutex);
    if (b->reject_count < REJECTS_MAX) {
        struct reject *reject = &b->rejects[b->reject_count++];
        *reject = (struct reject){.flight = flight, .seq = seq};
        snprintf(reject->reason, sizeof(reject->reason), "%s", reason);
        taken = true;
    }
    mr_mutex_unlock(&b->mutex);
    if (taken) {
        mr_wake_ring(&b->wake);
    } else {
        mr_sink_settle(port, token, 1, MR_VERDICT_SUSPECT, reason);
    }
}

static void port_duration(char *out, size_t size, int64_t ns)
{
    int64_t s = ns / NS_PER_S;

    if (s < 120) {
        snprintf(out, size, "%" PRId64 ".%" PRId64 " s", s, ns % NS_PER_S / (100 * NS_PER_MS));
    } else if (s < 7200) {
        snprintf(out, size, "%" PRId64 " min", s / 60);
    } else {
        snprintf(out, size, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    }
}

void mr_sink_up(struct mr_sink_port *port)
{
    struct mr_bridge *b = port->bridge;
    int64_t away_ns = 0;

    if (atomic_load_explicit(&b->up, memory_order_relaxed)) {
        return;
    }
    mr_mutex_lock(&b->mutex);
    bool changed = !atomic_exchange(&b->up, true);
    if (b->known) {
        away_ns = mr_clock_mono_ns() - b->down_since_ns;
    }
    b->known = true;
    b->said_refusal_count = 0;
    mr_mutex_unlock(&b->mutex);
    if (!changed) {
        return;
    }
    if (away_ns == 0) {
        mr_log(MR_LOG_INFO, "bridge", "%s: connected (%s)", b->name, b->options.sink->name);
        return;
    }
    char away[48];
    const struct mr_cursor *cursor = b->cursor != NULL ? b->cursor : b->main->cursor;
    port_duration(away, sizeof(away), away_ns);
    mr_log(MR_LOG_INFO, "bridge", "%s: back after %s; %" PRIu64 " records of lane %u wait", b->name,
           away, mr_lane_durable(b->lane) - mr_cursor_get(cursor), b->options.lane);
}

/* Has the log had this sentence since the target went away?  Remembers it.  A target may
 * refuse for several reasons in turn, many times a second; each is said once.
 */
static bool port_says(struct mr_bridge *b, const char *why)
{
    uint32_t hash = mr_murmur2(why, strlen(why));

    for (uint32_t i = 0; i < b->said_refusal_count; i++) {
        if (b->said_refusals[i] == hash) {
            return false;
        }
    }
    if (b->said_refusal_count == SAID_REFUSALS_MAX) {
        return false; /* the operator has enough to do; `bridge ls` shows the latest */
    }
    b->said_refusals[b->said_refusal_count++] = hash;
    return true;
}

static void port_down(struct mr_bridge *b, const char *why, bool operator_needed)
{
    mr_mutex_lock(&b->mutex);
    bool changed = !b->known || atomic_load(&b->up);
    bool other = strncmp(b->last_error, why, sizeof(b->last_error) - 1) != 0;
    bool unsaid = operator_needed && port_says(b, why);
    snprintf(b->last_error, sizeof(b->last_error), "%s", why);
    if (changed) {
        b->known = true;
        b->down_since_ns = mr_clock_mono_ns();
    }
    atomic_store(&b->up, false);
    mr_mutex_unlock(&b->mutex);
    if (changed) {
        mr_log(MR_LOG_WARN, "bridge", "%s: away: %s; events wait in the journal, retrying", b->name,
               why);
    } else if (unsaid || other) {
        mr_log(unsaid ? MR_LOG_WARN : MR_LOG_DEBUG, "bridge", "%s: still away: %s", b->name, why);
    }
}

void mr_sink_down(struct mr_sink_port *port, const char *why)
{
    port_down(port->bridge, why, false);
}

void mr_sink_refused(struct mr_sink_port *port, const char *why)
{
    port_down(port->bridge, why, true);
}

void mr_sink_wake(struct mr_sink_port *port)
{
    mr_wake_ring(&port->bridge->wake);
}

int mr_sink_wake_fd(struct mr_sink_port *port)
{
    return mr_wake_fd(&port->bridge->wake);
}

void mr_sink_tick_at(struct mr_sink_port *port, int64_t at_ns)
{
    port->bridge->tick_at_ns = at_ns;
}

void mr_sink_stop(struct mr_sink_port *port, const char *why)
{
    mr_worker_stop(port->bridge, why);
}

const char *mr_sink_journal_id(struct mr_sink_port *port)
{
    return port->bridge->journal_id;
}

uint32_t mr_sink_lane(struct mr_sink_port *port)
{
    return port->bridge->options.lane;
}

bool mr_sink_times_are_ours(struct mr_sink_port *port)
{
    return port->bridge->shaping.time == NULL;
}

uint32_t mr_sink_packet_bytes_max(struct mr_sink_port *port)
{
    return port->bridge->options.packet_bytes_max;
}

const char *mr_sink_bridge_name(struct mr_sink_port *port)
{
    return mr_bridge_identity(port->bridge);
}

const char *mr_sink_stream(struct mr_sink_port *port)
{
    return port->bridge->main == NULL ? "" : "live";
}

const char *mr_sink_gateway_name(struct mr_sink_port *port)
{
    return port->bridge->gateway_name;
}
