/* drops.c - see drops.h; drops_file.c has the file.
 *
 * DESIGN
 *
 * A segment exists once for all bridges, so it is freed only if everybody who needs it gives it
 * up.  If one of them may not, nobody gives up anything: it would be in vain.
 *
 * The order is what makes it safe.  First the ranges are on the medium, then the cursors stop
 * holding what is in them, then the segment is retired like any other.  A crash in between finds
 * a range whose records are still there: the bridge delivers them, and its books say so, for
 * these count what happened to each record and not what was decided.
 *
 * The cursors themselves are not moved: the bridge does that, record by record.  So what it has in
 * flight stays its own, with its views and verdicts, and what its target already has is never
 * counted as dropped.
 *
 * While a bridge has two positions (live.h) each drops for itself, by the bridge's rank: the first
 * up to where the second began, the second what is behind itself.  The ranges are the bridge's, so
 * they need no care when the two become one.  What the second had delivered lies in none.
 *
 * INVARIANTS
 *
 *   (1) given_up of a cursor <= seq_last of a range of its bridge that is on the medium, and that
 *       begins no later than behind where the cursor stands: a seek in front of a range needs what
 *       lies between.
 *   (2) No two ranges of a bridge and lane touch or overlap.
 *   (3) A slot whose range goes on in another one is not written to before that is on the medium.
 */
#include "journal/drops.h"

#include "journal/drops_internal.h"
#include "journal/live.h"
#include "os/clock.h"

const struct mr_cursor_rank mr_rank_of_nobody = {.priority = 0, .may_drop = true};

const char *const mr_drop_reasons[] = {
    [0] = "unknown", [MR_DROP_MAX_SIZE] = "max_size", [MR_DROP_DISK] = "disk"};

bool mr_drop_is_of(const struct mr_drop *drop, const char *name, uint32_t lane)
{
    return drop->lane == lane && strcmp(drop->name, name) == 0;
}

/* ---- ranks ---- */

void mr_cursors_rank(struct mr_journal *journal, const char *name,
                     const struct mr_cursor_rank *rank)
{
    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && strcmp(cursor->name, name) == 0) {
            cursor->priority = rank->priority;
            cursor->never_drops = !rank->may_drop;
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}

void mr_drops_arm(struct mr_journal *journal)
{
    atomic_store(&journal->drops_armed, true);
}

/* ---- giving up ---- */

static bool has_to_drop(const struct mr_cursor *cursor, const struct mr_lane *lane, uint64_t last)
{
    return cursor->used && cursor->lane == lane && mr_cursor_holds_behind(cursor) < last;
}

/* Whose rank counts: a second position has its bridge's.  NULL: it is nobody's, and holds what it
 * holds until its slot is free.
 */
static const struct mr_cursor *ranked(const struct mr_cursor *cursor)
{
    return mr_cursor_is_live(cursor) ? atomic_load_explicit(&cursor->behind, memory_order_relaxed)
                                     : cursor;
}

/* Whoever may not drop what it needs up to `last`; NULL: everybody may.  *price: the highest
 * priority of them.  The mutex is held.
 */
static const struct mr_cursor *drop_refuser(const struct mr_lane *lane, uint64_t last,
                                            uint32_t *price)
{
    const struct mr_journal *journal = lane->journal;

    *price = 0;
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        if (!has_to_drop(cursor, lane, last)) {
            continue;
        }
        const struct mr_cursor *rank = ranked(cursor);
        if (rank == NULL || rank->never_drops || rank->name[0] == '$') {
            return cursor;
        }
        *price = rank->priority > *price ? rank->priority : *price;
    }
    return NULL;
}

bool mr_drop_price(struct mr_lane *lane, uint64_t last, uint32_t *price, struct holder *refuser)
{
    struct mr_journal *journal = lane->journal;

    refuser->name[0] = '\0';
    if (journal->drops == NULL || !atomic_load(&journal->drops_armed)) {
        return false;
    }
    mr_mutex_lock(&journal->cursor_mutex);
    const struct mr_cursor *cursor = drop_refuser(lane, last, price);
    if (cursor != NULL) {
        mr_holder_of(cursor, refuser);
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return cursor == NULL;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Do they make one range? */
static bool touches(const struct drop_slot *slot, const struct mr_drop *drop)
{
    return slot->number != 0 && !slot->replaced &&
           mr_drop_is_of(&slot->drop, drop->name, drop->lane) &&
           slot->drop.seq_last + 1 >= drop->seq_first && slot->drop.seq_first <= drop->seq_last + 1;
}

/* `drop` becomes one with those there are: it goes on from one, or its bridge was put back in front
 * of some.
 */
static void drop_widen(const struct drops *drops, struct mr_drop *drop)
{
    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        const struct mr_drop *other = &drops->slots[i].drop;
        if (touches(&drops->slots[i], drop)) {
            drop->seq_first = least(other->seq_first, drop->seq_first);
            drop->seq_last = other->seq_last > drop->seq_last ? other->seq_last : drop->seq_last;
            drop->first_us = other->first_us < drop->first_us ? other->first_us : drop->first_us;
        }
    }
}

/* Does its bridge, at either position, still have to pass it? */
static bool is_ahead(const struct mr_journal *journal, const struct mr_drop *drop)
{
    bool ahead = false;

    for (uint32_t i = 0; i < MR_CURSORS_MAX && !ahead; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];
        ahead =
            cursor->used && mr_drop_is_of(drop, mr_cursor_bridge(cursor), cursor->lane_index) &&
            atomic_load(&cursor->seq_on_disk) < least(drop->seq_last, mr_cursor_needs_to(cursor));
    }
    return ahead;
}

/* The oldest range that its bridge has passed, and whose records its books have counted. */
static struct drop_slot *slot_passed(const struct mr_journal *journal)
{
    struct drops *drops = journal->drops;
    struct drop_slot *oldest = NULL;

    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        struct drop_slot *slot = &drops->slots[i];
        if (!slot->replaced && (oldest == NULL || slot->number < oldest->number) &&
            !is_ahead(journal, &slot->drop)) {
            oldest = slot;
        }
    }
    return oldest;
}

/* A slot to write to; NULL: there is none.  A free one is looked for first: to ask each range who
 * has passed it is a walk over the cursors each time.
 */
static struct drop_slot *slot_free(const struct mr_journal *journal)
{
    struct drops *drops = journal->drops;

    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        if (drops->slots[i].number == 0) {
            return &drops->slots[i];
        }
    }
    return slot_passed(journal);
}

/* Not synced yet. */
static enum mr_err drop_write(struct mr_journal *journal, struct mr_drop *drop)
{
    struct drops *drops = journal->drops;
    struct drop_slot *slot = slot_free(journal);

    if (drops->failed) {
        return MR_ERR_IO;
    }
    if (slot == NULL) {
        return MR_ERR_FULL;
    }
    drop_widen(drops, drop);
    *slot = (struct drop_slot){.drop = *drop, .number = ++drops->number_last};
    enum mr_err err = mr_drop_slot_write(drops, slot);
    if (err != MR_OK) {
        slot->number = 0;
    }
    for (size_t i = 0; i < MR_DROPS_MAX && err == MR_OK; i++) {
        if (&drops->slots[i] != slot && touches(&drops->slots[i], drop)) {
            drops->slots[i].replaced = true;
        }
    }
    return err;
}

/* What was written is on the medium: what it has replaced is free.  After a sync that failed, which
 * of the two the medium has is not known, so both keep their slots until the next start; another
 * lane's sync, which would succeed over nothing, must not free the older one.
 */
static enum mr_err drops_sync(struct drops *drops)
{
    drops->failed = drops->failed || mr_file_sync(&drops->file) != MR_OK;
    if (drops->failed) {
        return MR_ERR_IO;
    }
    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        if (drops->slots[i].replaced) {
            drops->slots[i] = (struct drop_slot){.number = 0};
        }
    }
    return MR_OK;
}

/* One line per range and addition: nothing is dropped in silence. */
static void say_dropped(const struct mr_cursor *cursor, uint64_t first, uint64_t last,
                        enum mr_drop_reason reason)
{
    mr_log(MR_LOG_ERROR, "journal",
           "%s: records %llu to %llu of lane %u are dropped for '%s' (priority %u): %s, and "
           "journal.when_full is drop_oldest. `millrace bridge ls` says why it does not deliver "
           "them, `millrace audit` lists what was dropped",
           cursor->lane->journal->name, (unsigned long long)first, (unsigned long long)last,
           cursor->lane_index, mr_cursor_bridge(cursor), ranked(cursor)->priority,
           reason == MR_DROP_DISK ? "the disk is full" : "max_size is reached");
}

static enum mr_err drop_one(struct mr_cursor *cursor, uint64_t last, enum mr_drop_reason reason)
{
    int64_t now_us = mr_clock_wall_us();
    struct mr_drop drop = {.lane = cursor->lane_index,
                           .seq_first = mr_cursor_holds_behind(cursor) + 1,
                           .seq_last = least(last, mr_cursor_needs_to(cursor)),
                           .first_us = now_us,
                           .last_us = now_us,
                           .reason = reason};
    struct mr_text name = mr_text_over(drop.name, sizeof(drop.name));

    mr_text_add(&name, mr_cursor_bridge(cursor));
    return drop_write(cursor->lane->journal, &drop);
}

/* What has been written is on the medium: from here on it holds nothing of it. */
static void drop_done(struct mr_cursor *cursor, uint64_t last, enum mr_drop_reason reason)
{
    uint64_t first = mr_cursor_holds_behind(cursor) + 1;
    uint64_t end = least(last, mr_cursor_needs_to(cursor));

    say_dropped(cursor, first, end, reason);
    mr_metric_add(cursor->lane->metrics.dropped_records, end - first + 1);
    mr_metric_add(cursor->lane->metrics.dropped_ranges, 1);
    atomic_store(&cursor->given_up, end);
}

/* The next cursor that has to drop something, *at being where the last one was found.  Second
 * positions come last: so what a bridge drops at both is one range where it is one.
 */
static struct mr_cursor *next_to_drop(struct mr_lane *lane, uint64_t last, uint32_t *at)
{
    while (*at < 2 * MR_CURSORS_MAX) {
        struct mr_cursor *cursor = &lane->journal->cursors[*at % MR_CURSORS_MAX];
        bool second = *at >= MR_CURSORS_MAX;

        *at += 1;
        if (has_to_drop(cursor, lane, last) && mr_cursor_is_live(cursor) == second) {
            return cursor;
        }
    }
    return NULL;
}

enum mr_err mr_drop_do(struct mr_lane *lane, uint64_t last, enum mr_drop_reason reason)
{
    struct mr_journal *journal = lane->journal;
    struct mr_cursor *cursor;
    uint32_t price;

    mr_mutex_lock(&journal->cursor_mutex);
    /* Somebody may have been put back since it was asked. */
    enum mr_err err = drop_refuser(lane, last, &price) == NULL ? MR_OK : MR_ERR_FULL;
    uint32_t at = 0;
    while (err == MR_OK && (cursor = next_to_drop(lane, last, &at)) != NULL) {
        err = drop_one(cursor, last, reason);
    }
    /* Also if there was no room for all of them, so that what was written stands alone. */
    enum mr_err synced = err == MR_OK || err == MR_ERR_FULL ? drops_sync(journal->drops) : err;
    err = synced == MR_OK ? err : synced;
    at = 0;
    while (err == MR_OK && (cursor = next_to_drop(lane, last, &at)) != NULL) {
        drop_done(cursor, last, reason);
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    if (err != MR_OK && err != MR_ERR_FULL) {
        struct path path;

        mr_drops_path(journal, &path);
        mr_lane_fail(lane, path.text, "cannot be written");
    }
    return err;
}

void mr_drop_look(struct mr_cursor *cursor)
{
    const struct drops *drops = cursor->lane->journal->drops;
    uint64_t stands = mr_cursor_stands(cursor);
    uint64_t given_up = 0;

    for (size_t i = 0; drops != NULL && i < MR_DROPS_MAX; i++) {
        const struct drop_slot *slot = &drops->slots[i];
        if (slot->number != 0 && !slot->replaced &&
            mr_drop_is_of(&slot->drop, mr_cursor_bridge(cursor), cursor->lane_index) &&
            slot->drop.seq_first <= stands + 1 && slot->drop.seq_last > given_up) {
            given_up = slot->drop.seq_last;
        }
    }
    atomic_store(&cursor->given_up, given_up);
}

/* ---- looking ---- */

uint64_t mr_drops_within(const struct mr_journal *journal, const char *name, uint32_t lane,
                         uint64_t first, uint64_t last)
{
    uint64_t count = 0;

    for (size_t i = 0; journal->drops != NULL && i < MR_DROPS_MAX; i++) {
        const struct drop_slot *slot = &journal->drops->slots[i];
        if (slot->number == 0 || slot->replaced || !mr_drop_is_of(&slot->drop, name, lane)) {
            continue;
        }
        uint64_t from = slot->drop.seq_first > first ? slot->drop.seq_first : first;
        uint64_t to = slot->drop.seq_last < last ? slot->drop.seq_last : last;
        count += to >= from ? to - from + 1 : 0;
    }
    return count;
}

uint64_t mr_drops_in(struct mr_journal *journal, const char *name, uint32_t lane, uint64_t first,
                     uint64_t last)
{
    if (MR_LIKELY(journal->drops == NULL)) {
        return 0;
    }
    mr_mutex_lock(&journal->cursor_mutex);
    uint64_t count = mr_drops_within(journal, name, lane, first, last);
    mr_mutex_unlock(&journal->cursor_mutex);
    return count;
}

void mr_drops_list(struct mr_journal *journal, void (*each)(void *arg, const struct mr_drop *drop),
                   void *arg)
{
    if (journal->drops == NULL) {
        return;
    }
    mr_mutex_lock(&journal->cursor_mutex);
    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        if (journal->drops->slots[i].number != 0 && !journal->drops->slots[i].replaced) {
            each(arg, &journal->drops->slots[i].drop);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}
