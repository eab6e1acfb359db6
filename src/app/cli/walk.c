/* walk.c - see walk.h for the contract.
 *
 * DESIGN
 *
 * Segments are listed anew whenever one has been read to its end, because the
 * gateway may have begun the next one, or removed some.  A segment has ended when
 * a later one exists and, looked at once more after that was seen, there is still
 * no valid batch: the writer fills one segment before it begins the next.
 *
 * Names (client, user, topic) stand under the id that their definition carries, so a part
 * of the segment that is lost takes only what was defined in it: references to that read "?".
 *
 * Who asks only whether records read back (verify) is not told of each.  A journal is full of one
 * kind, which is told by two bytes, and parses if two short numbers behind them end within it: so
 * that is looked at, and mr_record_get() judges all that does not fit.  Reading every record out
 * cost more than reading the file and its checksum together.
 *
 * Rejected: mapping the files instead of reading them into a window, which would save a copy.  A
 * disk that refuses would then be a signal, and not MR_ERR_IO.
 *
 * Rejected: opening the journal read-only (journal.h) for the tools.  verify is
 * the second pair of eyes: it shares the validity predicate, not the reader.
 *
 * INVARIANTS
 *
 *   (1) seq_next is what the next record or the next damage begins with.
 *   (2) Every seq from the first one on is in an event, a gap record or a damage,
 *       exactly once (overlapping segments apart, which are a damage themselves).
 */
#include "app/cli/walk.h"

#include <stdlib.h>

#include "base/text.h"
#include "journal/scan.h"
#include "os/file.h"

enum { PATH_BYTES = 4096, OPEN_TRIES = 8 };

/* Of the records that are passed over. */
enum {
    TIME_BYTES_MAX = 5,
    NAME_BYTES_MAX = 2,
    HEAD_BYTES_MAX = 2 + TIME_BYTES_MAX + NAME_BYTES_MAX, /* type, flags, time, name */

    /* Some records.  Of events of 100 bytes in the second cache one costs 4.2 ns so, 5.7 ns if
     * nothing is fetched ahead, and 8.9 ns read out (medians of five).
     */
    AHEAD_BYTES = 512,
};

_Static_assert(1 << 7 * NAME_BYTES_MAX <= MR_NAMES_MAX, "any number of so many bytes is a name's");

struct walk_name {
    uint8_t *bytes; /* of all three */
    struct mr_span client;
    struct mr_span username;
    struct mr_span topic;
};

struct mr_walk {
    struct mr_scan *scan; /* NULL: none is open */
    struct mr_segment_header header;
    uint64_t seq_from;
    uint64_t seq_next;     /* 0: before the first segment */
    uint64_t pos;          /* of what comes next in the segment */
    uint64_t opened_first; /* first seq by name of the newest file that was opened */
    bool retired;          /* the last file was removed while it was read */

    struct mr_take records; /* of the batch at hand */
    int64_t time_base_us;
    uint32_t records_left;

    struct walk_name *names; /* by id; bytes NULL: not known */
    size_t name_count;

    char lane_path[PATH_BYTES];
    char path[PATH_BYTES];      /* of the segment at hand */
    char last_path[PATH_BYTES]; /* of the one before */
};

/* ---- folders ---- */

static void nothing(void *arg, const char *name)
{
    (void)arg;
    (void)name;
}

int mr_walk_may_look(struct mr_cli *cli, const char *folder)
{
    enum mr_err err = mr_dir_list(folder, nothing, NULL);

    return err == MR_OK || err == MR_ERR_REJECT
               ? MR_EXIT_OK
               : mr_cli_fail(cli, MR_EXIT_IO,
                             "%s: cannot be read: %s; is it the gateway's data folder, and may "
                             "this user read it?",
                             folder, mr_file_last_cause());
}

int mr_walk_journal_path(struct mr_cli *cli, char *buffer, size_t size)
{
    static const char *const places[] = {"", "/journal"};
    const char *data = mr_cli_data_path(cli);

    if (data == NULL) {
        return MR_EXIT_CONFIG;
    }
    for (size_t i = 0; i < MR_COUNT_OF(places); i++) {
        char meta[PATH_BYTES];
        struct mr_text text = mr_text_over(meta, sizeof(meta));
        mr_text_fmt(&text, "%s%s/meta", data, places[i]);
        if (!text.truncated && mr_path_exists(meta)) {
            text = mr_text_over(buffer, size);
            mr_text_fmt(&text, "%s%s", data, places[i]);
            return MR_EXIT_OK;
        }
    }
    for (size_t i = 0; i < MR_COUNT_OF(places); i++) {
        char folder[PATH_BYTES];
        struct mr_text text = mr_text_over(folder, sizeof(folder));
        mr_text_fmt(&text, "%s%s", data, places[i]);
        int code = mr_walk_may_look(cli, folder);
        if (code != MR_EXIT_OK) {
            return code;
        }
    }
    return mr_cli_fail(cli, MR_EXIT_NO_INPUT,
                       "there is no journal in %s; name the gateway's data folder with --data",
                       data);
}

struct lane_list {
    uint32_t *lanes;
    size_t count;
};

static void lane_found(void *arg, const char *name)
{
    struct lane_list *list = arg;
    uint64_t lane = 0;

    if (strncmp(name, "lane-", 5) != 0 ||
        mr_parse_u64(mr_span_of(name + 5), UINT16_MAX, &lane) != MR_OK) {
        return;
    }
    list->lanes = mr_realloc(list->lanes, (list->count + 1) * sizeof(*list->lanes));
    list->lanes[list->count] = (uint32_t)lane;
    list->count += 1;
}

static int lane_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

enum mr_err mr_walk_lanes(const char *journal_path, uint32_t **lanes, size_t *count)
{
    struct lane_list list = {.lanes = NULL, .count = 0};
    enum mr_err err = mr_dir_list(journal_path, lane_found, &list);

    if (list.count > 0) {
        qsort(list.lanes, list.count, sizeof(*list.lanes), lane_order);
    }
    *lanes = list.lanes;
    *count = list.count;
    return err;
}

void mr_walk_lane_path(const char *journal_path, uint32_t lane, char *buffer, size_t size)
{
    struct mr_text text = mr_text_over(buffer, size);

    mr_text_fmt(&text, "%s/lane-%02u", journal_path, lane);
}

/* ---- names ---- */

static void names_clear(struct mr_walk *walk)
{
    for (size_t i = 0; i < walk->name_count; i++) {
        mr_free(walk->names[i].bytes);
        walk->names[i].bytes = NULL;
    }
}

static struct mr_span name_part(uint8_t **at, struct mr_span from)
{
    struct mr_span copy = mr_span_make(*at, from.len);

    if (from.len > 0) {
        memcpy(*at, from.at, from.len);
    }
    *at += from.len;
    return copy;
}

static void name_define(struct mr_walk *walk, const struct mr_record_raw *record)
{
    size_t id = record->name_id; /* < MR_NAMES_MAX, mr_record_get() sees to it */

    if (id >= walk->name_count) {
        size_t count = id + id / 2 + 64;
        walk->names = mr_realloc(walk->names, count * sizeof(*walk->names));
        memset(walk->names + walk->name_count, 0,
               (count - walk->name_count) * sizeof(*walk->names));
        walk->name_count = count;
    }
    struct walk_name *name = &walk->names[id];
    mr_free(name->bytes);
    name->bytes = mr_alloc(record->client.len + record->username.len + record->topic.len + 1);

    uint8_t *at = name->bytes;
    name->client = name_part(&at, record->client);
    name->username = name_part(&at, record->username);
    name->topic = name_part(&at, record->topic);
}

static void names_resolve(struct mr_walk *walk, struct mr_walk_event *event)
{
    const struct mr_record_raw *record = &event->raw;
    const struct mr_span unknown = mr_span_of("?");

    event->client = record->client;
    event->username = record->username;
    event->topic = record->topic;
    if (record->type != MR_RECORD_EVENT || record->naming == MR_NAMING_INLINE) {
        return;
    }
    if (record->naming == MR_NAMING_DEFINE) {
        name_define(walk, record);
    } else if (record->name_id >= walk->name_count || walk->names[record->name_id].bytes == NULL) {
        event->client = unknown;
        event->username = unknown;
        event->topic = unknown;
    } else {
        const struct walk_name *name = &walk->names[record->name_id];
        event->client = name->client;
        event->username = name->username;
        event->topic = name->topic;
    }
}

/* ---- segments ---- */

enum mr_err mr_walk_open(struct mr_walk **out, const char *lane_path, uint64_t seq_from,
                         struct mr_error *why)
{
    struct mr_walk *walk = mr_alloc(sizeof(*walk));
    struct mr_text text = mr_text_over(walk->lane_path, sizeof(walk->lane_path));

    mr_text_add(&text, lane_path);
    walk->seq_from = seq_from;
    if (text.truncated || !mr_path_exists(lane_path)) {
        mr_free(walk);
        return mr_error_set(why, MR_ERR_IO, "%.400s: there is no such folder", lane_path);
    }
    *out = walk;
    return MR_OK;
}

static void segment_close(struct mr_walk *walk)
{
    mr_scan_close(walk->scan);
    walk->scan = NULL;
    walk->records_left = 0;
}

void mr_walk_close(struct mr_walk *walk)
{
    if (walk == NULL) {
        return;
    }
    segment_close(walk);
    names_clear(walk);
    mr_free(walk->names);
    mr_free(walk);
}

/* The file to read after the one at hand, or the first one: its path and first
 * seq.  AGAIN: there is none (yet).
 */
static enum mr_err segment_choose(struct mr_walk *walk, char *path, size_t size, uint64_t *seq)
{
    char **paths = NULL;
    size_t count = 0;
    size_t chosen = SIZE_MAX;
    enum mr_err err = mr_scan_list(walk->lane_path, &paths, &count);

    for (size_t i = 0; err == MR_OK && i < count; i++) {
        uint64_t first = mr_scan_path_seq(paths[i]);
        if (walk->opened_first == 0) { /* the last that begins at or before seq_from */
            chosen = chosen == SIZE_MAX || first <= walk->seq_from ? i : chosen;
        } else if (chosen == SIZE_MAX && first > walk->opened_first) {
            chosen = i;
        }
    }
    if (chosen != SIZE_MAX) {
        struct mr_text text = mr_text_over(path, size);
        mr_text_add(&text, paths[chosen]);
        *seq = mr_scan_path_seq(paths[chosen]);
    }
    for (size_t i = 0; i < count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    return err != MR_OK ? MR_ERR_IO : chosen == SIZE_MAX ? MR_ERR_AGAIN : MR_OK;
}

static enum mr_err damage_set(struct mr_walk *walk, struct mr_walk_damage *damage, const char *what,
                              uint64_t seq_last)
{
    *damage = (struct mr_walk_damage){
        .path = walk->path,
        .what = what,
        .pos = walk->pos,
        .seq_first = walk->seq_next,
        .seq_last = seq_last,
        .loss = MR_WALK_LOST,
    };
    return MR_ERR_CORRUPT;
}

/* The segment that was opened does not begin where the last one ended, at
 * `last_pos` of walk->last_path.
 */
static enum mr_err segment_gap(struct mr_walk *walk, uint64_t last_pos,
                               struct mr_walk_damage *damage)
{
    uint64_t first = walk->header.seq_first;

    (void)damage_set(walk, damage, "the segment ends too early", first - 1);
    damage->path = walk->last_path;
    damage->pos = last_pos;
    damage->loss = walk->retired ? MR_WALK_RETIRED : MR_WALK_LOST;
    if (first < walk->seq_next) {
        damage->what = "the next segment begins before this one ends";
        damage->loss = MR_WALK_REWOUND;
        damage->seq_first = first;
        damage->seq_last = walk->seq_next - 1;
    }
    walk->seq_next = first;
    return MR_ERR_CORRUPT;
}

/* Open the next file.  AGAIN: there is none (yet). */
static enum mr_err segment_next(struct mr_walk *walk, struct mr_walk_damage *damage,
                                struct mr_error *why)
{
    uint64_t last_pos = walk->pos;
    uint64_t first = 0;
    enum mr_err err = MR_ERR_REJECT;

    memcpy(walk->last_path, walk->path, sizeof(walk->path));
    for (unsigned tries = 0; err == MR_ERR_REJECT && tries < OPEN_TRIES; tries++) {
        err = segment_choose(walk, walk->path, sizeof(walk->path), &first);
        if (err != MR_OK) {
            memcpy(walk->path, walk->last_path, sizeof(walk->path));
            return err == MR_ERR_AGAIN
                       ? err
                       : mr_error_set(why, MR_ERR_IO, "%.400s: cannot be listed", walk->lane_path);
        }
        /* REJECT: it was removed since it was listed. */
        err = mr_scan_open(&walk->scan, walk->path, &walk->header, why);
        walk->retired = walk->retired || err == MR_ERR_REJECT;
    }
    if (err != MR_OK && err != MR_ERR_CORRUPT) {
        return err == MR_ERR_REJECT ? MR_ERR_AGAIN : err;
    }

    walk->opened_first = first;
    walk->pos = MR_SEGMENT_HEADER_BYTES;
    names_clear(walk);
    if (err == MR_OK && walk->header.seq_first != first) {
        segment_close(walk);
        err = MR_ERR_CORRUPT;
    }
    if (err == MR_ERR_CORRUPT) { /* how far it went is seen when the next one is opened */
        char next_path[PATH_BYTES];
        uint64_t next_first = 0;
        bool known = segment_choose(walk, next_path, sizeof(next_path), &next_first) == MR_OK;
        walk->seq_next = walk->seq_next == 0 ? first : walk->seq_next;
        walk->pos = 0;
        (void)damage_set(walk, damage, "the segment's header is damaged",
                         known ? next_first - 1 : 0);
        walk->seq_next = known ? next_first : walk->seq_next;
        return MR_ERR_CORRUPT;
    }
    if (walk->seq_next == 0) {
        walk->seq_next = first;
    } else if (walk->seq_next != first) {
        return segment_gap(walk, last_pos, damage);
    }
    walk->retired = false;
    return MR_OK;
}

/* ---- batches and records ---- */

static void batch_begin(struct mr_walk *walk, const struct mr_batch_header *header,
                        struct mr_span batch, uint64_t pos)
{
    walk->pos = mr_batch_next_pos(pos, header->byte_length);
    walk->records = mr_take_from(
        mr_span_make(batch.at + MR_BATCH_HEADER_BYTES, batch.len - MR_BATCH_HEADER_BYTES));
    walk->time_base_us = header->time_base_us;
    walk->records_left = header->record_count;
    walk->seq_next = header->seq_first;
}

/* What stands between the position and the valid batch behind it, at `pos`, is lost. */
static enum mr_err batches_damaged(struct mr_walk *walk, const struct mr_batch_header *header,
                                   uint64_t pos, struct mr_walk_damage *damage)
{
    (void)damage_set(walk, damage, "batches are damaged", header->seq_first - 1);
    walk->seq_next = header->seq_first;
    walk->pos = pos;
    return MR_ERR_CORRUPT;
}

/* The disk refuses, as its last call said. */
static enum mr_err walk_unread(const struct mr_walk *walk, struct mr_error *why)
{
    return mr_error_set(why, MR_ERR_IO, "%.400s: cannot be read: %s", walk->path,
                        mr_file_last_cause());
}

/* No valid batch at the position.  If there is a later segment this one is over,
 * or damaged; OK: the walk can go on.
 */
static enum mr_err batch_missing(struct mr_walk *walk, struct mr_walk_damage *damage)
{
    char path[PATH_BYTES];
    uint64_t next_first = 0;
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t pos = 0;

    enum mr_err err = segment_choose(walk, path, sizeof(path), &next_first);
    if (err != MR_OK) {
        return err;
    }
    err = mr_scan_next(walk->scan, &header, &batch, &pos);
    if (err == MR_OK) { /* it was written just before the segment was closed */
        batch_begin(walk, &header, batch, pos);
        return MR_OK;
    }
    if (err == MR_ERR_IO) {
        return err;
    }
    walk->retired = !mr_path_exists(walk->path);
    if (next_first != walk->seq_next && !walk->retired) {
        err = mr_scan_resync(walk->scan, &header, &pos);
        if (err == MR_ERR_IO) {
            return err;
        }
        if (err == MR_OK) {
            return batches_damaged(walk, &header, pos, damage);
        }
    }
    segment_close(walk);
    return MR_OK;
}

static enum mr_err batch_next(struct mr_walk *walk, struct mr_walk_damage *damage,
                              struct mr_error *why)
{
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t pos = 0;

    if (walk->scan == NULL) {
        enum mr_err err = segment_next(walk, damage, why);
        if (err != MR_OK) {
            return err;
        }
    }
    enum mr_err err = mr_scan_next(walk->scan, &header, &batch, &pos);
    if (err == MR_OK) {
        batch_begin(walk, &header, batch, pos);
        return MR_OK;
    }
    if (err == MR_ERR_AGAIN) {
        err = batch_missing(walk, damage);
    }
    return err == MR_ERR_IO ? walk_unread(walk, why) : err;
}

/* The next record does not parse, so nobody knows where the others of its batch begin. */
static enum mr_err records_lost(struct mr_walk *walk, struct mr_walk_damage *damage)
{
    uint64_t seq_end = walk->seq_next + walk->records_left;

    (void)damage_set(walk, damage, "a record does not parse", seq_end - 1);
    walk->records_left = 0;
    walk->seq_next = seq_end;
    return MR_ERR_CORRUPT;
}

/* Records were taken off the batch at hand: go on behind them. */
static void records_done(struct mr_walk *walk, uint32_t count, bool gap)
{
    /* A GAP is alone in its batch, and stands for all of it. */
    uint32_t seqs = gap ? walk->records_left : count;

    walk->records_left -= seqs;
    walk->seq_next += seqs;
}

/* The next record of the batch at hand.  OK, or CORRUPT with `damage`. */
static enum mr_err record_next(struct mr_walk *walk, struct mr_walk_event *event,
                               struct mr_walk_damage *damage)
{
    if (mr_record_get(&walk->records, walk->time_base_us, &event->raw) != MR_OK) {
        return records_lost(walk, damage);
    }
    event->lane = walk->header.lane;
    event->epoch = walk->header.epoch;
    event->seq = walk->seq_next;
    records_done(walk, 1, event->raw.type == MR_RECORD_GAP);
    event->seq_last = walk->seq_next - 1;
    names_resolve(walk, event);
    return MR_OK;
}

enum mr_err mr_walk_next(struct mr_walk *walk, struct mr_walk_event *event,
                         struct mr_walk_damage *damage, struct mr_error *why)
{
    for (;;) {
        enum mr_err err;
        if (walk->records_left == 0) {
            err = batch_next(walk, damage, why);
            if (err != MR_OK) {
                return err;
            }
            continue;
        }
        err = record_next(walk, event, damage);
        if (err != MR_OK || event->seq_last >= walk->seq_from) {
            return err;
        }
    }
}

/* ---- records that are only passed over ---- */

/* Behind a varint of at most `bytes_max` bytes; NULL: it is longer. */
static inline const uint8_t *varint_end(const uint8_t *at, unsigned bytes_max)
{
    for (unsigned i = 0; i < bytes_max; i++) {
        if (at[i] < 0x80) {
            return at + i + 1;
        }
    }
    return NULL;
}

/* Behind a record as a journal is full of them: an event of QoS 0 or 1 that has a name by
 * reference, a payload and nothing else.  NULL: it is another one, or does not parse.
 */
static inline const uint8_t *plain_end(const uint8_t *at, const uint8_t *end)
{
    struct mr_take records = {.at = at, .end = end};
    struct mr_span record = mr_take_bytes(&records, mr_take_varint(&records));

    /* The second byte is the QoS, if no other flag is set and it is not 2. */
    if (record.len < HEAD_BYTES_MAX || record.at[0] != MR_RECORD_EVENT || record.at[1] > 1) {
        return NULL;
    }
    const uint8_t *name_id = varint_end(record.at + 2, TIME_BYTES_MAX);
    return name_id != NULL && varint_end(name_id, NAME_BYTES_MAX) != NULL ? records.at : NULL;
}

/* Behind any other record; NULL: it does not parse. */
static const uint8_t *other_end(const uint8_t *at, const uint8_t *end, bool *gap)
{
    struct mr_take records = {.at = at, .end = end};
    struct mr_record_raw record;

    if (mr_record_get(&records, 0, &record) != MR_OK) {
        return NULL;
    }
    *gap = record.type == MR_RECORD_GAP;
    return records.at;
}

/* Pass over the batch at hand as far as its records parse; how many do. */
static uint32_t records_pass(struct mr_walk *walk, bool *gap)
{
    const uint8_t *at = walk->records.at; /* a copy, because each record waits for it */
    const uint8_t *end = walk->records.end;
    uint32_t count = 0;

    for (*gap = false; count < walk->records_left && !*gap; count++) {
        __builtin_prefetch(at + AHEAD_BYTES);
        const uint8_t *behind = plain_end(at, end);

        behind = behind == NULL ? other_end(at, end, gap) : behind;
        if (behind == NULL) {
            break;
        }
        at = behind;
    }
    walk->records.at = at;
    return count;
}

enum mr_err mr_walk_pass(struct mr_walk *walk, struct mr_walk_run *run,
                         struct mr_walk_damage *damage, struct mr_error *why)
{
    while (walk->records_left == 0) {
        enum mr_err err = batch_next(walk, damage, why);
        if (err != MR_OK) {
            return err;
        }
    }
    *run = (struct mr_walk_run){.seq_first = walk->seq_next};
    run->records = records_pass(walk, &run->gap);
    if (run->records == 0) {
        return records_lost(walk, damage);
    }
    records_done(walk, run->records, run->gap);
    run->seq_last = walk->seq_next - 1;
    return MR_OK;
}

/* ---- the end ---- */

struct tail {
    bool something; /* stands behind the end */
    bool grew;      /* and it is no end any more: a gateway is at work */
    bool found;     /* a valid batch behind an invalid place: */
    struct mr_batch_header header;
    uint64_t pos;
};

/* Does anything stand where the next batch would begin? */
static enum mr_err tail_has_bytes(const struct mr_walk *walk, bool *something)
{
    struct mr_file file;
    uint8_t bytes[8] = {0};
    size_t got = 0;
    enum mr_err err = mr_file_open(&file, walk->path, MR_FILE_READ, NULL);

    if (err != MR_OK) {
        return err == MR_ERR_REJECT ? MR_OK : MR_ERR_IO; /* it was retired */
    }
    err = mr_file_read(&file, bytes, sizeof(bytes), walk->pos, &got);
    mr_file_close(&file);
    *something = err == MR_OK && got == sizeof(bytes) && mr_get_u64(bytes) != 0;
    return err;
}

/* Is there a valid batch at the walk's position by now, for someone who reads the
 * file from its beginning?
 */
static enum mr_err tail_grew(const struct mr_walk *walk, bool *grew)
{
    struct mr_scan *scan = NULL;
    struct mr_segment_header segment;
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t pos = 0;
    enum mr_err err = mr_scan_open(&scan, walk->path, &segment, NULL);

    if (err != MR_OK) {
        *grew = true; /* removed or replaced: not the file we looked at */
        return err == MR_ERR_IO ? err : MR_OK;
    }
    *grew = segment.salt != walk->header.salt;
    while (!*grew && (err = mr_scan_next(scan, &header, &batch, &pos)) == MR_OK) {
        *grew = pos >= walk->pos;
    }
    mr_scan_close(scan);
    return err == MR_ERR_IO ? err : MR_OK;
}

/* OK: `tail` says what there is.  IO. */
static enum mr_err tail_look(struct mr_walk *walk, struct tail *tail)
{
    enum mr_err err = tail_has_bytes(walk, &tail->something);

    if (err != MR_OK) {
        return err;
    }
    err = mr_scan_resync(walk->scan, &tail->header, &tail->pos);
    if (err == MR_ERR_IO) {
        return err;
    }
    tail->found = err == MR_OK;
    tail->something = tail->something || tail->found;
    return tail->something ? tail_grew(walk, &tail->grew) : MR_OK;
}

enum mr_err mr_walk_tail(struct mr_walk *walk, struct mr_walk_damage *damage, bool *torn,
                         struct mr_error *why)
{
    struct tail tail = {.something = false};

    *torn = false;
    if (walk->scan == NULL) {
        return MR_ERR_AGAIN;
    }
    if (tail_look(walk, &tail) != MR_OK) {
        return walk_unread(walk, why);
    }
    if (tail.grew) {
        return MR_ERR_AGAIN; /* what looked like a hole was none */
    }
    if (tail.found && mr_batch_proves(&tail.header, &walk->header, walk->seq_next)) {
        return batches_damaged(walk, &tail.header, tail.pos, damage);
    }
    *torn = tail.something;
    segment_close(walk);
    return MR_ERR_AGAIN;
}

int mr_walk_exit(enum mr_err err)
{
    return err == MR_ERR_CONFIG ? MR_EXIT_DATA : MR_EXIT_IO;
}

void mr_walk_from_here(struct mr_walk *walk)
{
    walk->seq_from = walk->seq_next;
}

uint64_t mr_walk_seq(const struct mr_walk *walk)
{
    return walk->seq_next;
}
