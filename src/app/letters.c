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
 *
 * What was appended cannot be taken back.  So a disk without room is waited for; only the end of
 * the gateway is not kept waiting, and the letters of the last batch are then as behind a crash.
 * The operator is told of how many that is so.
 */
#include "app/gateway_internal.h"

#include "app/cli/walk.h"
#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>

enum { BATCH_LETTERS = 256, BATCH_BYTES = 1 << 20 };

static const int64_t room_patience_ns = INT64_C(5000000000);
static const int64_t look_again_ns = 2000000;

/* What was asked, and what has become of it. */
struct handling {
    struct gateway *gateway;
    struct mr_bridge *bridge;
    bool retry;
    uint64_t done;
    uint64_t open; /* appended, and not taken out: it is found out later which copies are durable */
};

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

static bool is_ending(const struct handling *handling)
{
    return atomic_load(&handling->gateway->stopping);
}

static enum mr_err say_ending(struct mr_error *why)
{
    return mr_error_set(why, MR_ERR_AGAIN,
                        "the gateway is ending; try again when it has been started");
}

/* Until `seq` survives power loss. */
static enum mr_err wait_durable(const struct handling *handling, uint32_t lane_index, uint64_t seq,
                                struct mr_wake *wake, struct mr_error *why)
{
    struct mr_lane *lane = mr_journal_lane(handling->gateway->journal, lane_index);

    while (mr_lane_durable(lane) < seq) {
        if (mr_lane_state(lane) == MR_LANE_FAILED) {
            return mr_error_set(why, MR_ERR_IO, "%s", mr_lane_state_text(lane));
        }
        if (is_ending(handling)) {
            return say_ending(why);
        }
        (void)mr_wake_wait(wake, look_again_ns);
    }
    return MR_OK;
}

static enum mr_err say_refused(const struct batch *batch, size_t at, enum mr_err err,
                               struct mr_error *why)
{
    switch (err) {
    case MR_ERR_FULL:
        return mr_error_set(why, err, "the journal has no room now; make room, and try again");
    case MR_ERR_REJECT:
        return mr_error_set(why, err,
                            "letter %" PRIu64 " is larger than the journal takes now; raise "
                            "mqtt.max_packet_size, or drop it",
                            batch->seqs[at].first);
    case MR_ERR_AGAIN:
        return mr_error_set(why, err, "no descriptor is left; raise LimitNOFILE=");
    default:
        return say_ending(why); /* the shard has ended */
    }
}

/* Append the batch, in pieces if room is short; *done of it are in the lane, up to *seq_last. */
static enum mr_err batch_append(const struct handling *handling, struct batch *batch, size_t *done,
                                uint64_t *seq_last, struct mr_wake *wake)
{
    int64_t until_ns = mr_clock_mono_ns() + room_patience_ns;
    enum mr_err err = MR_OK;

    do {
        size_t more = 0;
        uint64_t seq = 0;
        err = mr_broker_append(handling->gateway->broker, batch->lane, &batch->records[*done],
                               batch->count - *done, &more, &seq);
        *done += more;
        *seq_last = more != 0 ? seq : *seq_last;
        if (err == MR_ERR_FULL) {
            (void)mr_wake_wait(wake, look_again_ns);
        }
    } while (err == MR_ERR_FULL && !is_ending(handling) && mr_clock_mono_ns() < until_ns);
    return err;
}

/* The same, and *done of it are durable when this returns; of others that were appended it is not
 * known.
 */
static enum mr_err batch_copy(struct handling *handling, struct batch *batch, size_t *done,
                              struct mr_error *why)
{
    struct mr_error cause = {.text = ""};
    struct mr_wake wake;
    size_t appended = 0;
    uint64_t seq_last = 0;
    enum mr_err err = mr_wake_open(&wake, why);

    if (err != MR_OK) {
        return err;
    }
    err = batch_append(handling, batch, &appended, &seq_last, &wake);
    if (err != MR_OK) {
        err = say_refused(batch, appended, err, why);
    }
    if (appended != 0 && wait_durable(handling, batch->lane, seq_last, &wake, &cause) != MR_OK) {
        handling->open += appended;
        appended = 0;
        *why = cause;
        err = cause.code;
    }
    mr_wake_close(&wake);
    *done = appended;
    return err;
}

/* Where their copies will be looked for, if this is the last that is heard of us. */
static enum mr_err batch_mean(const struct handling *handling, const struct batch *batch,
                              struct mr_error *why)
{
    uint64_t seq = mr_lane_durable(mr_journal_lane(handling->gateway->journal, batch->lane));

    return mr_bridge_letters_retry(handling->bridge, batch->seqs, batch->count, batch->lane, seq,
                                   why);
}

static enum mr_err batch_send(struct handling *handling, struct batch *batch, struct mr_error *why)
{
    struct mr_error out_why = {.text = ""};
    size_t done = handling->retry ? 0 : batch->count;
    enum mr_err err = handling->retry ? batch_mean(handling, batch, why) : MR_OK;

    if (handling->retry && err == MR_OK) {
        err = batch_copy(handling, batch, &done, why);
    }
    enum mr_err out =
        done == 0 ? MR_OK : mr_bridge_letters_done(handling->bridge, batch->seqs, done, &out_why);

    if (out == MR_OK) {
        handling->done += done;
    } else {
        handling->open += handling->retry ? done : 0;
        *why = out_why;
        err = out;
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

static enum mr_err letters_walk(struct handling *handling, struct mr_walk *walk,
                                const struct wanted *wanted, struct mr_error *why)
{
    struct batch *batch = mr_alloc(sizeof(*batch));
    struct mr_walk_damage damage;
    struct mr_walk_event letter;
    bool torn = false;
    enum mr_err err = MR_OK;

    while (err == MR_OK) {
        if (is_ending(handling)) {
            err = say_ending(why);
            break;
        }
        enum mr_err step = mr_walk_next(walk, &letter, &damage, why);
        if (step == MR_ERR_AGAIN) { /* they may stand behind damage in the newest segment too */
            step = mr_walk_tail(walk, &damage, &torn, why);
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
        uint32_t lane = lane_of(handling->gateway, &letter);
        bool full = batch->count == BATCH_LETTERS || batch->bytes >= BATCH_BYTES;
        if (batch->count != 0 && (full || batch->lane != lane)) {
            err = batch_send(handling, batch, why);
        }
        batch->lane = lane;
        batch_add(batch, &letter);
    }
    if (err == MR_OK && batch->count != 0) {
        err = batch_send(handling, batch, why);
    }
    batch_clear(batch);
    mr_free(batch);
    return err;
}

static enum mr_err handle(struct handling *handling, const char *name, struct wanted *wanted,
                          struct mr_error *why)
{
    struct mr_walk *walk = NULL;
    char folder[MR_CURSOR_NAME_MAX + 32];
    char path[GATEWAY_PATH_BYTES];
    struct mr_text text = mr_text_over(folder, sizeof(folder));
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; i < wanted->count; i++) {
        first = wanted->ranges[i].first < first ? wanted->ranges[i].first : first;
    }
    mr_text_fmt(&text, "dead-letters/%s/lane-00", name);
    mr_gateway_path(handling->gateway, folder, path);
    enum mr_err err = mr_letters_resume(handling->gateway, handling->bridge, why);
    if (err == MR_OK) {
        err = mr_bridge_letters_gone(handling->bridge, &wanted->gone, &wanted->gone_count, why);
    }
    if (err == MR_OK) {
        err = mr_walk_open(&walk, path, first, why);
    }
    if (err == MR_OK) {
        err = letters_walk(handling, walk, wanted, why);
    }
    mr_walk_close(walk);
    mr_free(wanted->gone);
    return err;
}

/* The operator hears it and the log: what was done, what was not, and why. */
static enum mr_err say_half(const struct handling *handling, const char *name, struct mr_error *why)
{
    const struct mr_error cause = *why;
    char open[128] = "";
    struct mr_text text = mr_text_over(open, sizeof(open));

    if (handling->open != 0) {
        mr_text_fmt(&text,
                    " of %" PRIu64 " more the next start, or retry, finds out whether they were, "
                    "and takes those out;",
                    handling->open);
    }
    (void)mr_error_set(
        why, cause.code, "%" PRIu64 " of the dead letters were %s;%s the others stay: %s",
        handling->done, handling->retry ? "appended again" : "dropped", open, cause.text);
    mr_log(MR_LOG_WARN, "bridge", "%s: %s", name, why->text);
    return cause.code;
}

enum mr_err mr_letters_handle(struct gateway *gateway, struct mr_bridge *bridge,
                              const struct mr_seq_range *ranges, size_t range_count, bool retry,
                              uint64_t *count, struct mr_error *why)
{
    struct handling handling = {.gateway = gateway, .bridge = bridge, .retry = retry};
    struct wanted wanted = {.ranges = ranges, .count = range_count};
    struct mr_bridge_stats stats;

    mr_bridge_stats(bridge, &stats);
    enum mr_err err = handle(&handling, stats.name, &wanted, why);
    *count = handling.done;
    if (err != MR_OK) {
        return say_half(&handling, stats.name, why);
    }
    mr_log(MR_LOG_INFO, "bridge", "%s: %" PRIu64 " dead letters were %s, as the operator said",
           stats.name, *count, retry ? "appended again" : "dropped");
    return MR_OK;
}
