/* test_journal_rot.c
 * links: journal os_sim base
 *
 * Goal:   whatever happens to the bytes of `meta` and `cursors`: a journal whose identity is
 *         damaged is refused and left as it is; a cursor is what one of its two copies says, the
 *         newer one wherever that is whole, and never anything else; of no other bridge, and of
 *         none that never was.  A journal that is opened so can be written to.
 * Method: a journal of three epochs with two bridges on the simulated disk.  Each of the two
 *         files is cut at EVERY byte that says something and EVERY bit of those is flipped (of
 *         the second bridge's slots one bit of each byte).
 */
#include "base/hash.h"
#include "base/log.h"
#include "journal/books.h"
#include "journal/journal.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    EVENTS = 200,
    SLOTS = 2, /* two bridges, each in a lane */
    HALF_BYTES = MR_CURSORS_MAX * MR_CURSOR_SLOT_BYTES,
    META_MAX = 1024,
};

static const char meta_path[] = "/j/meta";
static const char cursors_path[] = "/j/cursors";
static const char *const bridges[] = {"kafka", "historian"};

/* What a copy of a slot says. */
struct said {
    uint64_t seq;
    bool leads;
};

static struct said copies[SLOTS][2]; /* the copy in this half of the file */
static int newer[SLOTS];
static uint8_t pristine[2 * HALF_BYTES];
static uint64_t images;

/* ---- the journal ---- */

static struct mr_journal_options options_of(uint32_t lanes)
{
    return (struct mr_journal_options){
        .path = "/j",
        .name = "rot",
        .lane_count = lanes,
        .max_bytes = 8 << 20,
        .segment_bytes = 64 << 10,
        .block_bytes = 16384,
        .record_bytes_max = 4096,
        .manual = true,
    };
}

static struct mr_journal *open_to_write(uint32_t lanes)
{
    struct mr_journal_options options = options_of(lanes);
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};

    if (mr_journal_open(&journal, &options, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    return journal;
}

static void append(struct mr_journal *journal, uint32_t lane_index)
{
    struct mr_lane *lane = mr_journal_lane(journal, lane_index);
    struct mr_appended out = {.seq = 0};

    for (int i = 0; i < EVENTS; i++) {
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("device"),
                                       .topic = mr_span_of("a/b"),
                                       .payload = mr_span_of("1")};
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    }
    lane_commit(lane, out.seq);
}

static struct mr_cursor *cursor_of(struct mr_journal *journal, int slot)
{
    struct mr_cursor *cursor = NULL;
    bool is_new;

    mr_assert(mr_cursor_open(journal, bridges[slot], (uint32_t)slot, MR_START_OLDEST, &cursor,
                             &is_new, NULL) == MR_OK);
    return cursor;
}

/* Slots are used in the order of their making; each writing goes to the older copy. */
static void put(struct mr_journal *journal, int slot, uint64_t seq, enum mr_cursor_rule rule)
{
    newer[slot] = !newer[slot];
    copies[slot][newer[slot]] = (struct said){.seq = seq, .leads = rule == MR_CURSOR_LEADS};
    mr_assert(mr_cursor_put(cursor_of(journal, slot), seq, rule) == MR_OK);
}

static void read_whole(const char *path, uint8_t *out, size_t max, size_t *len)
{
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, out, max, 0, len) == MR_OK);
    mr_file_close(&file);
}

static void restore(const char *path, const uint8_t *bytes, size_t len)
{
    struct mr_span part = mr_span_make(bytes, len);
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, 0) == MR_OK);
    mr_assert(mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

static void make(void)
{
    size_t len;

    for (uint32_t lanes = 1; lanes <= 3; lanes++) {
        struct mr_journal *journal = open_to_write(lanes);
        for (uint32_t lane = 0; lane < lanes; lane++) {
            append(journal, lane);
        }
        for (int slot = 0; slot < SLOTS && lanes == 3; slot++) {
            (void)cursor_of(journal, slot); /* in both halves, at 0 */
            newer[slot] = 1;
            put(journal, slot, 20 + (uint64_t)slot, MR_CURSOR_FOLLOWS);
            put(journal, slot, 40 + (uint64_t)slot, MR_CURSOR_LEADS);
            if (slot % 2 != 0) { /* so that either half has newer ones */
                put(journal, slot, 60 + (uint64_t)slot, MR_CURSOR_FOLLOWS);
            }
        }
        mr_assert(mr_journal_close(journal) == MR_OK);
    }
    read_whole(cursors_path, pristine, sizeof(pristine), &len);
    mr_assert(len == sizeof(pristine));
}

/* ---- meta ---- */

static enum mr_err look(struct mr_journal **journal, struct mr_error *why)
{
    struct mr_journal_options options = options_of(0);

    options.read_only = true;
    options.cursors_only = true;
    images += 1;
    return mr_journal_open(journal, &options, NULL, why);
}

static void expect_refused(void)
{
    struct mr_error why = {.text = ""};
    struct mr_journal *journal = NULL;

    mr_assert(look(&journal, &why) == MR_ERR_CORRUPT);
    mr_assert(strstr(why.text, meta_path) != NULL && strstr(why.text, "from a copy") != NULL);
}

static void test_meta(void)
{
    uint8_t bytes[META_MAX];
    uint8_t after[META_MAX];
    size_t len;
    size_t len_after;

    read_whole(meta_path, bytes, sizeof(bytes), &len);
    mr_assert(len > MR_META_BYTES + 4 && len < META_MAX); /* it names earlier epochs */
    for (size_t pos = 0; pos < len; pos++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            mr_assert(mr_sim_file_damage(meta_path, pos, (uint8_t)(1u << bit)) == MR_OK);
            expect_refused();
            mr_assert(mr_sim_file_damage(meta_path, pos, (uint8_t)(1u << bit)) == MR_OK);
        }
        mr_assert(mr_sim_file_cut(meta_path, pos) == MR_OK);
        expect_refused();
        restore(meta_path, bytes, len);
    }
    mr_assert(mr_sim_file_damage(meta_path, 40, 1) == MR_OK); /* nobody makes a new one for it */
    struct mr_journal_options options = options_of(3);
    struct mr_journal *journal = NULL;
    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_ERR_CORRUPT);
    mr_assert(mr_sim_file_damage(meta_path, 40, 1) == MR_OK);
    read_whole(meta_path, after, sizeof(after), &len_after);
    mr_assert(len_after == len && memcmp(bytes, after, len) == 0);
}

/* ---- cursors ---- */

static int slots_seen;
static const bool (*whole)[2]; /* whether this copy of a slot is */

static void check_row(void *arg, const struct mr_books_row *row)
{
    int slot = 0;

    (void)arg;
    while (slot < SLOTS && strcmp(row->name, bridges[slot]) != 0) {
        slot += 1;
    }
    mr_assert(slot < SLOTS && row->lane_index == (uint32_t)slot);
    int copy = whole[slot][newer[slot]] ? newer[slot] : !newer[slot];
    mr_assert(whole[slot][copy] && row->seq == copies[slot][copy].seq);
    mr_assert(mr_books_difference(&row->books, row->seq) == 0);
    slots_seen += 1;
}

/* Every cursor that has a whole copy is there as the newest of them says it. */
static void check(struct mr_journal *journal, const bool is_whole[SLOTS][2])
{
    int expected = 0;

    for (int slot = 0; slot < SLOTS; slot++) {
        expected += is_whole[slot][0] || is_whole[slot][1];
    }
    slots_seen = 0;
    whole = is_whole;
    mr_books_list(journal, check_row, NULL);
    mr_assert(slots_seen == expected);
}

static void check_read_only(const bool is_whole[SLOTS][2])
{
    struct mr_journal *journal = NULL;

    mr_assert(look(&journal, NULL) == MR_OK);
    check(journal, is_whole);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* The slot of the byte at `pos`, and in which half; false: none that is used. */
static bool slot_at(uint64_t pos, int *slot, int *half)
{
    *half = pos >= HALF_BYTES;
    *slot = (int)(pos % HALF_BYTES / MR_CURSOR_SLOT_BYTES);
    return *slot < SLOTS;
}

static void all_whole(bool out[SLOTS][2])
{
    memset(out, true, SLOTS * sizeof(out[0]));
}

static void test_every_bit_of_cursors(void)
{
    bool is_whole[SLOTS][2];
    int slot;
    int half;

    for (uint64_t pos = 0; pos < HALF_BYTES + SLOTS * MR_CURSOR_SLOT_BYTES + 64; pos++) {
        if (pos == SLOTS * MR_CURSOR_SLOT_BYTES + 64) {
            pos = HALF_BYTES; /* the slots between were never used */
        }
        all_whole(is_whole);
        if (slot_at(pos, &slot, &half)) {
            is_whole[slot][half] = false;
        }
        unsigned step = pos % HALF_BYTES < MR_CURSOR_SLOT_BYTES ? 1 : 8; /* of the first: each */
        for (unsigned bit = (unsigned)pos % step; bit < 8; bit += step) {
            mr_assert(mr_sim_file_damage(cursors_path, pos, (uint8_t)(1u << bit)) == MR_OK);
            check_read_only((const bool(*)[2])is_whole);
            mr_assert(mr_sim_file_damage(cursors_path, pos, (uint8_t)(1u << bit)) == MR_OK);
        }
    }
}

static void test_every_cut_of_cursors(void)
{
    bool is_whole[SLOTS][2];

    for (int64_t pos = HALF_BYTES + SLOTS * MR_CURSOR_SLOT_BYTES; pos >= 0; pos--) {
        if (pos == HALF_BYTES - 1) {
            pos = SLOTS * MR_CURSOR_SLOT_BYTES;
        }
        for (int slot = 0; slot < SLOTS; slot++) {
            int64_t end = (slot + 1) * MR_CURSOR_SLOT_BYTES;
            is_whole[slot][0] = end <= pos;
            is_whole[slot][1] = HALF_BYTES + end <= pos;
        }
        mr_assert(mr_sim_file_cut(cursors_path, (uint64_t)pos) == MR_OK);
        check_read_only((const bool(*)[2])is_whole);
    }
    restore(cursors_path, pristine, sizeof(pristine));
}

/* A gateway that starts on a damaged table finds the same, and what it writes then is found. */
static void test_going_on(void)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        uint64_t at = (uint64_t)newer[slot] * HALF_BYTES + (uint64_t)slot * MR_CURSOR_SLOT_BYTES;
        bool is_whole[SLOTS][2];

        all_whole(is_whole);
        is_whole[slot][newer[slot]] = false;
        mr_assert(mr_sim_file_damage(cursors_path, at + 30, 0x10) == MR_OK);
        for (int i = 0; i < 2; i++) {
            struct mr_journal *journal = open_to_write(3);
            check(journal, (const bool(*)[2])is_whole);
            mr_assert(mr_journal_close(journal) == MR_OK);
        }
        struct mr_journal *journal = open_to_write(3);
        struct mr_cursor *cursor = cursor_of(journal, slot);
        mr_assert(mr_cursor_rule(cursor) ==
                  (copies[slot][!newer[slot]].leads ? MR_CURSOR_LEADS : MR_CURSOR_FOLLOWS));
        mr_assert(mr_cursor_put(cursor, 150, MR_CURSOR_FOLLOWS) == MR_OK);
        mr_assert(mr_journal_close(journal) == MR_OK);
        journal = open_to_write(3);
        mr_assert(mr_cursor_get(cursor_of(journal, slot)) == 150);
        mr_assert(mr_journal_close(journal) == MR_OK);
        restore(cursors_path, pristine, sizeof(pristine));
    }
}

static int said_both;

static void count_line(const char *line, size_t len)
{
    said_both += memmem(line, len, "damaged in both copies; its bridge begins anew", 46) != NULL;
}

/* Nothing is left of a cursor: that is said, and the others are as they were. */
static void test_both_copies(void)
{
    bool is_whole[SLOTS][2];

    all_whole(is_whole);
    for (int half = 0; half < 2; half++) {
        uint64_t at = (uint64_t)half * HALF_BYTES + 30;
        mr_assert(mr_sim_file_damage(cursors_path, at, 0x10) == MR_OK);
        is_whole[0][half] = false;
    }
    said_both = 0;
    check_read_only((const bool(*)[2])is_whole);
    mr_assert(said_both == 1);
    restore(cursors_path, pristine, sizeof(pristine));
}

int main(void)
{
    mr_log_set_writer(count_line);
    mr_sim_start(3);
    make();
    test_meta();
    test_every_bit_of_cursors();
    test_every_cut_of_cursors();
    test_both_copies();
    test_going_on();
    printf("%llu images\n", (unsigned long long)images);
    mr_sim_stop();
    return 0;
}
