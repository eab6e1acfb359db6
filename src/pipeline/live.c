/* live.c - drain: live_first, fresh events ahead of a backlog.
 *
 *     ONE ── older than live_after, the target is there ─▶ nothing new, until nothing is in
 *      ▲     flight ─▶ a second position behind the newest record ─▶ TWO
 *      └── the second worker has ended, its books are taken over ◀── the backlog is through
 *      └── FENCING: the target has ended what the second one had under way ◀── a seek
 *
 * DESIGN
 *
 * The second position has a worker of its own: another bridge of the same configuration, with
 * its own thread, reader, sink and cursor.  So each of the two streams is in order, is
 * repeated after its own failures only, and is exactly once by its own position in the
 * target, and nothing of what makes it so had to learn that there are two.
 *
 * The first worker decides when there are two and when one.  It touches the second only while
 * that one is idle or has ended; the state that says so is handed over with release and
 * acquire.  Begin and end are one write of the first one's cursor (journal/live.h), done while
 * neither has anything in flight; so a crash finds two positions or one, both right.
 *
 * A seek ends the second position at once, also while the target is away or has not been asked
 * yet; then a transaction of it may still be under way there.  Behind the place that was sought all
 * comes again, so that one must not be applied later, among what is newer, nor hold readers until
 * the target gives it up.  So the second worker opens its sink once more, which makes the target
 * end it, before the first one tells its own position and delivers.  Until then the first one's
 * cursor leads, on disk, and so a start behind a crash does the same.
 *
 * What is in flight when the target comes back goes first, as far as it is settled soon, and
 * else is taken back and comes again: all that is delivered behind fresh events is marked.
 *
 * There are never more than two.  If the target goes away again, each worker waits at its own
 * position, and fresh events of that time come behind those before them, in order.
 *
 * With `drain: ordered` put into the configuration meanwhile, the second worker offers nothing
 * more, the backlog has no limit, and when it is through there is one position again.
 *
 * The backlog's rate is a bucket of tokens that holds a tenth of a second.
 *
 * Rejected: two readers in one worker.  Flights, failures, isolation, positions and letters
 * would each have to be had twice, in code that is the product's promise.
 * Rejected: a rate that adapts to what the target takes.  What a slow line carries in the end
 * is seen late, in its buffers; as many as fresh ones come is known at once.
 *
 * INVARIANTS
 *
 *   (1) from <= what the second worker has settled; the first never passes `from` while open.
 *   (2) When open, all that the first one offers is marked; else nothing is.
 *   (3) The second worker's sink is open only while it runs, is ending or fencing.
 *   (4) While it is fencing the first one's position is not placed, so nothing is delivered.
 */
#include "pipeline/bridge_internal.h"

#include "os/clock.h"

#include <inttypes.h>

enum {
    RECORDS_MIN = 1000,    /* fewer are through in no time (a small world has a bound of its own) */
    BACKFILL_LEAST = 1000, /* a second, where the rate is not given */
    BUCKET_DIVISOR = 10,   /* of a second's records */
};

static const int64_t settle_patience_ns = 2 * NS_PER_S;

static enum live_state state_of(const struct mr_bridge *worker)
{
    return (enum live_state)atomic_load_explicit(&worker->live_state, memory_order_acquire);
}

static void state_set(struct mr_bridge *worker, enum live_state state)
{
    atomic_store_explicit(&worker->live_state, (uint32_t)state, memory_order_release);
}

bool mr_live_is_held(const struct mr_bridge *b)
{
    const struct mr_bridge *first = b->main != NULL ? b->main : b;

    return mr_cursor_is_paused(first->cursor) ||
           (b->main != NULL && b->options.conf->drain != MR_DRAIN_LIVE_FIRST);
}

/* ---- the second worker ---- */

bool mr_live_is_idle(const struct mr_bridge *b)
{
    enum live_state state = state_of(b);

    return state == LIVE_IDLE || state == LIVE_ENDED;
}

bool mr_live_is_ending(const struct mr_bridge *b)
{
    enum live_state state = state_of(b);

    return state == LIVE_JOINING || state == LIVE_LEAVING || state == LIVE_FENCING;
}

bool mr_live_is_fencing(const struct mr_bridge *b)
{
    return state_of(b) == LIVE_FENCING;
}

/* All that was offered is settled, its position is known, and so the cursor is what the target
 * has.  A span that the sink did not take yet may stay.
 */
static bool has_joined(struct mr_bridge *b, int64_t now_ns)
{
    if (b->state != WORKER_FLOWING || !b->opened || !mr_position_turn(b, now_ns) ||
        !mr_flight_settled(b)) {
        return false;
    }
    return b->flight_tail == b->flight_head || !mr_flight_at(b, b->flight_tail)->submitted;
}

/* Nothing is in flight, or it had its time. */
static bool has_left(struct mr_bridge *b, int64_t now_ns)
{
    b->live.since_ns = b->live.since_ns == 0 ? now_ns : b->live.since_ns;
    return mr_flight_settled(b) || now_ns - b->live.since_ns >= settle_patience_ns;
}

/* The target has said where it is: nothing older happens any more.  Who is stopped cannot ask. */
static bool has_fenced(const struct mr_bridge *b)
{
    return b->state == WORKER_STOPPED || (b->opened && b->position.state == POSITION_FOUND);
}

static bool has_ended(struct mr_bridge *b, int64_t now_ns)
{
    switch (state_of(b)) {
    case LIVE_JOINING:
        return has_joined(b, now_ns);
    case LIVE_FENCING:
        return has_fenced(b);
    default:
        return has_left(b, now_ns);
    }
}

bool mr_live_ends(struct mr_bridge *b, int64_t now_ns)
{
    if (MR_LIKELY(!mr_live_is_ending(b))) {
        return false;
    }
    if (!has_ended(b, now_ns) ||
        (b->dead.journal != NULL && !mr_dead_durable(b, b->dead.seq_last))) {
        return true;
    }
    if (b->opened) {
        b->options.sink->close(b->sink_state, 0);
        b->opened = false;
    }
    mr_dead_take_rejects(b);
    (void)mr_flight_retire(b);
    mr_flight_drop_all(b);
    if (b->reader != NULL) {
        mr_reader_close(b->reader);
        b->reader = NULL;
    }
    b->live.since_ns = 0;
    state_set(b, mr_live_is_fencing(b) ? LIVE_IDLE : LIVE_ENDED);
    mr_wake_ring(&b->main->wake);
    return true;
}

/* It goes on behind `seq`, or only fences; it is idle, hence ours. */
static void worker_begin(struct mr_bridge *w, uint64_t seq, enum live_state state)
{
    w->seq_cursor = seq;
    w->seq_done = seq;
    w->epoch = 0;
    w->isolate_until = 0;
    w->attempt = 0;
    w->settled_ms = 0;
    w->pause_until_ns = 0;
    w->refused_ns = 0;
    w->blocked_until_ns = 0;
    w->position.said = false;
    atomic_store(&w->suspect_seq, 0);
    atomic_store(&w->failing, false);
    w->state = w->state == WORKER_STOPPED ? WORKER_STOPPED : WORKER_FLOWING;
    state_set(w, state);
    mr_wake_ring(&w->wake);
}

/* ---- beginning ---- */

static void live_begun(struct mr_bridge *b, struct mr_cursor *cursor)
{
    b->live.open = true;
    b->live.from = mr_cursor_live_from(cursor);
    b->live.tokens = 0;
    b->live.refilled_ns = 0;
    b->live.counted_ns = 0;
    b->live.worker->cursor = cursor;
    worker_begin(b->live.worker, mr_cursor_get(cursor), LIVE_RUNS);
}

enum mr_err mr_live_create(struct mr_bridge *b, struct mr_error *why)
{
    struct mr_cursor *cursor = NULL;
    enum mr_err err = mr_cursor_live_found(b->cursor, &cursor, why);
    bool may_come = b->options.conf->drain == MR_DRAIN_LIVE_FIRST &&
                    b->options.lane < mr_journal_lane_count(b->options.journal);

    /* A seek of the last run, or between the two, may have ended one: see DESIGN. */
    bool fences =
        cursor == NULL && b->shape.keeps_position && mr_cursor_rule(b->cursor) == MR_CURSOR_LEADS;

    if (err != MR_OK || (cursor == NULL && !may_come && !fences)) {
        return err;
    }
    err = mr_bridge_create_second(&b->live.worker, b, why);
    if (err == MR_OK && fences) {
        mr_live_fence(b);
    }
    if (err == MR_OK && cursor != NULL) {
        live_begun(b, cursor);
        mr_log(MR_LOG_INFO, "bridge",
               "%s: lane %u goes on in two places: behind record %" PRIu64 ", and with the backlog "
               "behind %" PRIu64 " up to %" PRIu64,
               b->name, b->options.lane, mr_cursor_get(cursor), b->seq_cursor, b->live.from);
    }
    return err;
}

/* Age of the oldest record that is not settled, in ms; -1: nothing is behind. */
static int64_t age_ms(struct mr_bridge *b, int64_t now_ns)
{
    if (b->flight_head == b->flight_tail && !b->view_open) {
        (void)mr_worker_read(b, now_ns); /* so that it is known */
    }
    int64_t since_ms = mr_worker_oldest_ms(b);

    return since_ms == 0 ? -1 : mr_clock_wall_us() / 1000 - since_ms;
}

static uint64_t behind(const struct mr_bridge *b)
{
    return mr_lane_durable(b->lane) - b->seq_cursor;
}

static bool is_worth_it(const struct mr_bridge *b)
{
    uint32_t least = b->options.conf->live_least;

    return behind(b) >= (least != 0 ? least : RECORDS_MIN);
}

/* An epoch that has an end ahead holds the fresh events of all lanes: no use in two. */
static bool is_far_behind(struct mr_bridge *b, int64_t now_ns)
{
    return is_worth_it(b) && b->seq_epoch_end == UINT64_MAX &&
           age_ms(b, now_ns) * 1000 >= (int64_t)b->options.conf->live_after_us;
}

static bool may_begin(const struct mr_bridge *b, int64_t now_ns)
{
    return !b->live.refused && !mr_room_is_awaited(b, now_ns) &&
           b->options.conf->drain == MR_DRAIN_LIVE_FIRST &&
           atomic_load_explicit(&b->up, memory_order_relaxed) && !atomic_load(&b->stopping) &&
           !atomic_load_explicit(&b->live.worker->stopped, memory_order_relaxed) &&
           state_of(b->live.worker) == LIVE_IDLE;
}

/* The sink holds nothing any more: from here on there are two. */
static void live_begin(struct mr_bridge *b, int64_t now_ns)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why;
    uint64_t from = mr_lane_durable(b->lane);

    enum mr_err err = mr_cursor_live_begin(b->cursor, from, &cursor, &why);
    if (err == MR_ERR_IO) {
        mr_worker_stop(b, why.text);
        return;
    }
    if (err == MR_ERR_AGAIN) {
        mr_room_missing(b, "delivers fresh events first", now_ns);
        return;
    }
    if (err != MR_OK) {
        b->live.refused = true;
        mr_log(MR_LOG_WARN, "bridge", "%s: lane %u is drained in order, not fresh events first: %s",
               b->name, b->options.lane, why.text);
        return;
    }
    mr_log(MR_LOG_INFO, "bridge",
           "%s: lane %u has %" PRIu64 " records to catch up with: from record %" PRIu64
           " on they are delivered at once, those before it follow, marked with the header '%s'",
           b->name, b->options.lane, from - b->seq_cursor, from + 1, MR_BACKFILL_HEADER);
    mr_room_found(b);
    live_begun(b, cursor);
}

/* True: something is still in flight. */
static bool live_settles(struct mr_bridge *b, int64_t now_ns)
{
    b->live.since_ns = b->live.since_ns == 0 ? now_ns : b->live.since_ns;
    if (!mr_flight_settled(b) && now_ns - b->live.since_ns < settle_patience_ns) {
        return true;
    }
    if (!mr_flight_settled(b)) {
        b->options.sink->close(b->sink_state, 0);
        b->opened = false;
        mr_dead_take_rejects(b);
    }
    return b->dead.journal != NULL && !mr_dead_durable(b, b->dead.seq_last);
}

/* While the target is away a bridge that may have two positions waits with little in flight: what
 * is goes before the fresh events when the target comes back.  It is never none, for its verdict
 * is what tells that the target is there.
 */
bool mr_live_waits(const struct mr_bridge *b)
{
    return !b->live.open && b->options.conf->drain == MR_DRAIN_LIVE_FIRST &&
           !atomic_load_explicit(&b->up, memory_order_relaxed);
}

/* ---- joining ---- */

/* Both are where the second one has come to. */
static void live_join(struct mr_bridge *b, int64_t now_ns)
{
    uint64_t seq = mr_cursor_get(b->live.worker->cursor);
    uint64_t from = b->live.from;
    enum mr_cursor_rule rule =
        b->shape.keeps_position ? MR_CURSOR_LEADS : mr_cursor_rule(b->cursor);

    if (mr_room_is_awaited(b, now_ns)) {
        return;
    }
    enum mr_err err = mr_cursor_live_end(b->cursor, seq, rule);
    if (err == MR_ERR_FULL) {
        mr_room_missing(b, "goes on in one place", now_ns);
        return;
    }
    if (err != MR_OK) {
        mr_worker_stop(b, "its cursor cannot be written");
        return;
    }
    mr_room_found(b);
    mr_live_closed(b);
    if (mr_worker_moved(b, seq) == MR_OK) {
        mr_position_moved(b);
        mr_log(MR_LOG_INFO, "bridge",
               "%s: the backlog of lane %u up to record %" PRIu64 " is delivered; it goes on "
               "behind record %" PRIu64,
               b->name, b->options.lane, from, seq);
    }
}

static bool join_turn(struct mr_bridge *b, int64_t now_ns)
{
    struct mr_bridge *w = b->live.worker;

    switch (state_of(w)) {
    case LIVE_RUNS:
        if (b->seq_cursor < b->live.from) {
            return false;
        }
        state_set(w, LIVE_JOINING);
        mr_wake_ring(&w->wake);
        return true;
    case LIVE_ENDED:
        if (b->seq_cursor < b->live.from) { /* a seek was wanted, and is not any more */
            worker_begin(w, mr_cursor_get(w->cursor), LIVE_RUNS);
            return false;
        }
        live_join(b, now_ns);
        return true;
    default:
        return b->seq_cursor >= b->live.from;
    }
}

bool mr_live_turn(struct mr_bridge *b, int64_t now_ns)
{
    if (MR_LIKELY(b->live.worker == NULL)) {
        return false;
    }
    if (b->live.open) {
        return join_turn(b, now_ns);
    }
    b->live.wanted = may_begin(b, now_ns) && (b->live.wanted || is_far_behind(b, now_ns));
    if (!b->live.wanted) {
        b->live.since_ns = 0;
        return false;
    }
    if (live_settles(b, now_ns)) {
        return true;
    }
    (void)mr_flight_retire(b);
    b->live.wanted = false;
    b->live.since_ns = 0;
    mr_flight_drop_all(b);
    if (is_worth_it(b)) { /* else that was all */
        live_begin(b, now_ns);
    }
    (void)mr_worker_rewind(b);
    return true;
}

bool mr_live_left(struct mr_bridge *b)
{
    struct mr_bridge *w = b->live.worker;

    if (MR_LIKELY(!b->live.open) || state_of(w) == LIVE_ENDED) {
        return true;
    }
    uint32_t state = (uint32_t)state_of(w);
    if (state != LIVE_LEAVING && state != LIVE_ENDED &&
        atomic_compare_exchange_strong(&w->live_state, &state, LIVE_LEAVING)) {
        mr_wake_ring(&w->wake);
    }
    return false;
}

void mr_live_closed(struct mr_bridge *b)
{
    struct mr_bridge *w = b->live.worker;

    b->live.open = false;
    w->cursor = NULL;
    state_set(w, LIVE_IDLE);
}

void mr_live_fence(struct mr_bridge *b)
{
    if (b->shape.keeps_position) {
        worker_begin(b->live.worker, mr_cursor_get(b->cursor), LIVE_FENCING);
    }
}

bool mr_live_is_fenced(const struct mr_bridge *b)
{
    return b->live.worker == NULL || !mr_live_is_fencing(b->live.worker);
}

/* ---- the backlog's rate ---- */

/* Without a number: as many as fresh ones are delivered, measured once a second. */
static uint64_t rate_now(struct mr_bridge *b, int64_t now_ns)
{
    struct live *live = &b->live;

    if (b->options.conf->backfill_rate != 0) {
        return b->options.conf->backfill_rate;
    }
    if (live->counted_ns == 0 || now_ns - live->counted_ns >= NS_PER_S) {
        uint64_t count = atomic_load_explicit(&live->worker->delivered, memory_order_relaxed);
        uint64_t elapsed_ms = (uint64_t)((now_ns - live->counted_ns) / NS_PER_MS);
        bool first = live->counted_ns == 0 || elapsed_ms == 0;
        live->per_second = first ? 0 : (count - live->counted) * 1000 / elapsed_ms;
        live->counted = count;
        live->counted_ns = now_ns;
    }
    return live->per_second > BACKFILL_LEAST ? live->per_second : BACKFILL_LEAST;
}

static bool is_unlimited(const struct mr_bridge *b)
{
    return b->options.conf->drain != MR_DRAIN_LIVE_FIRST || b->seq_epoch_end != UINT64_MAX;
}

uint32_t mr_live_allowed(struct mr_bridge *b, uint32_t records_max, int64_t now_ns)
{
    struct live *live = &b->live;

    if (atomic_load_explicit(&b->stopping, memory_order_relaxed)) {
        return 0;
    }
    if (is_unlimited(b)) {
        live->tokens = records_max;
        return records_max;
    }
    uint64_t rate = rate_now(b, now_ns);
    uint64_t most = rate / BUCKET_DIVISOR + 1;
    uint64_t elapsed_ns = live->refilled_ns == 0 ? 0 : (uint64_t)(now_ns - live->refilled_ns);
    uint64_t more = elapsed_ns > (uint64_t)NS_PER_S ? most : elapsed_ns * rate / NS_PER_S;
    if (more != 0 || live->refilled_ns == 0) {
        live->refilled_ns = now_ns;
        live->tokens = live->tokens + more < most ? live->tokens + more : most;
    }
    return live->tokens < records_max ? (uint32_t)live->tokens : records_max;
}

void mr_live_spend(struct mr_bridge *b, uint32_t count)
{
    b->live.tokens -= count < b->live.tokens ? count : b->live.tokens;
}
