/* keeper.c - what must not happen on the event path: spares, cursors, retirement.
 *
 * DESIGN
 *
 * One thread per journal makes a round at least every KEEPER_INTERVAL_MS and
 * whenever a lane has taken its spare.  A round writes the cursors that changed,
 * and per lane has a spare ready and gives back what nobody needs.
 *
 * With `when_full: drop_oldest` the oldest segment is given up for the next one, if everybody who
 * needs it may do that (drops.c).  Not before an append has found no room: as long as there is
 * any, nothing is lost.
 *
 * A segment that is settled (retire.c) is retired when `keep` is over too, or when its room is
 * needed: `keep` gives way to new events, a cursor never.
 *
 * INVARIANT
 *
 *   Files of the lane never occupy more than its max_bytes, and those of all lanes not
 *   more than the journal's, except those that were there when a smaller max_bytes, or
 *   more lanes, were configured.
 */
#include "journal/drops_internal.h"
#include "journal/keeper_internal.h"

#include "os/clock.h"

/* By then every bridge of the configuration has opened its cursor. */
static const int64_t orphans_after_ns = INT64_C(10000000000);

static const int64_t relieve_every_ns = INT64_C(1000000000);

static uint64_t lane_bytes(struct mr_lane *lane)
{
    mr_mutex_lock(&lane->mutex);
    uint64_t bytes = mr_segments_bytes(lane);
    mr_mutex_unlock(&lane->mutex);
    return bytes;
}

static uint64_t journal_bytes(struct mr_journal *journal)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < journal->lane_total; i++) {
        bytes += lane_bytes(&journal->lanes[i]);
    }
    return bytes;
}

bool mr_lane_has_spare(struct mr_lane *lane)
{
    mr_mutex_lock(&lane->mutex);
    bool has = lane->spare != NULL;
    mr_mutex_unlock(&lane->mutex);
    return has;
}

void mr_spare_publish(struct mr_lane *lane, struct segment *spare)
{
    mr_mutex_lock(&lane->mutex);
    lane->spare = spare;
    atomic_store_explicit(&lane->spare_state, SPARE_READY, memory_order_relaxed);
    mr_mutex_unlock(&lane->mutex);
    mr_lane_ring_owner(lane);
}

/* The lane whose events leave no room for another segment of `lane`: itself, or the one
 * that has most beyond its share since the number of lanes was changed.
 */
static const struct mr_lane *lane_in_the_way(struct mr_lane *lane)
{
    struct mr_journal *journal = lane->journal;
    const struct mr_lane *found = lane;
    uint64_t most = 0;

    if (lane_bytes(lane) + lane->segment_bytes > lane->max_bytes) {
        return lane;
    }
    for (uint32_t i = 0; i < journal->lane_total; i++) {
        uint64_t bytes = lane_bytes(&journal->lanes[i]);
        uint64_t share = journal->lanes[i].max_bytes;
        if (bytes > share && bytes - share > most) {
            most = bytes - share;
            found = &journal->lanes[i];
        }
    }
    return found;
}

/* Who holds the full journal, and what goes on then. */
static void say_full(struct mr_lane *lane, struct mr_error *why)
{
    const unsigned long long max_bytes = lane->max_bytes;
    struct holder holder;

    if (!mr_cursors_holder(lane->journal, lane_in_the_way(lane)->index, &holder)) {
        mr_error_set(why, MR_ERR_FULL,
                     "the journal has reached max_size (%llu bytes); use a larger one", max_bytes);
        return;
    }
    if (holder.opened) {
        mr_error_set(why, MR_ERR_FULL,
                     "the journal has reached max_size (%llu bytes): '%s' needs what is behind "
                     "record %llu; it goes on when that was delivered, or with a larger max_size",
                     max_bytes, holder.name, (unsigned long long)holder.seq);
        return;
    }
    mr_error_set(why, MR_ERR_FULL,
                 "the journal has reached max_size (%llu bytes): '%s' needs what is behind record "
                 "%llu, but there is no such bridge; configure it again, or stop the gateway and "
                 "give up what it has not delivered: millrace journal forget %s --data %s",
                 max_bytes, holder.name, (unsigned long long)holder.seq, holder.name,
                 lane->journal->folder.text);
}

/* Fill a new file, if quota and disk have the room. */
static enum spare_state spare_fill(struct mr_lane *lane, struct mr_error *why)
{
    struct segment *spare;
    uint64_t bytes_free = 0;
    enum mr_err err;

    if (lane_bytes(lane) + lane->segment_bytes > lane->max_bytes ||
        journal_bytes(lane->journal) + lane->segment_bytes > lane->journal->max_bytes) {
        lane->journal->room_wanted = true;
        say_full(lane, why);
        return SPARE_NO_QUOTA;
    }
    /* Asked first, so that a full disk is not filled and freed every round. */
    if (mr_disk_free(lane->folder.text, &bytes_free) == MR_OK && bytes_free < lane->segment_bytes) {
        mr_error_set(
            why, MR_ERR_FULL,
            "the disk that holds %s has no room for a segment of %u bytes; make room on it",
            lane->folder.text, lane->segment_bytes);
        return SPARE_NO_DISK;
    }
    err = mr_spare_create(lane, &spare, why);
    if (err == MR_ERR_FULL) {
        return SPARE_NO_DISK;
    }
    if (err == MR_ERR_AGAIN) {
        return SPARE_NO_DESCRIPTOR;
    }
    if (err != MR_OK) {
        mr_segment_leave(lane, lane->segment_bytes);
        mr_lane_fail(lane, lane->folder.text, "cannot take a new segment");
        return SPARE_PREPARING;
    }
    mr_spare_publish(lane, spare);
    return SPARE_READY;
}

/* ---- giving up the oldest ---- */

/* May the oldest segment of `lane` be given up?  *last: its last seq. */
static bool may_drop(struct mr_lane *lane, uint32_t *price, uint64_t *last)
{
    const struct segment *oldest = mr_oldest_settled(lane, mr_lane_passed(lane));
    struct holder refuser;

    if (oldest == NULL) {
        return false;
    }
    *last = oldest->seq_end - 1;
    return mr_drop_price(lane, *last, price, &refuser);
}

/* Why nothing is given up although it might be: `why` says it then. */
static void say_refuser(struct mr_lane *lane, struct mr_error *why)
{
    const struct segment *oldest = mr_oldest_settled(lane, mr_lane_passed(lane));
    struct holder refuser;
    uint32_t price;

    if (lane->journal->when_full == MR_WHEN_FULL_DROP && oldest != NULL &&
        !mr_drop_price(lane, oldest->seq_end - 1, &price, &refuser) && refuser.name[0] != '\0') {
        mr_error_set(why, MR_ERR_FULL,
                     "the journal is full, and '%s' needs what is behind record %llu and may not "
                     "drop it; it goes on when that was delivered, or with a larger max_size",
                     refuser.name, (unsigned long long)refuser.seq);
    }
}

/* Where the oldest segment goes, so that `lane` has room: in the lane itself; in the one that
 * takes more than its share; where only the disk is full, in any.  The one that costs least, the
 * highest priority of those who need it being its price.
 */
static struct mr_lane *drop_where(struct mr_lane *lane, enum spare_state state, uint64_t *last)
{
    struct mr_journal *journal = lane->journal;
    const struct mr_lane *in_the_way = lane_in_the_way(lane);
    struct mr_lane *found = NULL;
    uint32_t least = UINT32_MAX;

    for (uint32_t i = 0; i < journal->lane_total; i++) {
        struct mr_lane *other = &journal->lanes[i];
        uint64_t its_last = 0;
        uint32_t price = 0;
        bool serves = other == lane || other == in_the_way || state == SPARE_NO_DISK;

        if (serves && may_drop(other, &price, &its_last) &&
            (found == NULL || price < least || (price == least && other == in_the_way))) {
            found = other;
            least = price;
            *last = its_last;
        }
    }
    return found;
}

/* An append waits for room, or the commit does. */
static bool room_is_needed(const struct mr_lane *lane)
{
    return atomic_load_explicit(&lane->blocked, memory_order_relaxed) == BLOCKED_BY_SEGMENT ||
           atomic_load_explicit(&lane->disk_full, memory_order_relaxed);
}

/* True: a segment was given up and has been retired; look again. */
static bool drop_oldest(struct mr_lane *lane, enum spare_state state)
{
    uint64_t last = 0;

    if (lane->journal->when_full != MR_WHEN_FULL_DROP || !room_is_needed(lane)) {
        return false;
    }
    struct mr_lane *where = drop_where(lane, state, &last);
    return where != NULL &&
           mr_drop_do(where, last, state == SPARE_NO_DISK ? MR_DROP_DISK : MR_DROP_MAX_SIZE) ==
               MR_OK &&
           mr_oldest_retire(where, true, true) == MR_OK;
}

/* No spare can be made: say why to whoever asks for the lane's state. */
static void spare_missing(struct mr_lane *lane, enum spare_state state, const struct mr_error *why)
{
    mr_mutex_lock(&lane->mutex);
    struct mr_text text = mr_text_over(lane->spare_text, sizeof(lane->spare_text));
    mr_text_add(&text, why->text);
    int before = atomic_exchange_explicit(&lane->spare_state, (int)state, memory_order_relaxed);
    mr_mutex_unlock(&lane->mutex);
    if (before != (int)state) {
        mr_lane_ring_owner(lane); /* who waits for it may have something to say to others */
    }
}

/* What nobody needs might be the next segment, and the disk has no room even for that. */
static void say_no_room(struct mr_lane *lane)
{
    struct mr_error why;

    (void)mr_error_set(&why, MR_ERR_FULL,
                       "the disk that holds %s has no room even to use a segment again; make room "
                       "on it",
                       lane->folder.text);
    spare_missing(lane, SPARE_NO_DISK, &why);
}

void mr_spare_say_shortage(struct mr_lane *lane)
{
    struct mr_error why;

    (void)mr_error_set(&why, MR_ERR_AGAIN,
                       "the next segment in %s cannot be opened: %s; it is tried again until that "
                       "is over; let the service have more descriptors (LimitNOFILE=) or look who "
                       "uses up those of the machine",
                       lane->folder.text, mr_file_last_cause());
    spare_missing(lane, SPARE_NO_DESCRIPTOR, &why);
}

static void spare_keep_ready(struct mr_lane *lane, uint64_t settled, bool has_cursors)
{
    struct mr_error why = {.code = MR_OK};

    while (!mr_lane_has_spare(lane) && !atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
        struct segment *oldest = mr_oldest_settled(lane, settled);

        if (oldest != NULL && mr_keep_is_over(lane, oldest, has_cursors)) {
            enum mr_err err = mr_oldest_retire(lane, has_cursors, false);
            if (err == MR_ERR_FULL) {
                say_no_room(lane);
            }
            if (err != MR_OK) {
                return;
            }
            continue;
        }
        enum spare_state state = spare_fill(lane, &why);
        if (state == SPARE_READY) {
            return;
        }
        if (state == SPARE_NO_DESCRIPTOR) { /* which no room would bring back */
            mr_spare_say_shortage(lane);
            return;
        }
        if (oldest == NULL && drop_oldest(lane, state)) {
            continue;
        }
        if (oldest == NULL || mr_oldest_retire(lane, has_cursors, true) != MR_OK) {
            say_refuser(lane, &why);
            spare_missing(lane, state, &why);
            return;
        }
    }
}

/* A commit found no room on the disk although its segment was there (file systems that copy on
 * write, quotas).  A segment goes, and a second later another one, until it does.
 */
static void relieve_disk(struct mr_lane *lane, uint64_t settled, bool has_cursors)
{
    int64_t now_ns = mr_clock_mono_ns();

    if (lane->journal->when_full != MR_WHEN_FULL_DROP ||
        !atomic_load_explicit(&lane->disk_full, memory_order_relaxed) ||
        now_ns - lane->relieved_ns < relieve_every_ns) {
        return;
    }
    bool gone = mr_oldest_settled(lane, settled) != NULL
                    ? mr_oldest_retire(lane, has_cursors, true) == MR_OK
                    : drop_oldest(lane, SPARE_NO_DISK);
    if (gone) {
        lane->relieved_ns = now_ns;
        mr_wake_ring(&lane->commit_wake);
    }
}

static void retire_settled(struct mr_lane *lane, uint64_t settled, bool has_cursors)
{
    for (;;) {
        struct segment *oldest = mr_oldest_settled(lane, settled);
        bool over = lane->dropped ? lane->journal->room_wanted : lane_bytes(lane) > lane->max_bytes;

        if (oldest == NULL || !(over || mr_keep_is_over(lane, oldest, has_cursors)) ||
            atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
            return;
        }
        if (mr_oldest_retire(lane, has_cursors, over) != MR_OK) {
            return;
        }
    }
}

/* Files the commit thread has left for good; readers open their own. */
static void close_written(struct mr_lane *lane)
{
    for (;;) {
        struct segment *written = NULL;

        mr_mutex_lock(&lane->mutex);
        for (struct segment *s = lane->oldest; s != NULL && written == NULL; s = s->next) {
            if (s->file.fd >= 0 && s->next != NULL && s->next->on_disk) {
                written = s;
            }
        }
        mr_mutex_unlock(&lane->mutex);
        if (written == NULL) {
            return;
        }
        mr_file_close(&written->file);
        written->file.fd = -1;
    }
}

static void keep_metrics(struct mr_lane *lane)
{
    uint64_t segments = 0;

    mr_mutex_lock(&lane->mutex);
    for (const struct segment *s = lane->oldest; s != NULL; s = s->next) {
        segments += 1;
    }
    uint64_t bytes = mr_segments_bytes(lane);
    mr_mutex_unlock(&lane->mutex);
    mr_metric_set(lane->metrics.bytes, (int64_t)bytes);
    mr_metric_set(lane->metrics.max_bytes, (int64_t)lane->max_bytes);
    mr_metric_set(lane->metrics.segments, (int64_t)segments);
    mr_metric_set(lane->metrics.corrupt_ranges,
                  (int64_t)atomic_load_explicit(&lane->corrupt_ranges, memory_order_relaxed));
    mr_metric_set(lane->metrics.state, (int64_t)mr_lane_state(lane));
}

/* Bytes that the lane can still take: what its share of the journal leaves, or the disk. */
static uint64_t lane_room(struct mr_lane *lane, uint64_t held)
{
    uint64_t bytes_free = UINT64_MAX;
    uint64_t there = lane_bytes(lane);
    uint64_t quota = lane->max_bytes > held ? lane->max_bytes - held : 0;

    if (mr_disk_free(lane->folder.text, &bytes_free) != MR_OK) {
        return quota;
    }
    uint64_t disk = bytes_free + (there > held ? there - held : 0); /* what is there is recycled */
    return quota < disk ? quota : disk;
}

/* What comes when it is full. */
static const char *const measures[] = {
    [MR_WHEN_FULL_HOLD] = "nothing is acknowledged any more, publishers wait",
    [MR_WHEN_FULL_REFUSE] = "publishes are refused (MQTT 5: 0x97; 3.x waits; QoS 0 is dropped)",
    [MR_WHEN_FULL_DROP] = "the oldest events are dropped, of those who may (may_drop)",
};

/* How long the rest lasts, for whoever watches, and in the log before it is too late. */
static void keep_forecast(struct mr_lane *lane, uint64_t settled, bool has_cursors)
{
    int64_t now_ns = mr_clock_mono_ns();
    struct holder holder;

    if (!mr_forecast_is_due(&lane->forecast, now_ns)) {
        return;
    }
    uint64_t held = has_cursors ? mr_lane_bytes_behind(lane, settled) : 0;
    int64_t seconds = mr_forecast_step(&lane->forecast, now_ns, held, lane_room(lane, held));
    enum mr_forecast_news news = mr_forecast_news(&lane->forecast);

    mr_metric_set(lane->metrics.seconds_to_full, seconds);
    if (news == MR_FORECAST_WARN && mr_cursors_holder(lane->journal, lane->index, &holder)) {
        mr_log(MR_LOG_WARN, "journal",
               "%s: lane %u is full in about %lld %s at the present rate; then %s: '%s' needs what "
               "is behind record %llu",
               lane->journal->name, lane->index,
               (long long)(seconds < 120 ? seconds : seconds / 60), seconds < 120 ? "s" : "min",
               measures[lane->journal->when_full], holder.name, (unsigned long long)holder.seq);
    } else if (news == MR_FORECAST_OVER) {
        mr_log(MR_LOG_INFO, "journal", "%s: lane %u is not filling up any more",
               lane->journal->name, lane->index);
    }
}

void mr_lane_keep(struct mr_lane *lane)
{
    bool has_cursors;
    uint64_t settled = mr_lane_settled(lane, &has_cursors);

    if (!atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
        close_written(lane);
        if (!lane->dropped) {
            spare_keep_ready(lane, settled, has_cursors);
            relieve_disk(lane, settled, has_cursors);
        }
        retire_settled(lane, settled, has_cursors);
        if (!lane->dropped) {
            keep_forecast(lane, settled, has_cursors);
        }
    }
    keep_metrics(lane);
}

void mr_journal_step_keeper(struct mr_journal *journal)
{
    if (mr_cursors_write(journal) != MR_OK) {
        struct path path;

        mr_cursors_path(journal, &path);
        for (uint32_t i = 0; i < journal->lane_total; i++) {
            mr_lane_fail(&journal->lanes[i], path.text, "cannot be written");
        }
        return;
    }
    /* From the last: lanes that were dropped make room first, when it was wanted. */
    bool wanted = journal->room_wanted;
    for (uint32_t i = journal->lane_total; i > 0; i--) {
        mr_lane_keep(&journal->lanes[i - 1]);
    }
    journal->room_wanted = journal->room_wanted && !wanted;
    if (!journal->said_orphans && mr_clock_mono_ns() - journal->opened_ns > orphans_after_ns) {
        journal->said_orphans = true;
        mr_cursors_say_orphans(journal);
    }
}

void mr_keeper_run(void *arg)
{
    struct mr_journal *journal = arg;

    while (!atomic_load_explicit(&journal->stopping, memory_order_acquire)) {
        mr_journal_step_keeper(journal);
        mr_wake_wait(&journal->keeper_wake, KEEPER_INTERVAL_MS * (int64_t)NS_PER_MS);
    }
}
