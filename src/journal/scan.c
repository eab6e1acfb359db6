/* scan.c - see scan.h.
 *
 * DESIGN
 *
 * A window of the file is held in memory and read anew from the current position
 * whenever the next batch does not lie in it as a whole.  After "no valid batch
 * here" the window is forgotten, so that the next call sees what another process
 * has written in the meantime.
 *
 * The search behind damage steps by MR_BATCH_ALIGN and looks at the first four
 * bytes before it asks the predicate, which costs about as much as reading.
 *
 * INVARIANTS
 *
 *   (1) pos is a multiple of MR_BATCH_ALIGN and never falls, except by seek.
 *   (2) seq_expected is 0 only before the first batch of a file whose header
 *       says so; every batch handed out by next() passed mr_batch_check().
 */
#include "journal/journal_internal.h"

#include <stdlib.h>

enum { WINDOW_BYTES = 1 << 20, SEGMENT_NAME_CHARS = 24 };

struct mr_scan {
    struct mr_file file;
    struct mr_segment_header header;
    uint64_t file_bytes;
    uint64_t pos;
    uint64_t seq_expected;
    uint8_t *window;
    size_t window_size;
    size_t window_len;
    uint64_t window_pos;
};

enum mr_err mr_scan_open_known(struct mr_scan **out, const char *path,
                               const struct mr_segment_header *header, struct mr_error *why)
{
    struct mr_scan *scan;
    struct mr_file file;
    enum mr_err err = mr_file_open(&file, path, MR_FILE_READ, why);

    if (err != MR_OK) {
        return err;
    }
    scan = mr_alloc(sizeof(*scan));
    scan->file = file;
    scan->header = *header;
    scan->pos = MR_SEGMENT_HEADER_BYTES;
    scan->seq_expected = header->seq_first;
    if (mr_file_size(&scan->file, &scan->file_bytes) != MR_OK) {
        mr_scan_close(scan);
        return mr_error_set(why, MR_ERR_IO, "%s: its size cannot be read: %s", path,
                            mr_file_last_cause());
    }
    *out = scan;
    return MR_OK;
}

enum mr_err mr_scan_open(struct mr_scan **out, const char *path, struct mr_segment_header *header,
                         struct mr_error *why)
{
    uint8_t bytes[64];
    size_t got = 0;
    struct mr_file file;
    enum mr_err err = mr_file_open(&file, path, MR_FILE_READ, why);

    if (err != MR_OK) {
        return err;
    }
    err = mr_file_read(&file, bytes, sizeof(bytes), 0, &got);
    mr_file_close(&file);
    if (err != MR_OK) {
        return mr_error_set(why, MR_ERR_IO, "%s: cannot be read: %s", path, mr_file_last_cause());
    }
    err = got < sizeof(bytes) ? MR_ERR_CORRUPT : mr_segment_header_get(bytes, header);
    if (err == MR_ERR_CONFIG) {
        return mr_error_set(why, err, "%s: written by a newer millrace; use that version", path);
    }
    if (err != MR_OK) {
        return mr_error_set(why, err, "%s: its header is damaged", path);
    }
    return mr_scan_open_known(out, path, header, why);
}

void mr_scan_close(struct mr_scan *scan)
{
    if (scan == NULL) {
        return;
    }
    mr_file_close(&scan->file);
    mr_free(scan->window);
    mr_free(scan);
}

uint64_t mr_scan_expected(const struct mr_scan *scan)
{
    return scan->seq_expected;
}

uint64_t mr_scan_pos(const struct mr_scan *scan)
{
    return scan->pos;
}

uint64_t mr_scan_file_bytes(const struct mr_scan *scan)
{
    return scan->file_bytes;
}

enum mr_err mr_scan_read(struct mr_scan *scan, void *into, size_t len, uint64_t pos, size_t *got)
{
    return mr_file_read(&scan->file, into, len, pos, got);
}

void mr_scan_seek(struct mr_scan *scan, uint64_t pos, uint64_t seq_expected)
{
    scan->pos = pos;
    scan->seq_expected = seq_expected;
    scan->window_len = 0; /* the file may be another than when it was read */
}

/* What the window holds from `pos` on. */
static struct mr_span scan_at(const struct mr_scan *scan, uint64_t pos)
{
    if (pos < scan->window_pos || pos >= scan->window_pos + scan->window_len) {
        return (struct mr_span){.at = NULL, .len = 0};
    }
    return (struct mr_span){.at = scan->window + (pos - scan->window_pos),
                            .len = (size_t)(scan->window_pos + scan->window_len - pos)};
}

/* Have `need` bytes from `pos` on in the window, unless the file ends before. */
static enum mr_err scan_fill(struct mr_scan *scan, uint64_t pos, size_t need)
{
    if (need > scan->window_size) {
        size_t window = scan->file_bytes < WINDOW_BYTES ? (size_t)scan->file_bytes : WINDOW_BYTES;

        scan->window_size = need > window ? need : window;
        mr_free(scan->window);
        scan->window = mr_alloc(scan->window_size);
    }
    scan->window_pos = pos;
    scan->window_len = 0;
    return mr_file_read(&scan->file, scan->window, scan->window_size, pos, &scan->window_len);
}

/* mr_batch_check() at `pos` with as many bytes as it asks for.  AGAIN becomes
 * CORRUPT when the file does not have them.
 */
static enum mr_err scan_check(struct mr_scan *scan, uint64_t pos, uint64_t seq_expected,
                              struct mr_batch_header *header, struct mr_span *bytes)
{
    for (int round = 0; round < 3; round++) {
        *bytes = scan_at(scan, pos);
        enum mr_err err = mr_batch_check(*bytes, pos, &scan->header, seq_expected, header);
        if (err != MR_ERR_AGAIN) {
            return err;
        }
        size_t had = bytes->len;
        size_t need = header->byte_length;
        if (scan_fill(scan, pos, need) != MR_OK) {
            return MR_ERR_IO;
        }
        if (scan->window_len < need && scan->window_len <= had) {
            return MR_ERR_CORRUPT;
        }
    }
    return MR_ERR_CORRUPT;
}

enum mr_err mr_scan_next(struct mr_scan *scan, struct mr_batch_header *header,
                         struct mr_span *batch, uint64_t *pos)
{
    struct mr_span bytes;
    enum mr_err err = scan_check(scan, scan->pos, scan->seq_expected, header, &bytes);

    if (err != MR_OK) {
        scan->window_len = 0;
        return err == MR_ERR_IO ? err : MR_ERR_AGAIN;
    }
    *batch = (struct mr_span){.at = bytes.at, .len = header->byte_length};
    *pos = scan->pos;
    scan->pos = mr_batch_next_pos(scan->pos, header->byte_length);
    scan->seq_expected = header->seq_first + header->record_count;
    return MR_OK;
}

/* The next position behind `at` that could begin a batch and lies in the window as
 * far as its header; or where the window has to be filled again.
 */
static uint64_t scan_candidate(const struct mr_scan *scan, uint64_t at)
{
    struct mr_span bytes = scan_at(scan, at);
    size_t skip = 0;

    while (skip + MR_BATCH_HEADER_BYTES <= bytes.len &&
           mr_get_u32(bytes.at + skip) != MR_BATCH_MAGIC) {
        skip += MR_BATCH_ALIGN;
    }
    return at + skip;
}

enum mr_err mr_scan_resync(struct mr_scan *scan, struct mr_batch_header *header, uint64_t *pos)
{
    uint64_t at = scan->pos + MR_BATCH_ALIGN;

    while (at + MR_BATCH_HEADER_BYTES <= scan->header.segment_bytes) {
        struct mr_span bytes;

        at = scan_candidate(scan, at);
        if (scan_at(scan, at).len < MR_BATCH_HEADER_BYTES) {
            if (scan_fill(scan, at, MR_BATCH_HEADER_BYTES) != MR_OK) {
                return MR_ERR_IO;
            }
            if (scan->window_len < MR_BATCH_HEADER_BYTES) {
                break;
            }
            continue;
        }
        enum mr_err err = scan_check(scan, at, 0, header, &bytes);
        if (err == MR_ERR_IO) {
            return err;
        }
        if (err == MR_OK && header->seq_first > scan->seq_expected) {
            *pos = at;
            scan->pos = at;
            scan->seq_expected = header->seq_first;
            return MR_OK;
        }
        at += MR_BATCH_ALIGN;
    }
    scan->window_len = 0;
    return MR_ERR_AGAIN;
}

/* ---- the files of a lane ---- */

struct scan_names {
    uint64_t *seqs;
    size_t count;
    size_t room;
    uint32_t spares_end;
};

/* Twenty digits and ".seg"; anything else is not a segment. */
static bool segment_name_parse(const char *name, uint64_t *seq)
{
    struct mr_span span = mr_span_of(name);

    if (span.len != SEGMENT_NAME_CHARS || memcmp(name + 20, ".seg", 4) != 0) {
        return false;
    }
    span.len = 20;
    return mr_parse_u64(span, UINT64_MAX, seq) == MR_OK;
}

uint64_t mr_scan_path_seq(const char *path)
{
    size_t len = strlen(path);
    uint64_t seq = 0;

    mr_assert(len > SEGMENT_NAME_CHARS);
    bool parsed = segment_name_parse(path + len - SEGMENT_NAME_CHARS, &seq);
    mr_assert(parsed);
    return seq;
}

/* "spare-", a number and ".seg". */
static bool spare_name_parse(const char *name, uint32_t *slot)
{
    enum { BEFORE = sizeof("spare-") - 1, BEHIND = sizeof(".seg") - 1 };
    struct mr_span span = mr_span_of(name);
    uint64_t number;

    if (span.len <= BEFORE + BEHIND || memcmp(name, "spare-", BEFORE) != 0 ||
        memcmp(name + span.len - BEHIND, ".seg", BEHIND) != 0) {
        return false;
    }
    span = mr_span_make(span.at + BEFORE, span.len - BEFORE - BEHIND);
    if (mr_parse_u64(span, SPARE_SLOTS - 1, &number) != MR_OK) {
        return false;
    }
    *slot = (uint32_t)number;
    return true;
}

static void scan_names_add(void *arg, const char *name)
{
    struct scan_names *names = arg;
    uint64_t seq;
    uint32_t slot;

    if (spare_name_parse(name, &slot) && slot >= names->spares_end) {
        names->spares_end = slot + 1;
    }
    if (!segment_name_parse(name, &seq)) {
        return;
    }
    if (names->count == names->room) {
        names->room = names->room == 0 ? 64 : names->room * 2;
        names->seqs = mr_realloc(names->seqs, names->room * sizeof(*names->seqs));
    }
    names->seqs[names->count++] = seq;
}

static int seq_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

enum mr_err mr_scan_list(const char *lane_path, char ***paths, size_t *count)
{
    uint32_t spares_end;

    return mr_scan_list_all(lane_path, paths, count, &spares_end);
}

enum mr_err mr_scan_list_all(const char *lane_path, char ***paths, size_t *count,
                             uint32_t *spares_end)
{
    struct scan_names names = {.seqs = NULL};
    enum mr_err err = mr_dir_list(lane_path, scan_names_add, &names);

    *paths = NULL;
    *count = 0;
    *spares_end = 0;
    if (err != MR_OK) {
        mr_free(names.seqs);
        return err;
    }
    if (names.count != 0) {
        qsort(names.seqs, names.count, sizeof(*names.seqs), seq_compare);
        *paths = mr_alloc(names.count * sizeof(**paths));
    }
    for (size_t i = 0; i < names.count; i++) {
        struct path path;
        struct mr_text text = mr_text_over(path.text, sizeof(path.text));

        mr_text_fmt(&text, "%s/%020llu.seg", lane_path, (unsigned long long)names.seqs[i]);
        (*paths)[i] = mr_strdup(path.text);
    }
    *count = names.count;
    *spares_end = names.spares_end;
    mr_free(names.seqs);
    return MR_OK;
}
