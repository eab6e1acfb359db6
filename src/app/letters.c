/* letters.c - dead letters of a running gateway: retried, or dropped.
 *
 * DESIGN
 *
 *     files of the dead letters ─▶ a batch ─▶ noted as meant (the bridge does it)
 *        ─▶ append to the lane (the shard does it) ─▶ durable
 *        ─▶ the letters are taken out (the bridge does it) ─▶ next batch
 *
 * A retried letter is appended to the journal as what it is: a dead letter record, which
 * carries the name of its bridge.  Its bridge delivers it like an event that has just
 * come; the others pass it over.  A letter is taken out only when its copy is durable.  A crash in
 * between leaves it where it was; the note tells the next start where to look for its copy, and it
 * is taken out then (letters_resume.c).
 *
 * The letters are read from the files, as the tools do; the bridge's own reader is busy
 * with its own place.
 */
#include "app/gateway_internal.h"

#include "app/cli/walk.h"
#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>

enum { BATCH_LETTERS = 256, BATCH_BYTES = 1 << 20 };

static const int64_t room_patience_ns = INT64_C(5000000000);
static const int64_t look_again_ns = 2000000;

struct batch {
    struct mr_record_raw records[BATCH_LETTERS];
    struct mr_seq_range seqs[BATCH_LETTERS]; /* of the letters */
    uint8_t *memory[BATCH_LETTERS];
    size_t count;
    size_t bytes;
    uint32_t lane;
};

static struct mr_span keep(uint8_t **at, struct mr_span span)
{
    struct mr_span copy = {.at = *at, .len = span.len};

    if (span.len != 0) {
        memcpy(*at, span.at, span.len);
    }
    *at += span.len;
    return copy;
}

static void batch_add(struct batch *batch, const struct mr_walk_event *letter)
{
    const struct mr_record_raw *raw = &letter->raw;
    size_t bytes = letter->client.len + letter->username.len + letter->topic.len +
                   raw->properties.len + raw->payload.len + raw->dead_bridge.len +
                   raw->dead_reason.len;
    uint8_t *at = mr_alloc(bytes + 1);
    struct mr_record_raw *record = &batch->records[batch->count];

    batch->memory[batch->count] = at;
    *record = *raw;
    record->client = keep(&at, letter->client);
    record->username = keep(&at, letter->username);
    record->topic = keep(&at, letter->topic);
    record->properties = keep(&at, raw->properties);
    record->payload = keep(&at, raw->payload);
    record->dead_bridge = keep(&at, raw->dead_bridge);
    record->dead_reason = keep(&at, raw->dead_reason);
    batch->seqs[batch->count] = (struct mr_seq_range){.first = letter->seq, .last = letter->seq};
    batch->count += 1;
    batch->bytes += bytes;
}

static void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        mr_free(batch->memory[i]);
    }
    batch->count = 0;
    batch->bytes = 0;
}

/* Until `seq` survives power loss. */
static enum mr_err wait_durable(struct gateway *gateway, uint32_t lane_index, uint64_t seq,
                                struct mr_wake *wake)
{
    struct mr_lane *lane = mr_journal_lane(gateway->journal, lane_index);

    while (mr_lane_durable(lane) < seq) {
        if (mr_lane_state(lane) == MR_LANE_FAILED || atomic_load(&gateway->stopping)) {
            return MR_ERR_IO; /* the next start sees which copies are there */
        }
        (void)mr_wake_wait(wake, look_again_ns);
    }
    return MR_OK;
}

/* Append the batch, in pieces if room is short; *done of it are durable. */
static enum mr_err batch_append(struct gateway *gateway, struct batch *batch, size_t *done,
                                struct mr_error *why)
{
    struct mr_wake wake;
    int64_t until_ns = mr_clock_mono_ns() + room_patience_ns;
    uint64_t seq_last = 0;
    enum mr_err err = mr_wake_open(&wake, why);

    *done = 0;
    if (err != MR_OK) {
        return err;
    }
    do {
        size_t more = 0;
        err = mr_broker_append(gateway->broker, batch->lane, &batch->records[*done],
                               batch->count - *done, &more, &seq_last);
        *done += more;
        if (err == MR_ERR_FULL) {
            (void)mr_wake_wait(&wake, look_again_ns);
        }
    } while (err == MR_ERR_FULL && mr_clock_mono_ns() < until_ns);
    if (*done != 0 && wait_durable(gateway, batch->lane, seq_last, &wake) != MR_OK) {
        err = MR_ERR_IO;
        *done = 0;
    }
    mr_wake_close(&wake);
    if (err == MR_OK) {
        return MR_OK;
    }
    return mr_error_set(why, err, "%s",
                        err == MR_ERR_FULL     ? "the journal has no room now; the rest stays"
                        : err == MR_ERR_REJECT ? "a letter is larger than the journal takes now"
                                               : "the gateway is ending");
}

/* Where their copies will be looked for, if this is the last that is heard of us. */
static enum mr_err batch_mean(struct gateway *gateway, struct mr_bridge *bridge,
                              const struct batch *batch, struct mr_error *why)
{
    uint64_t seq = mr_lane_durable(mr_journal_lane(gateway->journal, batch->lane));

    return mr_bridge_letters_retry(bridge, batch->seqs, batch->count, batch->lane, seq, why);
}

static enum mr_err batch_send(struct gateway *gateway, struct mr_bridge *bridge,
                              struct batch *batch, bool retry, uint64_t *count,
                              struct mr_error *why)
{
    struct mr_error out_why = {.text = ""};
    size_t done = batch->count;
    enum mr_err err = retry ? batch_mean(gateway, bridge, batch, why) : MR_OK;

    if (retry && err == MR_OK) {
        err = batch_append(gateway, batch, &done, why);
    } else if (err != MR_OK) {
        done = 0;
    }
    enum mr_err out =
        done == 0 ? MR_OK : mr_bridge_letters_done(bridge, batch->seqs, done, &out_why);

    if (out == MR_OK) {
        *count += done;
    } else if (err == MR_OK) {
        err = mr_error_set(why, out, "%s%s", out_why.text,
                           retry ? " (they were appended; the next start takes them out)" : "");
    }
    batch_clear(batch);
    return err;
}

bool mr_letters_among(const struct mr_seq_range *ranges, size_t count, uint64_t seq)
{
    for (size_t i = 0; i < count; i++) {
        if (seq >= ranges[i].first && seq <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

/* Which letters, of those that the operator named; a request that comes again names some that are
 * gone.
 */
struct wanted {
    const struct mr_seq_range *ranges;
    size_t count;
    struct mr_seq_range *gone;
    size_t gone_count;
};

static bool is_wanted(const struct wanted *wanted, const struct mr_walk_event *letter)
{
    return letter->raw.type == MR_RECORD_DEAD_LETTER &&
           mr_letters_among(wanted->ranges, wanted->count, letter->seq) &&
           !mr_letters_among(wanted->gone, wanted->gone_count, letter->seq);
}

/* Dead letters keep the lane they came from, as long as there is such a lane. */
static uint32_t lane_of(struct gateway *gateway, const struct mr_walk_event *letter)
{
    return letter->raw.dead_lane % mr_journal_lane_count(gateway->journal);
}

static enum mr_err letters_walk(struct gateway *gateway, struct mr_bridge *bridge,
                                struct mr_walk *walk, const struct wanted *wanted, bool retry,
                                uint64_t *count, struct mr_error *why)
{
    struct batch *batch = mr_alloc(sizeof(*batch));
    struct mr_walk_damage damage;
    struct mr_walk_event letter;
    bool torn = false;
    enum mr_err err = MR_OK;

    while (err == MR_OK) {
        enum mr_err step = mr_walk_next(walk, &letter, &damage, why);
        if (step == MR_ERR_AGAIN) { /* they may stand behind damage in the newest segment too */
            step = mr_walk_tail(walk, &damage, &torn);
        }
        if (step == MR_ERR_CORRUPT) {
            continue; /* `dlq show` and verify tell of it */
        }
        if (step != MR_OK) {
            err = step == MR_ERR_AGAIN ? MR_OK : step;
            break;
        }
        if (!is_wanted(wanted, &letter)) {
            continue;
        }
        bool full = batch->count == BATCH_LETTERS || batch->bytes >= BATCH_BYTES;
        if (batch->count != 0 && (full || batch->lane != lane_of(gateway, &letter))) {
            err = batch_send(gateway, bridge, batch, retry, count, why);
        }
        batch->lane = lane_of(gateway, &letter);
        batch_add(batch, &letter);
    }
    if (err == MR_OK && batch->count != 0) {
        err = batch_send(gateway, bridge, batch, retry, count, why);
    }
    batch_clear(batch);
    mr_free(batch);
    return err;
}

enum mr_err mr_letters_handle(struct gateway *gateway, struct mr_bridge *bridge,
                              const struct mr_seq_range *ranges, size_t range_count, bool retry,
                              uint64_t *count, struct mr_error *why)
{
    struct mr_bridge_stats stats;
    struct mr_walk *walk = NULL;
    char name[MR_CURSOR_NAME_MAX + 32];
    char path[GATEWAY_PATH_BYTES];
    struct mr_text text = mr_text_over(name, sizeof(name));
    struct wanted wanted = {.ranges = ranges, .count = range_count};
    uint64_t first = UINT64_MAX;

    *count = 0;
    for (size_t i = 0; i < range_count; i++) {
        first = ranges[i].first < first ? ranges[i].first : first;
    }
    mr_bridge_stats(bridge, &stats);
    mr_text_fmt(&text, "dead-letters/%s/lane-00", stats.name);
    mr_gateway_path(gateway, name, path);
    enum mr_err err = mr_letters_resume(gateway, bridge, why);
    if (err == MR_OK) {
        err = mr_bridge_letters_gone(bridge, &wanted.gone, &wanted.gone_count, why);
    }
    if (err == MR_OK) {
        err = mr_walk_open(&walk, path, first, why);
    }
    if (err == MR_OK) {
        err = letters_walk(gateway, bridge, walk, &wanted, retry, count, why);
    }
    mr_free(wanted.gone);
    if (walk == NULL) {
        return err;
    }
    mr_walk_close(walk);
    mr_log(MR_LOG_INFO, "bridge", "%s: %" PRIu64 " dead letters were %s, as the operator said",
           stats.name, *count, retry ? "appended again" : "dropped");
    return err;
}
