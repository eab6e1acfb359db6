/* ranges.c - see ranges.h; docs/JOURNAL.md has the entry's bytes.
 *
 * DESIGN
 *
 * A file of a fixed size, zeroed when it is made, so that an entry never needs room.  An entry is
 * written where none is, never over one that counts: one that goes on where the newest of its
 * cursor ended (a seek behind a seek), or accepts more repetitions, takes its place by naming it,
 * and the older one's slot is free when the new one is on the medium.  When all are in use the one
 * with the lowest number goes; whoever adds up the entries of a cursor then finds that they are
 * less than its books.
 *
 * INVARIANTS
 *
 *   (1) An entry in memory is on the medium, and so is the cursor's write that it belongs to;
 *       except between mr_range_write() and that write.
 *   (2) No two entries in memory have the same slot or number.
 *   (3) An entry that is not in memory any more, because its cursor was not written or is
 * forgotten, is not on the medium when a cursor is written again: its generation comes again then.
 */
#include "journal/ranges.h"
#include "journal/cursors_internal.h"

#include "os/clock.h"

#include <stdlib.h>

enum {
    ENTRY_BYTES = 256,
    ENTRY_VERSION_AT = 4,
    ENTRY_LANE_AT = 6,
    ENTRY_KIND_AT = 8, /* the column, or ENTRY_ACCEPTANCE */
    ENTRY_NUMBER_AT = 16,
    ENTRY_REPLACES_AT = 24,
    ENTRY_GENERATION_AT = 32, /* of the cursor's slot */
    ENTRY_FROM_AT = 40,
    ENTRY_TO_AT = 48,
    ENTRY_US_AT = 56,
    ENTRY_ACCEPTED_AT = 64,
    ENTRY_NAME_LEN_AT = 72,
    ENTRY_REASON_LEN_AT = 73,
    ENTRY_TEXT_AT = 74, /* name, then reason */
    ENTRY_CRC_AT = ENTRY_BYTES - 4,
    ENTRY_ACCEPTANCE = 0xffff,

    RANGES_FILE_BYTES = MR_RANGES_MAX * ENTRY_BYTES,
};

struct entry {
    struct mr_range range; /* its texts stand in `text` */
    uint64_t replaces;
    uint64_t generation;
    uint32_t slot;
    char text[MR_CURSOR_NAME_MAX + MR_RANGE_REASON_MAX + 2];
};

struct ranges {
    struct mr_file file;
    struct entry *entries[MR_RANGES_MAX]; /* by number */
    size_t count;
    uint64_t number;           /* the highest there was */
    bool slots[MR_RANGES_MAX]; /* in use */
    bool voids[MR_RANGES_MAX]; /* not, and may hold an entry whose cursor was never written */
    size_t void_count;
};

/* ---- bytes ---- */

static void entry_put(const struct entry *entry, uint8_t out[ENTRY_BYTES])
{
    const struct mr_range *range = &entry->range;
    size_t name_len = strlen(range->name);
    size_t reason_len = strlen(range->reason);

    memset(out, 0, ENTRY_BYTES);
    memcpy(out, "MRRG", 4);
    mr_put_u16(out + ENTRY_VERSION_AT, MR_FORMAT_VERSION);
    mr_put_u16(out + ENTRY_LANE_AT, (uint16_t)range->lane);
    mr_put_u16(out + ENTRY_KIND_AT,
               range->is_acceptance ? ENTRY_ACCEPTANCE : (uint16_t)range->column);
    mr_put_u64(out + ENTRY_NUMBER_AT, range->number);
    mr_put_u64(out + ENTRY_REPLACES_AT, entry->replaces);
    mr_put_u64(out + ENTRY_GENERATION_AT, entry->generation);
    mr_put_u64(out + ENTRY_FROM_AT, range->from);
    mr_put_u64(out + ENTRY_TO_AT, range->to);
    mr_put_u64(out + ENTRY_US_AT, (uint64_t)range->at_us);
    mr_put_u64(out + ENTRY_ACCEPTED_AT, (uint64_t)range->accepted);
    out[ENTRY_NAME_LEN_AT] = (uint8_t)name_len;
    out[ENTRY_REASON_LEN_AT] = (uint8_t)reason_len;
    memcpy(out + ENTRY_TEXT_AT, range->name, name_len);
    memcpy(out + ENTRY_TEXT_AT + name_len, range->reason, reason_len);
    mr_put_u32(out + ENTRY_CRC_AT, mr_crc32c(0, out, ENTRY_CRC_AT));
}

static bool entry_valid(const uint8_t in[ENTRY_BYTES])
{
    return memcmp(in, "MRRG", 4) == 0 &&
           mr_get_u32(in + ENTRY_CRC_AT) == mr_crc32c(0, in, ENTRY_CRC_AT) &&
           mr_get_u16(in + ENTRY_VERSION_AT) <= MR_FORMAT_VERSION &&
           (mr_get_u16(in + ENTRY_KIND_AT) < MR_COLUMNS ||
            mr_get_u16(in + ENTRY_KIND_AT) == ENTRY_ACCEPTANCE) &&
           in[ENTRY_NAME_LEN_AT] <= MR_CURSOR_NAME_MAX &&
           in[ENTRY_REASON_LEN_AT] <= MR_RANGE_REASON_MAX &&
           in[ENTRY_NAME_LEN_AT] + in[ENTRY_REASON_LEN_AT] <= ENTRY_CRC_AT - ENTRY_TEXT_AT;
}

/* Name and reason into the entry's own memory. */
static void entry_texts(struct entry *entry, struct mr_span name, struct mr_span reason)
{
    char *at = entry->text;

    entry->range.name = at;
    memcpy(at, name.at, name.len);
    at[name.len] = '\0';
    at += name.len + 1;
    entry->range.reason = at;
    if (reason.len != 0) {
        memcpy(at, reason.at, reason.len);
    }
    at[reason.len] = '\0';
}

static struct entry *entry_get(const uint8_t in[ENTRY_BYTES], uint32_t slot)
{
    struct entry *entry = mr_alloc(sizeof(*entry));
    uint16_t kind = mr_get_u16(in + ENTRY_KIND_AT);
    bool is_acceptance = kind == ENTRY_ACCEPTANCE;

    *entry = (struct entry){
        .range = {.lane = mr_get_u16(in + ENTRY_LANE_AT),
                  .number = mr_get_u64(in + ENTRY_NUMBER_AT),
                  .at_us = (int64_t)mr_get_u64(in + ENTRY_US_AT),
                  .is_acceptance = is_acceptance,
                  .column = is_acceptance ? MR_COLUMN_DELIVERED : (enum mr_column)kind,
                  .from = mr_get_u64(in + ENTRY_FROM_AT),
                  .to = mr_get_u64(in + ENTRY_TO_AT),
                  .accepted = (int64_t)mr_get_u64(in + ENTRY_ACCEPTED_AT)},
        .replaces = mr_get_u64(in + ENTRY_REPLACES_AT),
        .generation = mr_get_u64(in + ENTRY_GENERATION_AT),
        .slot = slot,
    };
    entry_texts(entry, mr_span_make(in + ENTRY_TEXT_AT, in[ENTRY_NAME_LEN_AT]),
                mr_span_make(in + ENTRY_TEXT_AT + in[ENTRY_NAME_LEN_AT], in[ENTRY_REASON_LEN_AT]));
    return entry;
}

/* ---- the list ---- */

static void list_add(struct ranges *ranges, struct entry *entry)
{
    ranges->entries[ranges->count++] = entry;
    ranges->slots[entry->slot] = true;
    ranges->void_count -= ranges->voids[entry->slot];
    ranges->voids[entry->slot] = false;
    if (entry->range.number > ranges->number) {
        ranges->number = entry->range.number;
    }
}

static void list_remove(struct ranges *ranges, size_t index)
{
    struct entry *entry = ranges->entries[index];

    ranges->slots[entry->slot] = false;
    ranges->count -= 1;
    memmove(&ranges->entries[index], &ranges->entries[index + 1],
            (ranges->count - index) * sizeof(struct entry *));
    mr_free(entry);
}

static bool is_of(const struct entry *entry, const char *name, uint32_t lane)
{
    return entry->range.lane == lane && strcmp(entry->range.name, name) == 0;
}

/* ---- on the medium ---- */

static enum mr_err slot_write(struct ranges *ranges, uint32_t slot,
                              const uint8_t bytes[ENTRY_BYTES])
{
    struct mr_span part = mr_span_make(bytes, ENTRY_BYTES);

    return mr_file_write(&ranges->file, &part, 1, (uint64_t)slot * ENTRY_BYTES);
}

static enum mr_err slot_clear(struct ranges *ranges, uint32_t slot)
{
    static const uint8_t nothing[ENTRY_BYTES];

    return slot_write(ranges, slot, nothing);
}

/* What may stand there counts for nobody.  It is gone before a cursor is written again, or another
 * entry is written over it.
 */
static void slot_void(struct ranges *ranges, uint32_t slot)
{
    ranges->void_count += !ranges->voids[slot];
    ranges->voids[slot] = true;
}

static enum mr_err voids_clear(struct ranges *ranges)
{
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < MR_RANGES_MAX && err == MR_OK; i++) {
        err = ranges->voids[i] ? slot_clear(ranges, i) : MR_OK;
    }
    if (err == MR_OK && mr_file_sync(&ranges->file) != MR_OK) {
        err = MR_ERR_IO;
    }
    if (err == MR_OK) {
        memset(ranges->voids, 0, sizeof(ranges->voids));
        ranges->void_count = 0;
    }
    return err;
}

enum mr_err mr_ranges_settle(struct mr_journal *journal)
{
    struct ranges *ranges = journal->ranges;

    return ranges == NULL || ranges->void_count == 0 ? MR_OK : voids_clear(ranges);
}

static const struct mr_cursor *cursor_of(const struct mr_journal *journal,
                                         const struct mr_range *range)
{
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];
        if (cursor->used && cursor->lane_index == range->lane &&
            strcmp(cursor->name, range->name) == 0) {
            return cursor;
        }
    }
    return NULL;
}

static int entry_order(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a;
    const struct entry *y = *(struct entry *const *)b;

    return x->range.number < y->range.number ? -1 : x->range.number > y->range.number;
}

/* Those whose cursor was never written, or is gone, and those that another one stands for. */
static enum mr_err list_clean(struct mr_journal *journal, struct ranges *ranges)
{
    enum mr_err err = MR_OK;

    for (size_t i = ranges->count; i > 0; i--) {
        const struct entry *entry = ranges->entries[i - 1];
        const struct mr_cursor *cursor = cursor_of(journal, &entry->range);
        bool gone = cursor == NULL || entry->generation > cursor->generation;
        for (size_t j = i; j < ranges->count && !gone; j++) {
            gone = ranges->entries[j]->replaces == entry->range.number;
        }
        if (gone) {
            /* A generation comes again, and must not find it. */
            err = err == MR_OK && !journal->read_only ? slot_clear(ranges, entry->slot) : err;
            list_remove(ranges, i - 1);
        }
    }
    return err;
}

static void accepted_add(struct mr_journal *journal, const struct ranges *ranges)
{
    for (size_t i = 0; i < ranges->count; i++) {
        const struct mr_range *range = &ranges->entries[i]->range;
        if (range->is_acceptance) {
            struct mr_cursor *cursor = (struct mr_cursor *)cursor_of(journal, range);
            mr_assert(cursor != NULL); /* list_clean() leaves none without */
            cursor->books.accepted += range->accepted;
            cursor->books_on_disk.accepted += range->accepted;
        }
    }
}

static enum mr_err ranges_load(struct mr_journal *journal, struct ranges *ranges)
{
    uint8_t *bytes = mr_alloc(RANGES_FILE_BYTES);
    size_t got = 0;
    enum mr_err err = mr_file_read(&ranges->file, bytes, RANGES_FILE_BYTES, 0, &got);

    for (uint32_t i = 0; err == MR_OK && i < got / ENTRY_BYTES; i++) {
        const uint8_t *entry = bytes + (size_t)i * ENTRY_BYTES;
        if (entry_valid(entry)) {
            list_add(ranges, entry_get(entry, i));
        }
    }
    if (ranges->count > 1) {
        qsort(ranges->entries, ranges->count, sizeof(struct entry *), entry_order);
    }
    if (err == MR_OK) {
        err = list_clean(journal, ranges);
    }
    /* Written again for the same reason as in recover.c. */
    for (size_t i = 0; err == MR_OK && !journal->read_only && i < ranges->count; i++) {
        uint32_t slot = ranges->entries[i]->slot;
        err = slot_write(ranges, slot, bytes + (size_t)slot * ENTRY_BYTES);
    }
    if (err == MR_OK && !journal->read_only && got != 0) {
        err = mr_file_sync(&ranges->file);
    }
    accepted_add(journal, ranges);
    mr_free(bytes);
    return err;
}

enum mr_err mr_ranges_open(struct mr_journal *journal, bool make, struct mr_error *why)
{
    struct path path;
    struct mr_text text = mr_text_over(path.text, sizeof(path.text));
    enum mr_err err = MR_OK;

    mr_text_fmt(&text, "%s/ranges", journal->folder.text);
    if (!mr_path_exists(path.text)) {
        err = make ? mr_cursors_file_make(journal, path.text, RANGES_FILE_BYTES, why) : MR_OK;
        if (err != MR_OK || !make) {
            return err;
        }
    }
    struct ranges *ranges = mr_alloc(sizeof(*ranges));
    err = mr_file_open(&ranges->file, path.text,
                       journal->read_only ? MR_FILE_READ : MR_FILE_READ_WRITE, why);
    if (err != MR_OK) {
        mr_free(ranges);
        return err;
    }
    journal->ranges = ranges;
    err = ranges_load(journal, ranges);
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, MR_ERR_IO, "%s: cannot be read: %s; check the disk",
                                       path.text, mr_file_last_cause());
}

void mr_ranges_close(struct mr_journal *journal)
{
    struct ranges *ranges = journal->ranges;

    if (ranges == NULL) {
        return;
    }
    while (ranges->count != 0) {
        list_remove(ranges, ranges->count - 1);
    }
    mr_file_close(&ranges->file);
    mr_free(ranges);
    journal->ranges = NULL;
}

/* ---- writing ---- */

static bool goes_on(const struct mr_range *before, const struct mr_range *range)
{
    return before->column == range->column && range->to > range->from &&
           before->to > before->from && before->to == range->from;
}

/* What `range` stands for: the newest move of its cursor, when it goes on where that ended; of
 * accepted repetitions those that were accepted before, which end no later.
 */
static const struct entry *entry_before(const struct ranges *ranges, const struct mr_range *range)
{
    for (size_t i = ranges->count; i > 0; i--) {
        const struct entry *entry = ranges->entries[i - 1];
        const struct mr_range *before = &entry->range;
        if (!is_of(entry, range->name, range->lane) ||
            before->is_acceptance != range->is_acceptance) {
            continue;
        }
        if (!range->is_acceptance) {
            return goes_on(before, range) ? entry : NULL;
        }
        if (before->accepted == 0 && range->accepted == 0 && before->to <= range->to) {
            return entry;
        }
    }
    return NULL;
}

/* A free slot; the oldest entry makes room.  False: only acceptances are left. */
static bool slot_find(struct ranges *ranges, uint32_t *slot)
{
    for (uint32_t i = 0; i < MR_RANGES_MAX; i++) {
        if (!ranges->slots[i]) {
            *slot = i;
            return true;
        }
    }
    for (size_t i = 0; i < ranges->count; i++) {
        if (!ranges->entries[i]->range.is_acceptance) {
            *slot = ranges->entries[i]->slot;
            list_remove(ranges, i);
            return true;
        }
    }
    return false;
}

enum mr_err mr_range_write(struct mr_journal *journal, const struct mr_range *range,
                           uint64_t generation)
{
    struct ranges *ranges = journal->ranges;
    uint8_t bytes[ENTRY_BYTES];
    uint32_t slot = 0;

    if (ranges == NULL) {
        return MR_OK; /* a journal that keeps none */
    }
    if (!slot_find(ranges, &slot)) {
        return MR_ERR_FULL;
    }
    const struct entry *before = entry_before(ranges, range);
    struct entry *entry = mr_alloc(sizeof(*entry));
    *entry = (struct entry){.range = *range,
                            .replaces = before == NULL ? 0 : before->range.number,
                            .generation = generation,
                            .slot = slot};
    entry->range.from = before == NULL || range->is_acceptance ? range->from : before->range.from;
    entry->range.number = ranges->number + 1;
    entry->range.at_us = mr_clock_wall_us();
    size_t room = ENTRY_CRC_AT - ENTRY_TEXT_AT - strlen(range->name);
    struct mr_span reason = mr_span_of(range->reason);
    reason.len = reason.len < room ? reason.len : room;
    reason.len = reason.len < MR_RANGE_REASON_MAX ? reason.len : MR_RANGE_REASON_MAX;
    entry_texts(entry, mr_span_of(range->name), reason);
    entry_put(entry, bytes);
    enum mr_err err = slot_write(ranges, slot, bytes);
    if (err == MR_OK && mr_file_sync(&ranges->file) != MR_OK) {
        err = MR_ERR_IO;
    }
    if (err != MR_OK) {
        mr_free(entry);
        slot_void(ranges, slot);
        if (err != MR_ERR_FULL) {
            (void)!voids_clear(ranges); /* else before the next write of a cursor */
        }
        return err;
    }
    list_add(ranges, entry);
    return MR_OK;
}

void mr_range_written(struct mr_journal *journal)
{
    struct ranges *ranges = journal->ranges;
    uint64_t replaced = ranges == NULL ? 0 : ranges->entries[ranges->count - 1]->replaces;

    for (size_t i = 0; replaced != 0 && i < ranges->count; i++) {
        if (ranges->entries[i]->range.number == replaced) {
            uint32_t slot = ranges->entries[i]->slot;
            list_remove(ranges, i);
            if (slot_clear(ranges, slot) != MR_OK) {
                slot_void(ranges, slot); /* the one that stands for it may go before it does */
            }
            return;
        }
    }
}

void mr_range_undo(struct mr_journal *journal)
{
    struct ranges *ranges = journal->ranges;

    if (ranges != NULL) {
        uint32_t slot = ranges->entries[ranges->count - 1]->slot;
        list_remove(ranges, ranges->count - 1);
        slot_void(ranges, slot);
    }
}

void mr_ranges_forget(struct mr_journal *journal, const char *name, uint32_t lane)
{
    struct ranges *ranges = journal->ranges;

    for (size_t i = ranges == NULL ? 0 : ranges->count; i > 0; i--) {
        if (is_of(ranges->entries[i - 1], name, lane)) {
            uint32_t slot = ranges->entries[i - 1]->slot;
            list_remove(ranges, i - 1);
            slot_void(ranges, slot);
        }
    }
}

void mr_ranges_list(struct mr_journal *journal,
                    void (*each)(void *arg, const struct mr_range *range), void *arg)
{
    mr_mutex_lock(&journal->cursor_mutex);
    for (size_t i = 0; journal->ranges != NULL && i < journal->ranges->count; i++) {
        each(arg, &journal->ranges->entries[i]->range);
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}
