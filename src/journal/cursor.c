/* cursor.c - see cursor.h; docs/JOURNAL.md has the slot's bytes.
 *
 * DESIGN
 *
 * A file of a fixed size, zeroed when the journal is made, so that writing a
 * cursor never needs room.  Every slot exists twice, in the two halves of the
 * file: a change overwrites the older copy, so a torn write leaves the newer one,
 * and no page of the medium holds both.  A new cursor is written to both before it
 * counts, and a start writes to both what only one copy knows of.  So where none is
 * whole and one is all zeroes nobody ever relied on the slot: a power cut tore its
 * first write.  Else it is damaged, and that is told.
 *
 * The table in memory has the same order.  A slot that was forgotten is written as
 * such (flag), and used again for the next name.
 */
#include "journal/keeper_internal.h"
#include "journal/live.h"

#include "os/clock.h"

enum {
    SLOT_VERSION_AT = 4,
    SLOT_LANE_AT = 6,
    SLOT_EPOCH_AT = 8,
    SLOT_FLAGS_AT = 12,
    SLOT_GENERATION_AT = 16,
    SLOT_SEQ_AT = 24,
    SLOT_UPDATED_AT = 32,
    SLOT_NAME_LEN_AT = 40,
    SLOT_NAME_AT = 41,
    SLOT_BOOKS_AT = 172,
    SLOT_CRC_AT = MR_CURSOR_SLOT_BYTES - 4,

    SLOT_FORGOTTEN = 1,
    SLOT_PAUSED = 2,
    SLOT_LEADS = 4,
    SLOT_FOLLOWS = 8,
    SLOT_COUNTED = 16, /* the books are there: an older version wrote none */
    SLOT_SPLIT = 32,   /* its second position counts (live.h) */
    CURSOR_FILE_BYTES = 2 * MR_CURSORS_MAX * MR_CURSOR_SLOT_BYTES,
};

_Static_assert(SLOT_BOOKS_AT + 8 * (1 + MR_COLUMNS) <= SLOT_CRC_AT, "the books end before it");

static uint32_t slot_flags(const struct mr_cursor *cursor, const struct cursor_slot *slot)
{
    static const uint32_t rules[] = {
        [MR_CURSOR_NEW] = 0, [MR_CURSOR_LEADS] = SLOT_LEADS, [MR_CURSOR_FOLLOWS] = SLOT_FOLLOWS};

    return (slot->forgotten ? SLOT_FORGOTTEN : 0) |
           (mr_cursor_is_paused(cursor) ? SLOT_PAUSED : 0) | (slot->split ? SLOT_SPLIT : 0) |
           SLOT_COUNTED | rules[mr_cursor_rule(cursor)];
}

static enum mr_cursor_rule rule_of(uint32_t flags)
{
    if ((flags & SLOT_LEADS) != 0) {
        return MR_CURSOR_LEADS;
    }
    return (flags & SLOT_FOLLOWS) != 0 ? MR_CURSOR_FOLLOWS : MR_CURSOR_NEW;
}

static void slot_put(const struct mr_cursor *cursor, uint64_t generation,
                     const struct cursor_slot *slot, uint8_t out[MR_CURSOR_SLOT_BYTES])
{
    size_t len = strlen(cursor->name);

    memset(out, 0, MR_CURSOR_SLOT_BYTES);
    memcpy(out, "MRCU", 4);
    mr_put_u16(out + SLOT_VERSION_AT, MR_FORMAT_VERSION);
    mr_put_u16(out + SLOT_LANE_AT, (uint16_t)cursor->lane_index);
    mr_put_u32(out + SLOT_EPOCH_AT, cursor->epoch);
    mr_put_u32(out + SLOT_FLAGS_AT, slot_flags(cursor, slot));
    mr_put_u64(out + SLOT_GENERATION_AT, generation);
    mr_put_u64(out + SLOT_SEQ_AT, slot->seq);
    mr_put_u64(out + SLOT_UPDATED_AT, (uint64_t)mr_clock_wall_us());
    out[SLOT_NAME_LEN_AT] = (uint8_t)len;
    memcpy(out + SLOT_NAME_AT, cursor->name, len);
    mr_books_put(&slot->books, out + SLOT_BOOKS_AT);
    mr_put_u32(out + SLOT_CRC_AT, mr_crc32c(0, out, SLOT_CRC_AT));
}

static bool slot_whole(const uint8_t slot[MR_CURSOR_SLOT_BYTES])
{
    return memcmp(slot, "MRCU", 4) == 0 &&
           mr_get_u32(slot + SLOT_CRC_AT) == mr_crc32c(0, slot, SLOT_CRC_AT);
}

static bool slot_is_newer(const uint8_t slot[MR_CURSOR_SLOT_BYTES])
{
    return slot_whole(slot) && mr_get_u16(slot + SLOT_VERSION_AT) > MR_FORMAT_VERSION;
}

static bool slot_valid(const uint8_t slot[MR_CURSOR_SLOT_BYTES])
{
    return slot_whole(slot) && slot[SLOT_NAME_LEN_AT] <= MR_CURSOR_NAME_MAX;
}

static uint64_t slot_pos(uint32_t index, uint32_t copy)
{
    return ((uint64_t)copy * MR_CURSORS_MAX + index) * MR_CURSOR_SLOT_BYTES;
}

static bool slot_written(const uint8_t slot[MR_CURSOR_SLOT_BYTES])
{
    static const uint8_t never[MR_CURSOR_SLOT_BYTES];

    return memcmp(slot, never, sizeof(never)) != 0;
}

/* Of the valid copies; NULL: there is none. */
static const uint8_t *slot_newer(const uint8_t *first, const uint8_t *second)
{
    if (!slot_valid(second)) {
        return slot_valid(first) ? first : NULL;
    }
    return slot_valid(first) &&
                   mr_get_u64(first + SLOT_GENERATION_AT) >= mr_get_u64(second + SLOT_GENERATION_AT)
               ? first
               : second;
}

/* Take over the newer valid copy of slot `index`; nothing if there is none. */
static void slot_load(struct mr_journal *journal, uint32_t index, const uint8_t *first,
                      const uint8_t *second)
{
    struct mr_cursor *cursor = &journal->cursors[index];
    const uint8_t *slot = slot_newer(first, second);

    cursor->newer_copy = 1; /* so that the first write goes to copy 0 */
    if (slot == NULL) {
        if (slot_written(first) && slot_written(second)) {
            mr_log(MR_LOG_ERROR, "journal",
                   "%s: cursor slot %u is damaged in both copies; its bridge begins anew",
                   journal->name, index);
        }
        return;
    }
    cursor->newer_copy = slot == second;
    cursor->generation = mr_get_u64(slot + SLOT_GENERATION_AT);
    cursor->lane_index = mr_get_u16(slot + SLOT_LANE_AT);
    cursor->epoch = mr_get_u32(slot + SLOT_EPOCH_AT);
    if ((mr_get_u32(slot + SLOT_FLAGS_AT) & SLOT_FORGOTTEN) != 0 ||
        cursor->lane_index >= journal->lane_total) {
        return;
    }
    memcpy(cursor->name, slot + SLOT_NAME_AT, slot[SLOT_NAME_LEN_AT]);
    cursor->name[slot[SLOT_NAME_LEN_AT]] = '\0';
    cursor->lane = &journal->lanes[cursor->lane_index];
    uint64_t seq = mr_get_u64(slot + SLOT_SEQ_AT);
    atomic_store_explicit(&cursor->seq, seq, memory_order_relaxed);
    atomic_store_explicit(&cursor->seq_on_disk, seq, memory_order_relaxed);
    cursor->books = (struct mr_books){.begin = seq};
    if ((mr_get_u32(slot + SLOT_FLAGS_AT) & SLOT_COUNTED) != 0) {
        mr_books_get(slot + SLOT_BOOKS_AT, &cursor->books);
    }
    cursor->books_on_disk = cursor->books;
    atomic_store_explicit(&cursor->paused, (mr_get_u32(slot + SLOT_FLAGS_AT) & SLOT_PAUSED) != 0,
                          memory_order_relaxed);
    atomic_store_explicit(&cursor->rule, rule_of(mr_get_u32(slot + SLOT_FLAGS_AT)),
                          memory_order_relaxed);
    cursor->split = (mr_get_u32(slot + SLOT_FLAGS_AT) & SLOT_SPLIT) != 0;
    cursor->used = true;
}

/* What a newer version wrote is refused as a whole: taken for damaged, its bridges would begin
 * anew.
 */
static enum mr_err slots_load(struct mr_journal *journal, const uint8_t *bytes, const char *path,
                              struct mr_error *why)
{
    for (uint32_t i = 0; i < 2 * MR_CURSORS_MAX; i++) {
        if (slot_is_newer(bytes + (size_t)i * MR_CURSOR_SLOT_BYTES)) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "%s: written by a newer millrace; use that version", path);
        }
    }
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        slot_load(journal, i, bytes + slot_pos(i, 0), bytes + slot_pos(i, 1));
    }
    mr_cursors_link_live(journal);
    return MR_OK;
}

/* Are both whole, and of one cursor?  What had the slot before was forgotten in it. */
static bool slots_agree(const uint8_t *first, const uint8_t *second)
{
    uint32_t flags = mr_get_u32(first + SLOT_FLAGS_AT) ^ mr_get_u32(second + SLOT_FLAGS_AT);

    return slot_valid(first) && slot_valid(second) && (flags & SLOT_FORGOTTEN) == 0;
}

/* A cursor that one copy knows of gets two: it may never move again, and its first write may have
 * been all that an older version or a power cut let it have.  True: there is something to write.
 */
static bool slots_double(uint8_t *bytes)
{
    bool any = false;

    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        uint8_t *first = bytes + slot_pos(i, 0);
        uint8_t *second = bytes + slot_pos(i, 1);
        const uint8_t *newer = slot_newer(first, second);

        if (newer != NULL && !slots_agree(first, second)) {
            memcpy(newer == first ? second : first, newer, MR_CURSOR_SLOT_BYTES);
            any = true;
        }
    }
    return any;
}

static enum mr_err slots_flush(struct mr_journal *journal, const uint8_t *bytes)
{
    struct mr_span part = mr_span_make(bytes, CURSOR_FILE_BYTES);
    enum mr_err err = mr_file_write(&journal->cursor_file, &part, 1, 0);

    return err == MR_OK ? mr_file_sync(&journal->cursor_file) : err;
}

static enum mr_err cursors_load(struct mr_journal *journal, const char *path, struct mr_error *why)
{
    uint8_t *bytes = mr_alloc(CURSOR_FILE_BYTES);
    size_t got = 0;
    enum mr_err err = mr_file_read(&journal->cursor_file, bytes, CURSOR_FILE_BYTES, 0, &got);

    if (err != MR_OK) {
        mr_free(bytes);
        return mr_error_set(why, MR_ERR_IO, "%s: cannot be read: %s; check the disk", path,
                            mr_file_last_cause());
    }
    if (got < CURSOR_FILE_BYTES) {
        mr_log(MR_LOG_ERROR, "journal", "%s: %s is cut short; missing cursors begin anew",
               journal->name, path);
    }
    err = slots_load(journal, bytes, path, why);
    if (err != MR_OK) {
        mr_free(bytes);
        return err;
    }
    /* Written again for the same reason as in recover.c: after a failed sync the
     * page cache may hold what the medium does not.  Until that is certain nothing is concluded
     * from it: a second position that seems to be nobody's may be somebody's on the medium.
     */
    if (!journal->read_only) {
        err = slots_flush(journal, bytes);
        if (err == MR_OK && slots_double(bytes)) { /* of what is certain by now */
            err = slots_flush(journal, bytes);
        }
        journal->cursors_certain = err == MR_OK;
    }
    mr_free(bytes);
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk",
                                       path, mr_file_last_cause());
}

enum mr_err mr_cursors_file_make(struct mr_journal *journal, const char *path, uint64_t bytes,
                                 struct mr_error *why)
{
    struct path unfinished;
    struct mr_text text = mr_text_over(unfinished.text, sizeof(unfinished.text));
    struct mr_file file;
    enum mr_err err;

    mr_text_fmt(&text, "%s.tmp", path);
    err = mr_path_remove(unfinished.text);
    if (err != MR_OK && err != MR_ERR_REJECT) {
        return mr_error_set(why, err, "%s: cannot be removed: %s; check the disk", unfinished.text,
                            mr_file_last_cause());
    }
    err = mr_file_open(&file, unfinished.text, MR_FILE_CREATE, why);
    if (err != MR_OK) {
        return err == MR_ERR_FULL ? err : MR_ERR_IO;
    }
    err = mr_file_fill_zero(&file, bytes);
    mr_file_close(&file);
    if (err == MR_OK) {
        err = mr_path_rename(unfinished.text, path);
    }
    if (err == MR_OK) {
        err = mr_dir_sync(journal->folder.text);
    }
    return err == MR_OK
               ? MR_OK
               : mr_error_set(why, err, "%s: cannot be made: %s", path, mr_file_last_cause());
}

void mr_cursors_path(const struct mr_journal *journal, struct path *out)
{
    struct mr_text text = mr_text_over(out->text, sizeof(out->text));

    mr_text_fmt(&text, "%s/cursors", journal->folder.text);
}

enum mr_err mr_cursors_open(struct mr_journal *journal, struct mr_error *why)
{
    struct path path;
    enum mr_err err;

    mr_cursors_path(journal, &path);
    journal->cursors = mr_alloc(MR_CURSORS_MAX * sizeof(*journal->cursors));
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        journal->cursors[i].newer_copy = 1;
        mr_mutex_init(&journal->cursors[i].books_mutex);
    }
    if (!mr_path_exists(path.text)) {
        if (journal->read_only) {
            return MR_OK;
        }
        err = mr_cursors_file_make(journal, path.text, CURSOR_FILE_BYTES, why);
        if (err != MR_OK) {
            return err;
        }
    }
    err = mr_file_open(&journal->cursor_file, path.text,
                       journal->read_only ? MR_FILE_READ : MR_FILE_READ_WRITE, why);
    if (err != MR_OK) {
        journal->cursor_file.fd = -1;
        return err;
    }
    err = cursors_load(journal, path.text, why);
    bool make = journal->keep_ranges && !journal->read_only;
    return err == MR_OK ? mr_ranges_open(journal, make, why) : err;
}

void mr_cursors_close(struct mr_journal *journal)
{
    mr_ranges_close(journal);
    if (journal->cursor_file.fd >= 0) {
        mr_file_close(&journal->cursor_file);
    }
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        mr_mutex_fini(&journal->cursors[i].books_mutex);
    }
    mr_free(journal->cursors);
}

enum mr_err mr_cursor_slot_write(struct mr_journal *journal, struct mr_cursor *cursor,
                                 const struct cursor_slot *said)
{
    uint8_t slot[MR_CURSOR_SLOT_BYTES];
    uint32_t index = (uint32_t)(cursor - journal->cursors);
    uint8_t copy = !cursor->newer_copy;

    slot_put(cursor, cursor->generation + 1, said, slot);
    struct mr_span part = mr_span_make(slot, sizeof(slot));
    enum mr_err err = mr_ranges_settle(journal);
    if (err == MR_OK) {
        err = mr_file_write(&journal->cursor_file, &part, 1, slot_pos(index, copy));
    }
    if (err == MR_OK) {
        cursor->generation += 1;
        cursor->written = true;
    }
    return err;
}

/* What was written counts from now on.  After a sync that failed none of it does: what the medium
 * has of it is not known, so each copy has to be written again before a later sync makes it the
 * newer one.  FULL: there was no room.
 */
static enum mr_err cursors_flush(struct mr_journal *journal)
{
    enum mr_err err = mr_file_sync(&journal->cursor_file);

    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->written) {
            cursor->newer_copy = err == MR_OK ? !cursor->newer_copy : cursor->newer_copy;
            cursor->written = false;
        }
    }
    return err;
}

enum mr_err mr_cursors_sync(struct mr_journal *journal)
{
    return cursors_flush(journal) == MR_OK ? MR_OK : MR_ERR_IO;
}

void mr_cursor_slot_written(struct mr_cursor *cursor, const struct cursor_slot *slot)
{
    atomic_store_explicit(&cursor->seq_on_disk, slot->seq, memory_order_relaxed);
    atomic_store_explicit(&cursor->in_doubt, 0, memory_order_relaxed);
    cursor->books_on_disk = slot->books;
}

/* As it is now; true: the disk has another one. */
static bool cursor_changed(struct mr_cursor *cursor, struct cursor_slot *out)
{
    *out = (struct cursor_slot){.split = cursor->split};
    out->seq = mr_cursor_books(cursor, &out->books);
    return out->seq != atomic_load_explicit(&cursor->seq_on_disk, memory_order_relaxed) ||
           atomic_load_explicit(&cursor->in_doubt, memory_order_relaxed) != 0 ||
           memcmp(&out->books, &cursor->books_on_disk, sizeof(out->books)) != 0;
}

/* In rounds of a few slots, so that no table of them all is needed. */
enum { SLOTS_PER_ROUND = 64 };

static enum mr_err cursors_write_round(struct mr_journal *journal, uint32_t first)
{
    struct cursor_slot slots[SLOTS_PER_ROUND];
    bool changed[SLOTS_PER_ROUND] = {false};
    bool any = false;
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < SLOTS_PER_ROUND && err == MR_OK; i++) {
        struct mr_cursor *cursor = &journal->cursors[first + i];

        changed[i] = cursor->used && cursor_changed(cursor, &slots[i]);
        if (changed[i]) {
            err = mr_cursor_slot_write(journal, cursor, &slots[i]);
            any = true;
        }
    }
    if (err != MR_OK || !any) {
        return err;
    }
    err = cursors_flush(journal);
    if (err != MR_OK) {
        return err;
    }
    for (uint32_t i = 0; i < SLOTS_PER_ROUND; i++) {
        if (changed[i]) {
            mr_cursor_slot_written(&journal->cursors[first + i], &slots[i]);
        }
    }
    return MR_OK;
}

enum mr_err mr_cursors_write(struct mr_journal *journal)
{
    mr_mutex_lock(&journal->cursor_mutex);
    enum mr_err err = journal->cursors_failed ? MR_ERR_IO : MR_OK;
    for (uint32_t first = 0; first < MR_CURSORS_MAX && err == MR_OK; first += SLOTS_PER_ROUND) {
        err = cursors_write_round(journal, first);
    }
    err = err == MR_OK ? mr_cursors_free_live(journal) : err;
    journal->cursors_wait = err == MR_ERR_FULL;
    if (err == MR_ERR_FULL) {
        err = MR_OK; /* no room: tried again next time */
    }
    journal->cursors_failed = err != MR_OK;
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

bool mr_cursors_has_bridge(struct mr_journal *journal, uint32_t lane)
{
    bool has = false;

    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX && !has; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        has = cursor->used && cursor->lane_index == lane && cursor->name[0] != '$';
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return has;
}

uint64_t mr_cursors_held(const struct mr_journal *journal, uint32_t lane)
{
    uint64_t lowest = UINT64_MAX;

    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && cursor->lane_index == lane) {
            uint64_t behind = mr_cursor_holds_behind(cursor);
            lowest = behind < lowest ? behind : lowest;
        }
    }
    return lowest;
}

uint64_t mr_cursors_lowest(struct mr_journal *journal, uint32_t lane, uint64_t *highest)
{
    uint64_t top = 0;

    mr_mutex_lock(&journal->cursor_mutex);
    uint64_t lowest = mr_cursors_held(journal, lane);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && cursor->lane_index == lane) {
            uint64_t seq = atomic_load_explicit(&cursor->seq_on_disk, memory_order_relaxed);
            top = seq > top ? seq : top;
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    if (highest != NULL) {
        *highest = top;
    }
    return lowest;
}

void mr_cursors_known(struct mr_journal *journal, uint32_t lane, uint64_t *behind, uint64_t *to)
{
    uint64_t floor = mr_epoch_floor(journal, lane);

    *behind = mr_cursors_lowest(journal, lane, to);
    *to = *to < floor ? floor : *to;
}

void mr_holder_of(const struct mr_cursor *cursor, struct holder *out)
{
    const struct mr_cursor *first = atomic_load_explicit(&cursor->behind, memory_order_relaxed);
    struct mr_text name = mr_text_over(out->name, sizeof(out->name));

    mr_text_add(&name, mr_cursor_bridge(cursor));
    out->seq = mr_cursor_holds_behind(cursor);
    out->opened = (first != NULL ? first : cursor)->opened;
}

bool mr_cursors_holder(struct mr_journal *journal, uint32_t lane, struct holder *out)
{
    const struct mr_cursor *slowest = NULL;

    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];
        uint64_t seq = mr_cursor_holds_behind(cursor);

        if (cursor->used && cursor->lane_index == lane && (slowest == NULL || seq < out->seq)) {
            slowest = cursor;
            out->seq = seq;
        }
    }
    if (slowest != NULL) {
        mr_holder_of(slowest, out);
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return slowest != NULL;
}

void mr_cursors_say_orphans(struct mr_journal *journal)
{
    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && !cursor->opened && !mr_cursor_is_live(cursor)) {
            mr_log(
                MR_LOG_WARN, "journal",
                "%s: there is a cursor of '%s' in lane %u, but no such bridge; everything behind "
                "record %llu is kept for it until the journal is full; configure it again, or stop "
                "the gateway and give that up: millrace journal forget %s --data %s",
                journal->name, cursor->name, cursor->lane_index,
                (unsigned long long)mr_cursor_get(cursor), cursor->name, journal->folder.text);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}

struct mr_cursor *mr_cursor_slot_find(struct mr_journal *journal, const char *name, uint32_t lane,
                                      struct mr_cursor **unused)
{
    *unused = NULL;
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        if (!cursor->used) {
            *unused = *unused == NULL ? cursor : *unused;
        } else if (cursor->lane_index == lane && strcmp(cursor->name, name) == 0) {
            return cursor;
        }
    }
    return NULL;
}

void mr_cursor_close(struct mr_cursor *cursor)
{
    struct mr_journal *journal = cursor->lane->journal;

    mr_mutex_lock(&journal->cursor_mutex);
    cursor->opened = false;
    mr_mutex_unlock(&journal->cursor_mutex);
}

uint64_t mr_cursor_get(const struct mr_cursor *cursor)
{
    return atomic_load_explicit(&cursor->seq, memory_order_relaxed);
}

/* Under a mutex, so that nobody rings a wake that its owner has closed. */
void mr_cursor_ring(struct mr_cursor *cursor)
{
    struct mr_mutex *mutex = &cursor->lane->journal->watch_mutex;

    mr_mutex_lock(mutex);
    struct mr_wake *wake = atomic_load(&cursor->watcher);
    if (wake != NULL) {
        mr_wake_ring(wake);
    }
    mr_mutex_unlock(mutex);
}

void mr_cursor_set(struct mr_cursor *cursor, uint64_t seq)
{
    mr_assert(seq >= atomic_load_explicit(&cursor->seq, memory_order_relaxed));
    mr_assert(seq <= mr_lane_durable(cursor->lane));
    atomic_store_explicit(&cursor->seq, seq, memory_order_relaxed);
    mr_cursor_tell(cursor, seq);
}

void mr_cursor_set_with(struct mr_cursor *cursor, uint64_t seq, uint64_t with)
{
    mr_mutex_lock(&cursor->books_mutex);
    cursor->books.begin = with;
    mr_cursor_set(cursor, seq);
    mr_mutex_unlock(&cursor->books_mutex);
}

uint64_t mr_cursor_get_with(struct mr_cursor *cursor, uint64_t *with)
{
    struct mr_books books;
    uint64_t seq = mr_cursor_books(cursor, &books);

    *with = books.begin;
    return seq;
}

struct mr_cursor *mr_cursor_find(struct mr_journal *journal, const char *name, uint32_t lane)
{
    struct mr_cursor *unused;

    mr_mutex_lock(&journal->cursor_mutex);
    struct mr_cursor *cursor = mr_cursor_slot_find(journal, name, lane, &unused);
    mr_mutex_unlock(&journal->cursor_mutex);
    return cursor;
}

void mr_cursor_tell(struct mr_cursor *cursor, uint64_t seq)
{
    struct mr_cursor *behind = atomic_load_explicit(&cursor->behind, memory_order_relaxed);

    if (MR_UNLIKELY(behind != NULL)) {
        atomic_store_explicit(&behind->ahead_to, seq, memory_order_release);
        cursor = behind;
    }
    if (atomic_load_explicit(&cursor->watcher, memory_order_relaxed) != NULL) {
        mr_cursor_ring(cursor);
    }
}

enum mr_err mr_cursor_watch(struct mr_journal *journal, const char *name, uint32_t lane,
                            struct mr_wake *wake, struct mr_cursor **out)
{
    struct mr_cursor *cursor = mr_cursor_find(journal, name, lane);

    if (cursor == NULL || atomic_load(&cursor->watcher) != NULL) {
        return MR_ERR_REJECT;
    }
    atomic_store(&cursor->watcher, wake);
    *out = cursor;
    return MR_OK;
}

void mr_cursor_unwatch(struct mr_cursor *cursor)
{
    struct mr_mutex *mutex = &cursor->lane->journal->watch_mutex;

    mr_mutex_lock(mutex);
    atomic_store(&cursor->watcher, NULL);
    mr_mutex_unlock(mutex);
}

enum mr_cursor_rule mr_cursor_rule(const struct mr_cursor *cursor)
{
    return atomic_load_explicit(&cursor->rule, memory_order_relaxed);
}

bool mr_cursor_is_paused(const struct mr_cursor *cursor)
{
    return atomic_load_explicit(&cursor->paused, memory_order_relaxed);
}

/* The slot is free from now on; not synced yet. */
enum mr_err mr_cursor_slot_free(struct mr_journal *journal, struct mr_cursor *cursor)
{
    struct cursor_slot slot = {.forgotten = true};

    slot.seq = mr_cursor_books(cursor, &slot.books);
    enum mr_err err = mr_cursor_slot_write(journal, cursor, &slot);
    cursor->used = err != MR_OK;
    if (err == MR_OK) {
        mr_ranges_forget(journal, cursor->name, cursor->lane_index);
    }
    return err;
}

/* It, or its second position. */
static bool is_named(const struct mr_cursor *cursor, const char *name)
{
    return strcmp(mr_cursor_bridge(cursor), name) == 0;
}

static bool is_left(const struct mr_cursor *cursor, const char *prefix)
{
    return !cursor->opened && strncmp(cursor->name, prefix, strlen(prefix)) == 0;
}

static enum mr_err cursors_forget(struct mr_journal *journal,
                                  bool (*is_meant)(const struct mr_cursor *cursor,
                                                   const char *text),
                                  const char *text)
{
    enum mr_err err = MR_OK;
    bool any = false;

    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX && err == MR_OK; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && is_meant(cursor, text)) {
            err = mr_cursor_slot_free(journal, cursor);
            any = any || err == MR_OK;
        }
    }
    /* Those that are free hold nothing any more, so that must be certain whatever became of others.
     */
    if (any && mr_cursors_sync(journal) != MR_OK) {
        journal->cursors_failed = true;
        err = MR_ERR_IO;
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

enum mr_err mr_cursor_forget(struct mr_journal *journal, const char *name)
{
    return cursors_forget(journal, is_named, name);
}

enum mr_err mr_cursor_forget_unopened(struct mr_journal *journal, const char *prefix)
{
    return cursors_forget(journal, is_left, prefix);
}

void mr_cursor_list(struct mr_journal *journal,
                    void (*each)(void *arg, const char *name, uint32_t lane, uint64_t seq),
                    void *arg)
{
    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used) {
            each(arg, cursor->name, cursor->lane_index, mr_cursor_get(cursor));
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}
