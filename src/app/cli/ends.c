/* ends.c - see ends.h. */
#include "app/cli/ends.h"

#include "app/cli/walk.h"
#include "journal/scan.h"

enum { PATH_BYTES = 4096 };

struct segments {
    char **paths;
    size_t count;
};

static struct segments segments_of(const char *journal_path, uint32_t lane)
{
    struct segments segments = {0};
    char lane_path[PATH_BYTES];

    mr_walk_lane_path(journal_path, lane, lane_path, sizeof(lane_path));
    if (mr_scan_list(lane_path, &segments.paths, &segments.count) != MR_OK) {
        segments.count = 0;
    }
    return segments;
}

static void segments_free(struct segments *segments)
{
    for (size_t i = 0; i < segments->count; i++) {
        mr_free(segments->paths[i]);
    }
    mr_free(segments->paths);
}

/* False: it does not read. */
static bool header_of(const char *path, struct mr_segment_header *header)
{
    struct mr_scan *scan = NULL;

    if (mr_scan_open(&scan, path, header, NULL) != MR_OK) {
        return false;
    }
    mr_scan_close(scan);
    return true;
}

/* The last seq of a segment; MR_SEQ_UNKNOWN: its header is damaged, or the disk refuses. */
static uint64_t segment_newest(const char *path)
{
    struct mr_scan *scan = NULL;
    struct mr_segment_header header;
    struct mr_batch_header batch;
    struct mr_span bytes;
    uint64_t pos = 0;

    if (mr_scan_open(&scan, path, &header, NULL) != MR_OK) {
        return MR_SEQ_UNKNOWN;
    }
    uint64_t newest = header.seq_first - 1;
    enum mr_err err = MR_OK;
    while (err == MR_OK) {
        err = mr_scan_next(scan, &batch, &bytes, &pos);
        if (err == MR_ERR_AGAIN) {
            err = mr_scan_resync(scan, &batch, &pos);
        }
        if (err == MR_OK) {
            newest = batch.seq_first + batch.record_count - 1;
        }
    }
    mr_scan_close(scan);
    return err == MR_ERR_IO ? MR_SEQ_UNKNOWN : newest;
}

uint64_t mr_lane_newest(const char *journal_path, uint32_t lane)
{
    struct segments segments = segments_of(journal_path, lane);
    uint64_t newest = segments.count == 0 ? 0 : segment_newest(segments.paths[segments.count - 1]);

    segments_free(&segments);
    return newest;
}

uint64_t mr_lane_oldest(const char *journal_path, uint32_t lane)
{
    struct segments segments = segments_of(journal_path, lane);
    struct mr_segment_header header;
    uint64_t oldest = 1;

    for (size_t i = 0; i < segments.count; i++) {
        if (header_of(segments.paths[i], &header)) {
            oldest = header.seq_first;
            break;
        }
    }
    segments_free(&segments);
    return oldest;
}

/* First seq of the last segment that was begun before `time_us`. */
static uint64_t begun_before(const struct segments *segments, int64_t time_us)
{
    struct mr_segment_header header;

    for (size_t i = segments->count; i > 0; i--) {
        if (header_of(segments->paths[i - 1], &header) && header.created_us <= time_us) {
            return header.seq_first;
        }
    }
    return 1;
}

enum mr_err mr_lane_at(const char *journal_path, uint32_t lane, int64_t time_us, uint64_t *out_seq,
                       struct mr_error *why)
{
    struct segments segments = segments_of(journal_path, lane);
    uint64_t seq = begun_before(&segments, time_us);
    struct mr_walk *walk = NULL;
    struct mr_walk_event event;
    struct mr_walk_damage damage;
    char lane_path[PATH_BYTES];
    bool found = false;

    segments_free(&segments);
    *out_seq = 1;
    mr_walk_lane_path(journal_path, lane, lane_path, sizeof(lane_path));
    enum mr_err err = mr_walk_open(&walk, lane_path, seq, why);
    if (err != MR_OK) {
        return err;
    }
    while (!found && (err == MR_OK || err == MR_ERR_CORRUPT)) {
        err = mr_walk_next(walk, &event, &damage, why);
        found = err == MR_OK && event.raw.type != MR_RECORD_GAP && event.raw.received_us >= time_us;
    }
    *out_seq = found ? event.seq : mr_walk_seq(walk);
    mr_walk_close(walk);
    return err == MR_ERR_AGAIN ? MR_OK : err;
}

size_t mr_lane_lacks(uint64_t behind, uint64_t to, uint64_t first, uint64_t last,
                     struct mr_seqs out[2])
{
    size_t count = 0;

    if (first == 0) {
        if (behind < to) {
            out[count++] = (struct mr_seqs){.first = behind + 1, .last = to};
        }
        return count;
    }
    if (behind < first - 1) {
        out[count++] = (struct mr_seqs){.first = behind + 1, .last = first - 1};
    }
    if (last < to) {
        out[count++] = (struct mr_seqs){.first = last + 1, .last = to};
    }
    return count;
}
