/* journal.c - `millrace journal ls | cat`: look at the files; `verify` has a file of its own.
 *
 * They read what is on disk, beside a running gateway or without one, and never
 * write.  Damage is said on stderr and ends in exit code 1; only a disk that
 * refuses to be read ends a command early (74).
 */
#include <inttypes.h>

#include "app/cli/journal_internal.h"
#include "app/cli/show.h"
#include "base/text.h"
#include "codec/topic.h"
#include "journal/scan.h"
#include "os/file.h"

enum { PATH_BYTES = 4096 };

int mr_journal_each_lane(struct mr_cli *cli, const char *journal_path,
                         int (*each)(struct mr_cli *cli, const char *lane_path, uint32_t lane,
                                     void *arg),
                         void *arg)
{
    uint32_t *lanes = NULL;
    size_t count = 0;
    bool one = mr_cli_given(cli, "lane");
    bool any = false;
    int code = MR_EXIT_OK;

    if (mr_walk_lanes(journal_path, &lanes, &count) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s: cannot be listed", journal_path);
    }
    for (size_t i = 0; i < count && code <= MR_EXIT_FAILED; i++) {
        char lane_path[PATH_BYTES];
        if (one && lanes[i] != mr_cli_number(cli, "lane")) {
            continue;
        }
        any = true;
        mr_walk_lane_path(journal_path, lanes[i], lane_path, sizeof(lane_path));
        int lane_code = each(cli, lane_path, lanes[i], arg);
        code = lane_code > code ? lane_code : code;
    }
    mr_free(lanes);
    if (one && !any) {
        return mr_cli_fail(cli, MR_EXIT_NO_INPUT, "there is no lane %" PRIu64 " in %s",
                           mr_cli_number(cli, "lane"), journal_path);
    }
    return code;
}

static int lanes_walk(struct mr_cli *cli, int (*each)(struct mr_cli *cli, const char *lane_path,
                                                      uint32_t lane, void *arg))
{
    char journal_path[PATH_BYTES];
    int code = mr_walk_journal_path(cli, journal_path, sizeof(journal_path));

    return code == MR_EXIT_OK ? mr_journal_each_lane(cli, journal_path, each, NULL) : code;
}

/* ---- ls ---- */

struct listed {
    struct mr_segment_header header;
    uint64_t seq_last; /* 0: empty */
    uint64_t used;
    uint64_t size;
    const char *state;
};

static uint64_t file_size(const char *path)
{
    struct mr_file file;
    uint64_t bytes = 0;

    if (mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return 0;
    }
    if (mr_file_size(&file, &bytes) != MR_OK) {
        bytes = 0;
    }
    mr_file_close(&file);
    return bytes;
}

/* What ls says of one file.  Only the newest is read to its end: the others end
 * where the next begins (verify proves it), and a journal may be large.
 */
static void segment_look(const char *path, const char *next_path, struct listed *out)
{
    struct mr_scan *scan = NULL;
    struct mr_segment_header next;
    struct mr_batch_header batch;
    struct mr_span bytes;
    uint64_t pos = 0;

    *out = (struct listed){.size = file_size(path), .state = "damaged"};
    enum mr_err err = mr_scan_open(&scan, path, &out->header, NULL);
    if (err != MR_OK) {
        out->state = err == MR_ERR_CONFIG ? "newer" : out->state; /* of a newer millrace */
        return;
    }
    out->used = MR_SEGMENT_HEADER_BYTES;
    if (next_path == NULL) {
        out->state = "newest";
        while (mr_scan_next(scan, &batch, &bytes, &pos) == MR_OK) {
            out->seq_last = batch.seq_first + batch.record_count - 1;
            out->used = mr_batch_next_pos(pos, batch.byte_length);
        }
    } else {
        struct mr_scan *next_scan = NULL;
        out->state = "closed";
        out->used = out->size;
        if (mr_scan_open(&next_scan, next_path, &next, NULL) == MR_OK) {
            out->seq_last = next.seq_first - 1;
            mr_scan_close(next_scan);
        }
    }
    mr_scan_close(scan);
}

static void ls_row(struct mr_cli *cli, uint32_t lane, const char *path, const struct listed *seg)
{
    const char *name = strrchr(path, '/') + 1;
    char created[40];
    char used_buffer[32];
    char size_buffer[32];
    struct mr_text time = mr_text_over(created, sizeof(created));
    struct mr_text used = mr_text_over(used_buffer, sizeof(used_buffer));
    struct mr_text size = mr_text_over(size_buffer, sizeof(size_buffer));

    mr_text_time_us(&time, seg->header.created_us);
    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli,
                         "{\"lane\":%" PRIu32 ",\"file\":\"%s\",\"epoch\":%" PRIu32
                         ",\"seq_first\":%" PRIu64 ",\"seq_last\":%" PRIu64 ",\"used\":%" PRIu64
                         ",\"size\":%" PRIu64 ",\"created\":\"%s\",\"state\":\"%s\"}\n",
                         lane, name, seg->header.epoch, seg->header.seq_first, seg->seq_last,
                         seg->used, seg->size, created, seg->state);
        return;
    }
    mr_text_bytes_human(&used, seg->used);
    mr_text_bytes_human(&size, seg->size);
    (void)mr_cli_out(cli, "%-24s  %5" PRIu32 "  %12" PRIu64 "  %12" PRIu64 "  %10s  %10s  %s  %s\n",
                     name, seg->header.epoch, seg->header.seq_first, seg->seq_last, used_buffer,
                     size_buffer, created, seg->state);
}

static int ls_lane(struct mr_cli *cli, const char *lane_path, uint32_t lane, void *arg)
{
    char **paths = NULL;
    size_t count = 0;

    (void)arg;
    if (mr_scan_list(lane_path, &paths, &count) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s: cannot be listed", lane_path);
    }
    if (!mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "lane %" PRIu32 ": %zu segment%s\n", lane, count,
                         count == 1 ? "" : "s");
        if (count > 0) {
            (void)mr_cli_out(cli, "%-24s  %5s  %12s  %12s  %10s  %10s  %-27s  %s\n", "FILE",
                             "EPOCH", "FIRST SEQ", "LAST SEQ", "USED", "SIZE", "CREATED", "STATE");
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct listed seg;
        segment_look(paths[i], i + 1 < count ? paths[i + 1] : NULL, &seg);
        ls_row(cli, lane, paths[i], &seg);
    }
    for (size_t i = 0; i < count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    return MR_EXIT_OK;
}

static int ls_run(struct mr_cli *cli)
{
    return lanes_walk(cli, ls_lane);
}

/* ---- cat ---- */

static bool topic_wanted(struct mr_cli *cli, const struct mr_walk_event *event)
{
    size_t count = mr_cli_list_count(cli, "topic");

    for (size_t i = 0; i < count; i++) {
        if (mr_topic_matches(mr_span_of(mr_cli_list_at(cli, "topic", i)), event->topic)) {
            return true;
        }
    }
    return count == 0;
}

static enum mr_show cat_form(struct mr_cli *cli)
{
    if (mr_cli_flag(cli, "json")) {
        return MR_SHOW_JSON;
    }
    return mr_cli_flag(cli, "raw") ? MR_SHOW_RAW : MR_SHOW_LINE;
}

static int cat_lane(struct mr_cli *cli, const char *lane_path, uint32_t lane, void *arg)
{
    struct mr_walk *walk = NULL;
    struct mr_walk_event event;
    struct mr_walk_damage damage;
    struct mr_error why = {.text = ""};
    enum mr_show form = cat_form(cli);
    uint64_t seq_to = mr_cli_given(cli, "to") ? mr_cli_number(cli, "to") : UINT64_MAX;
    int code = MR_EXIT_OK;
    bool torn = false;

    (void)arg;
    if (mr_walk_open(&walk, lane_path, mr_cli_number(cli, "from"), &why) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s", why.text);
    }
    for (;;) {
        enum mr_err err = mr_walk_next(walk, &event, &damage, &why);
        if (err == MR_ERR_AGAIN) {
            err = mr_walk_tail(walk, &damage, &torn, &why);
        }
        if (err == MR_OK) {
            if (event.seq > seq_to ||
                (topic_wanted(cli, &event) && !mr_show_event(cli, form, &event))) {
                break;
            }
        } else if (err == MR_ERR_CORRUPT) {
            mr_show_damage(cli, lane, &damage);
            code = damage.loss == MR_WALK_LOST ? MR_EXIT_FAILED : code;
        } else {
            if (err != MR_ERR_AGAIN) {
                code = mr_cli_fail(cli, mr_walk_exit(err), "%s", why.text);
            }
            break;
        }
    }
    mr_walk_close(walk);
    return code;
}

static int cat_run(struct mr_cli *cli)
{
    for (size_t i = 0; i < mr_cli_list_count(cli, "topic"); i++) {
        const char *filter = mr_cli_list_at(cli, "topic", i);
        const char *fault = mr_topic_filter_fault(mr_span_of(filter));
        if (fault != NULL) {
            return mr_cli_fail(cli, MR_EXIT_USAGE, "--topic: '%s' is not a topic filter: %s",
                               filter, fault);
        }
    }
    return lanes_walk(cli, cat_lane);
}

/* ---- tables ---- */

static const struct mr_cli_option ls_options[] = {
    MR_JOURNAL_LANE_OPTION,
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per segment."},
    {.name = NULL},
};

static const struct mr_cli_option cat_options[] = {
    MR_JOURNAL_LANE_OPTION,
    {.name = "from", .type = MR_OPT_U64, .value = "SEQ", .help = "Begin at this record."},
    {.name = "to", .type = MR_OPT_U64, .value = "SEQ", .help = "End with this record."},
    {.name = "topic",
     .letter = 't',
     .type = MR_OPT_LIST,
     .value = "FILTER",
     .help = "Only events whose topic matches; may be repeated."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per event."},
    {.name = "raw", .type = MR_OPT_BOOL, .help = "The payloads only, as they are, one per line."},
    {.name = NULL},
};

static const struct mr_command command_ls = {
    .name = "ls",
    .summary = "list lanes and segments",
    .help = MR_JOURNAL_FOLDER_HELP,
    .options = ls_options,
    .run = ls_run,
};

static const struct mr_command command_cat = {
    .name = "cat",
    .summary = "print the events",
    .help = "Columns, separated by tabs: lane, seq, time of receipt, client, topic, QoS\n"
            "(r: retained, w: a will), payload; of a dead letter also where it came from\n"
            "and why.\n\n" MR_JOURNAL_FOLDER_HELP,
    .options = cat_options,
    .run = cat_run,
};

static const struct mr_command *const journal_commands[] = {
    &command_ls,
    &command_cat,
    &mr_command_journal_verify,
    &mr_command_journal_cursors,
    &mr_command_journal_forget,
    &mr_command_journal_repair,
    NULL,
};

const struct mr_command mr_command_journal = {
    .name = "journal",
    .group = "Look",
    .summary = "list, print, verify and repair what is on disk, and who holds it",
    .subcommands = journal_commands,
};
