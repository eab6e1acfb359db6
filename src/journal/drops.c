/* drops.c - see drops.h; docs/JOURNAL.md has the slot's bytes.
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
 * The file has a fixed size and is filled when the mode is first used, because what has to be
 * written to it is written when nothing is left.  A range that goes on is written to a free slot,
 * larger; the smaller one counts no more, since the larger contains it.
 *
 * INVARIANTS
 *
 *   (1) given_up of a cursor <= seq_last of a range of its name that is on the medium.
 *   (2) No two ranges of a name and lane touch or overlap.
 */
#include "journal/drops.h"

#include "journal/drops_internal.h"
#include "journal/journal_internal.h"
#include "os/clock.h"

enum {
    DROP_SLOT_BYTES = 256,
    DROPS_FILE_BYTES = MR_DROPS_MAX * DROP_SLOT_BYTES,

    DROP_VERSION_AT = 4,
    DROP_LANE_AT = 6,
    DROP_REASON_AT = 8,
    DROP_NAME_LEN_AT = 9,
    DROP_NUMBER_AT = 16,
    DROP_FIRST_AT = 24,
    DROP_LAST_AT = 32,
    DROP_FIRST_US_AT = 40,
    DROP_LAST_US_AT = 48,
    DROP_NAME_AT = 56,
    DROP_CRC_AT = DROP_SLOT_BYTES - 4,
};

const char *const mr_drop_reasons[] = {
    [0] = "unknown", [MR_DROP_MAX_SIZE] = "max_size", [MR_DROP_DISK] = "disk"};

/* A slot of the file; number 0: free. */
struct drop_slot {
    struct mr_drop drop;
    uint64_t number; /* goes up with each that is written */
};

struct drops {
    struct drop_slot slots[MR_DROPS_MAX];
    uint64_t number_last;
    struct mr_file file;
};

static void drops_path(const struct mr_journal *journal, const char *suffix, struct path *out)
{
    struct mr_text text = mr_text_over(out->text, sizeof(out->text));

    mr_text_fmt(&text, "%s/drops%s", journal->folder.text, suffix);
}

/* ---- bytes ---- */

static void slot_put(const struct drop_slot *slot, uint8_t out[DROP_SLOT_BYTES])
{
    const struct mr_drop *drop = &slot->drop;
    size_t len = strlen(drop->name);

    memset(out, 0, DROP_SLOT_BYTES);
    memcpy(out, "MRDR", 4);
    mr_put_u16(out + DROP_VERSION_AT, MR_FORMAT_VERSION);
    mr_put_u16(out + DROP_LANE_AT, (uint16_t)drop->lane);
    out[DROP_REASON_AT] = (uint8_t)drop->reason;
    out[DROP_NAME_LEN_AT] = (uint8_t)len;
    mr_put_u64(out + DROP_NUMBER_AT, slot->number);
    mr_put_u64(out + DROP_FIRST_AT, drop->seq_first);
    mr_put_u64(out + DROP_LAST_AT, drop->seq_last);
    mr_put_u64(out + DROP_FIRST_US_AT, (uint64_t)drop->first_us);
    mr_put_u64(out + DROP_LAST_US_AT, (uint64_t)drop->last_us);
    memcpy(out + DROP_NAME_AT, drop->name, len);
    mr_put_u32(out + DROP_CRC_AT, mr_crc32c(0, out, DROP_CRC_AT));
}

/* False: nothing was written there, or a write of it was torn: what it would have replaced is
 * still in another slot.
 */
static bool slot_get(const uint8_t in[DROP_SLOT_BYTES], struct drop_slot *out)
{
    if (memcmp(in, "MRDR", 4) != 0 ||
        mr_get_u32(in + DROP_CRC_AT) != mr_crc32c(0, in, DROP_CRC_AT) ||
        mr_get_u16(in + DROP_VERSION_AT) > MR_FORMAT_VERSION ||
        in[DROP_NAME_LEN_AT] > MR_CURSOR_NAME_MAX) {
        return false;
    }
    *out = (struct drop_slot){
        .number = mr_get_u64(in + DROP_NUMBER_AT),
        .drop = {.lane = mr_get_u16(in + DROP_LANE_AT),
                 .reason = in[DROP_REASON_AT] <= MR_DROP_DISK ? in[DROP_REASON_AT] : 0,
                 .seq_first = mr_get_u64(in + DROP_FIRST_AT),
                 .seq_last = mr_get_u64(in + DROP_LAST_AT),
                 .first_us = (int64_t)mr_get_u64(in + DROP_FIRST_US_AT),
                 .last_us = (int64_t)mr_get_u64(in + DROP_LAST_US_AT)}};
    memcpy(out->drop.name, in + DROP_NAME_AT, in[DROP_NAME_LEN_AT]);
    return true;
}

/* ---- opening ---- */

static bool same_of(const struct mr_drop *drop, const char *name, uint32_t lane)
{
    return drop->lane == lane && strcmp(drop->name, name) == 0;
}

/* Ranges that a later one contains were replaced by it. */
static void drops_clean(struct drops *drops)
{
    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        struct drop_slot *slot = &drops->slots[i];
        for (size_t k = 0; k < MR_DROPS_MAX && slot->number != 0; k++) {
            const struct drop_slot *later = &drops->slots[k];
            if (later->number > slot->number &&
                same_of(&later->drop, slot->drop.name, slot->drop.lane) &&
                later->drop.seq_first <= slot->drop.seq_first &&
                later->drop.seq_last >= slot->drop.seq_last) {
                slot->number = 0;
            }
        }
    }
}

/* What each cursor has given up already. */
static void drops_apply(struct mr_journal *journal)
{
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];
        for (size_t k = 0; k < MR_DROPS_MAX && cursor->used; k++) {
            const struct drop_slot *slot = &journal->drops->slots[k];
            if (slot->number != 0 && same_of(&slot->drop, cursor->name, cursor->lane_index) &&
                slot->drop.seq_last > atomic_load(&cursor->given_up)) {
                atomic_store(&cursor->given_up, slot->drop.seq_last);
            }
        }
    }
}

static void drops_count(struct mr_journal *journal)
{
    for (size_t k = 0; k < MR_DROPS_MAX; k++) {
        const struct drop_slot *slot = &journal->drops->slots[k];
        if (slot->number != 0 && slot->drop.lane < journal->lane_total && !journal->cursors_only) {
            const struct mr_lane *lane = &journal->lanes[slot->drop.lane];
            mr_metric_add(lane->metrics.dropped_records,
                          slot->drop.seq_last - slot->drop.seq_first + 1);
        }
    }
}

static enum mr_err drops_load(struct mr_journal *journal, const char *path, struct mr_error *why)
{
    struct drops *drops = journal->drops;
    uint8_t *bytes = mr_alloc(DROPS_FILE_BYTES);
    size_t got = 0;
    enum mr_err err = mr_file_read(&drops->file, bytes, DROPS_FILE_BYTES, 0, &got);

    if (err != MR_OK) {
        mr_free(bytes);
        return mr_error_set(why, MR_ERR_IO, "%s: cannot be read: %s; check the disk", path,
                            mr_file_last_cause());
    }
    for (size_t i = 0; (i + 1) * DROP_SLOT_BYTES <= got; i++) {
        struct drop_slot *slot = &drops->slots[i];
        if (slot_get(bytes + i * DROP_SLOT_BYTES, slot) && slot->number > drops->number_last) {
            drops->number_last = slot->number;
        }
    }
    drops_clean(drops);
    drops_apply(journal);
    drops_count(journal);
    /* After a failed sync the page cache may hold what the medium does not (recover.c). */
    if (!journal->read_only) {
        struct mr_span part = mr_span_make(bytes, got);
        err = mr_file_write(&drops->file, &part, 1, 0);
        err = err == MR_OK ? mr_file_sync(&drops->file) : err;
    }
    mr_free(bytes);
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk",
                                       path, mr_file_last_cause());
}

/* The file, zeroed and under its name, and a `meta` that older versions do not read: they would
 * take what was given up for lost.
 */
static enum mr_err drops_make(struct mr_journal *journal, const char *path, struct mr_error *why)
{
    journal->meta_version = MR_META_VERSION;
    enum mr_err err = mr_meta_write(journal, why);
    return err == MR_OK ? mr_cursors_file_make(journal, path, DROPS_FILE_BYTES, why) : err;
}

enum mr_err mr_drops_open(struct mr_journal *journal, struct mr_error *why)
{
    bool writes = !journal->read_only && !journal->cursors_only;
    struct path path;

    drops_path(journal, "", &path);
    if (!mr_path_exists(path.text)) {
        if (!writes || journal->when_full != MR_WHEN_FULL_DROP) {
            return MR_OK;
        }
        enum mr_err err = drops_make(journal, path.text, why);
        if (err == MR_ERR_FULL) {
            mr_log(MR_LOG_WARN, "journal",
                   "%s: the disk has no room for the list of what is dropped; until the next start "
                   "nothing is, and publishers wait when the journal is full",
                   journal->name);
            return MR_OK;
        }
        if (err != MR_OK) {
            return err;
        }
    }
    journal->drops = mr_alloc(sizeof(*journal->drops));
    enum mr_err err = mr_file_open(&journal->drops->file, path.text,
                                   journal->read_only ? MR_FILE_READ : MR_FILE_READ_WRITE, why);
    if (err != MR_OK) {
        journal->drops->file.fd = -1;
        return err;
    }
    return drops_load(journal, path.text, why);
}

void mr_drops_close(struct mr_journal *journal)
{
    if (journal->drops != NULL && journal->drops->file.fd >= 0) {
        mr_file_close(&journal->drops->file);
    }
    mr_free(journal->drops);
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
        if (cursor->never_drops || cursor->name[0] == '$') {
            return cursor;
        }
        *price = cursor->priority > *price ? cursor->priority : *price;
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
        memcpy(refuser->name, cursor->name, sizeof(refuser->name));
        refuser->seq = mr_cursor_holds_behind(cursor);
        refuser->opened = cursor->opened;
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return cursor == NULL;
}

/* The range that `drop` goes on from, if there is one. */
static struct drop_slot *slot_before(struct drops *drops, const struct mr_drop *drop)
{
    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        struct drop_slot *slot = &drops->slots[i];
        if (slot->number != 0 && same_of(&slot->drop, drop->name, drop->lane) &&
            slot->drop.seq_last + 1 >= drop->seq_first && slot->drop.seq_first <= drop->seq_first) {
            return slot;
        }
    }
    return NULL;
}

/* Does its cursor still have to pass it? */
static bool is_ahead(const struct mr_journal *journal, const struct mr_drop *drop)
{
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];
        if (cursor->used && same_of(drop, cursor->name, cursor->lane_index)) {
            return atomic_load(&cursor->seq_on_disk) < drop->seq_last;
        }
    }
    return false;
}

/* A slot to write to: a free one, or that of the oldest range that its bridge has passed, and
 * whose records its books have counted.  NULL: there is none.
 */
static struct drop_slot *slot_free(const struct mr_journal *journal)
{
    struct drops *drops = journal->drops;
    struct drop_slot *oldest = NULL;

    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        struct drop_slot *slot = &drops->slots[i];
        if (slot->number == 0) {
            return slot;
        }
        if ((oldest == NULL || slot->number < oldest->number) && !is_ahead(journal, &slot->drop)) {
            oldest = slot;
        }
    }
    return oldest;
}

/* Not synced yet. */
static enum mr_err drop_write(struct mr_journal *journal, struct mr_drop *drop)
{
    struct drops *drops = journal->drops;
    struct drop_slot *before = slot_before(drops, drop);
    struct drop_slot *slot = slot_free(journal);
    uint8_t bytes[DROP_SLOT_BYTES];

    if (slot == NULL) {
        return MR_ERR_FULL;
    }
    if (before != NULL) {
        drop->seq_first = before->drop.seq_first;
        drop->first_us = before->drop.first_us;
    }
    *slot = (struct drop_slot){.drop = *drop, .number = ++drops->number_last};
    slot_put(slot, bytes);
    struct mr_span part = mr_span_make(bytes, sizeof(bytes));
    enum mr_err err =
        mr_file_write(&drops->file, &part, 1, (uint64_t)(slot - drops->slots) * DROP_SLOT_BYTES);
    if (err != MR_OK) {
        slot->number = 0;
    } else if (before != NULL && before != slot) {
        before->number = 0;
    }
    return err;
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
           cursor->lane_index, cursor->name, cursor->priority,
           reason == MR_DROP_DISK ? "the disk is full" : "max_size is reached");
}

static enum mr_err drop_one(struct mr_cursor *cursor, uint64_t last, enum mr_drop_reason reason)
{
    int64_t now_us = mr_clock_wall_us();
    struct mr_drop drop = {.lane = cursor->lane_index,
                           .seq_first = mr_cursor_holds_behind(cursor) + 1,
                           .seq_last = last,
                           .first_us = now_us,
                           .last_us = now_us,
                           .reason = reason};

    memcpy(drop.name, cursor->name, sizeof(drop.name));
    return drop_write(cursor->lane->journal, &drop);
}

/* What has been written is on the medium: from here on it holds nothing of it. */
static void drop_done(struct mr_cursor *cursor, uint64_t last, enum mr_drop_reason reason)
{
    uint64_t first = mr_cursor_holds_behind(cursor) + 1;

    say_dropped(cursor, first, last, reason);
    mr_metric_add(cursor->lane->metrics.dropped_records, last - first + 1);
    mr_metric_add(cursor->lane->metrics.dropped_ranges, 1);
    atomic_store(&cursor->given_up, last);
}

enum mr_err mr_drop_do(struct mr_lane *lane, uint64_t last, enum mr_drop_reason reason)
{
    struct mr_journal *journal = lane->journal;
    uint32_t price;

    mr_mutex_lock(&journal->cursor_mutex);
    /* Somebody may have been put back since it was asked. */
    enum mr_err err = drop_refuser(lane, last, &price) == NULL ? MR_OK : MR_ERR_FULL;
    for (uint32_t i = 0; i < MR_CURSORS_MAX && err == MR_OK; i++) {
        if (has_to_drop(&journal->cursors[i], lane, last)) {
            err = drop_one(&journal->cursors[i], last, reason);
        }
    }
    if (err == MR_OK && mr_file_sync(&journal->drops->file) != MR_OK) {
        err = MR_ERR_IO;
    }
    for (uint32_t i = 0; i < MR_CURSORS_MAX && err == MR_OK; i++) {
        if (has_to_drop(&journal->cursors[i], lane, last)) {
            drop_done(&journal->cursors[i], last, reason);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    if (err != MR_OK && err != MR_ERR_FULL) {
        struct path path;

        drops_path(journal, "", &path);
        mr_lane_fail(lane, path.text, "cannot be written");
    }
    return err;
}

/* ---- looking ---- */

static uint64_t dropped_within(const struct mr_journal *journal, const char *name, uint32_t lane,
                               uint64_t first, uint64_t last)
{
    uint64_t count = 0;

    for (size_t i = 0; journal->drops != NULL && i < MR_DROPS_MAX; i++) {
        const struct drop_slot *slot = &journal->drops->slots[i];
        if (slot->number == 0 || !same_of(&slot->drop, name, lane)) {
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
    uint64_t count = dropped_within(journal, name, lane, first, last);
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
        if (journal->drops->slots[i].number != 0) {
            each(arg, &journal->drops->slots[i].drop);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}
