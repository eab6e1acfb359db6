/* journal_verify.c - `millrace journal verify`: does all that was durable read back?
 *
 * DESIGN
 *
 * Every record of every segment is read.  What a lane lacks in front of its oldest segment or
 * behind its newest one no segment can tell: for that there are the cursors, which say what
 * somebody has still to read, and what there has been.  They are looked at before the segments, for
 * the end, and once more behind them, for the beginning, because a running gateway moves cursors
 * first and removes segments then.
 */
#include <inttypes.h>

#include "app/cli/ends.h"
#include "app/cli/journal_internal.h"
#include "app/cli/show.h"
#include "base/text.h"
#include "journal/cursor.h"

enum { PATH_BYTES = 4096 };

/* What cursors and the ends of earlier epochs say of a lane. */
struct known {
    uint64_t behind; /* somebody needs what is behind this seq; UINT64_MAX: nobody does */
    uint64_t to;     /* and so far there have been records */
};

struct verifying {
    const char *path; /* of the journal */
    struct known *before;
    uint32_t lane_total; /* 0: the table of cursors cannot be read */
    bool *seen;          /* lanes that have a folder */
};

struct verdict {
    uint64_t records;
    uint64_t seq_first;
    uint64_t seq_last;
    uint64_t from; /* the first seq that was read or is known as lost; 0: none */
    uint64_t to;   /* ... and the last one */
    uint64_t damaged;
    uint64_t seqs_lost;
    uint64_t gaps; /* said so by gap records: known to the gateway */
    bool torn;
    bool endless; /* what is lost goes on to an end that nobody knows */
};

/* ---- what cursors know ---- */

/* Of lane 0 and on; the caller frees it.  NULL, *total 0: it cannot be read, as was said. */
static struct known *known_read(struct mr_cli *cli, const char *path, uint32_t *total, int *code)
{
    const struct mr_journal_options options = {
        .path = path, .name = "journal", .read_only = true, .cursors_only = true};
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};
    struct known *known = NULL;
    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);

    *total = 0;
    if (err != MR_OK) {
        *code = mr_cli_fail(cli,
                            err == MR_ERR_CORRUPT  ? MR_EXIT_FAILED
                            : err == MR_ERR_CONFIG ? MR_EXIT_DATA
                                                   : MR_EXIT_IO,
                            "%s", why.text);
        return NULL;
    }
    *total = mr_journal_lane_total(journal);
    known = mr_alloc(*total * sizeof(*known));
    for (uint32_t lane = 0; lane < *total; lane++) {
        mr_cursors_known(journal, lane, &known[lane].behind, &known[lane].to);
    }
    (void)mr_journal_close(journal); /* nothing was written */
    return known;
}

/* What is not there and does not stand between two segments.  Anything but MR_EXIT_OK: it cannot be
 * told, as was said.
 */
static int verdict_ends(struct mr_cli *cli, const struct verifying *all, const char *lane_path,
                        uint32_t lane, struct verdict *verdict)
{
    uint32_t total = 0;
    int code = MR_EXIT_OK;
    struct known *after = lane < all->lane_total ? known_read(cli, all->path, &total, &code) : NULL;
    struct mr_seqs lacks[2];
    size_t count = 0;

    if (after != NULL && lane < total) {
        count = mr_lane_lacks(after[lane].behind, all->before[lane].to, verdict->from,
                              verdict->endless ? UINT64_MAX : verdict->to, lacks);
    }
    for (size_t i = 0; i < count; i++) {
        verdict->damaged += 1;
        verdict->seqs_lost += lacks[i].last - lacks[i].first + 1;
        (void)mr_cli_fail(cli, MR_EXIT_FAILED,
                          "lane %" PRIu32 ": %s: seqs %" PRIu64 " to %" PRIu64
                          " are lost: cursors say that they were there, and no segment holds them",
                          lane, lane_path, lacks[i].first, lacks[i].last);
    }
    mr_free(after);
    return code;
}

/* ---- a lane ---- */

static void verdict_covers(struct verdict *verdict, uint64_t first, uint64_t last)
{
    verdict->from = verdict->from == 0 || first < verdict->from ? first : verdict->from;
    verdict->to = last > verdict->to ? last : verdict->to;
}

static void verdict_damage(struct mr_cli *cli, uint32_t lane, const struct mr_walk_damage *damage,
                           struct verdict *verdict)
{
    mr_show_damage(cli, lane, damage);
    if (damage->loss == MR_WALK_RETIRED) {
        return; /* a gateway is at work */
    }
    verdict->damaged += 1;
    verdict_covers(verdict, damage->seq_first, damage->seq_last);
    if (damage->loss == MR_WALK_LOST && damage->seq_last >= damage->seq_first) {
        verdict->seqs_lost += damage->seq_last - damage->seq_first + 1;
    } else if (damage->loss == MR_WALK_LOST) {
        verdict->endless = true;
    }
}

static enum mr_err verify_walk(struct mr_cli *cli, struct mr_walk *walk, uint32_t lane,
                               struct verdict *verdict, struct mr_error *why)
{
    struct mr_walk_run run;
    struct mr_walk_damage damage;

    for (;;) {
        enum mr_err err = mr_walk_pass(walk, &run, &damage, why);
        if (err == MR_ERR_AGAIN) {
            err = mr_walk_tail(walk, &damage, &verdict->torn, why);
            if (err == MR_ERR_AGAIN) {
                return MR_OK;
            }
        }
        if (err == MR_ERR_CORRUPT) {
            verdict_damage(cli, lane, &damage, verdict);
        } else if (err != MR_OK) {
            return err;
        } else {
            verdict->records += run.records;
            verdict_covers(verdict, run.seq_first, run.seq_last);
            verdict->seq_first = verdict->seq_first == 0 ? run.seq_first : verdict->seq_first;
            verdict->seq_last = run.seq_last;
            verdict->gaps += run.gap ? 1 : 0;
        }
    }
}

static void verdict_show(struct mr_cli *cli, uint32_t lane, const struct verdict *verdict)
{
    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli,
                         "{\"lane\":%" PRIu32 ",\"records\":%" PRIu64 ",\"seq_first\":%" PRIu64
                         ",\"seq_last\":%" PRIu64 ",\"damaged\":%" PRIu64 ",\"seqs_lost\":%" PRIu64
                         ",\"gaps\":%" PRIu64 ",\"torn_tail\":%s}\n",
                         lane, verdict->records, verdict->seq_first, verdict->seq_last,
                         verdict->damaged, verdict->seqs_lost, verdict->gaps,
                         verdict->torn ? "true" : "false");
        return;
    }
    (void)mr_cli_out(cli, "lane %" PRIu32 ": ", lane);
    if (verdict->records == 0) {
        (void)mr_cli_out(cli, "empty");
    } else {
        (void)mr_cli_out(cli, "%" PRIu64 " record%s, seqs %" PRIu64 " to %" PRIu64,
                         verdict->records, verdict->records == 1 ? "" : "s", verdict->seq_first,
                         verdict->seq_last);
    }
    if (verdict->gaps > 0) {
        (void)mr_cli_out(cli, ", %" PRIu64 " known gap%s", verdict->gaps,
                         verdict->gaps == 1 ? "" : "s");
    }
    if (verdict->torn) {
        (void)mr_cli_out(cli, ", a torn tail that nobody was told about");
    }
    if (verdict->damaged == 0) {
        (void)mr_cli_out(cli, ": fine\n");
    } else {
        (void)mr_cli_out(cli, ": DAMAGED in %" PRIu64 " place%s, %s%" PRIu64 " seqs lost\n",
                         verdict->damaged, verdict->damaged == 1 ? "" : "s",
                         verdict->endless ? "more than " : "", verdict->seqs_lost);
    }
}

static int verify_lane(struct mr_cli *cli, const char *lane_path, uint32_t lane, void *arg)
{
    const struct verifying *all = arg;
    struct mr_walk *walk = NULL;
    struct mr_error why = {.text = ""};
    struct verdict verdict = {.records = 0};
    enum mr_err err = mr_walk_open(&walk, lane_path, 0, &why);

    if (lane < all->lane_total) {
        all->seen[lane] = true;
    }
    if (err == MR_OK) {
        err = verify_walk(cli, walk, lane, &verdict, &why);
        mr_walk_close(walk);
    }
    if (err != MR_OK) {
        return mr_cli_fail(cli, mr_walk_exit(err), "lane %" PRIu32 ": %s", lane, why.text);
    }
    int code = verdict_ends(cli, all, lane_path, lane, &verdict);
    if (code != MR_EXIT_OK) {
        return code;
    }
    verdict_show(cli, lane, &verdict);
    return verdict.damaged == 0 ? MR_EXIT_OK : MR_EXIT_FAILED;
}

/* Lanes that have no folder any more, and whose records somebody needs. */
static int verify_unseen(struct mr_cli *cli, const struct verifying *all)
{
    int code = MR_EXIT_OK;

    for (uint32_t lane = 0; lane < all->lane_total && code <= MR_EXIT_FAILED; lane++) {
        char lane_path[PATH_BYTES];
        struct verdict verdict = {.records = 0};
        if (all->seen[lane] || (mr_cli_given(cli, "lane") && mr_cli_number(cli, "lane") != lane)) {
            continue;
        }
        mr_walk_lane_path(all->path, lane, lane_path, sizeof(lane_path));
        int ends = verdict_ends(cli, all, lane_path, lane, &verdict);
        if (ends == MR_EXIT_OK && verdict.damaged != 0) {
            verdict_show(cli, lane, &verdict);
            ends = MR_EXIT_FAILED;
        }
        code = ends > code ? ends : code;
    }
    return code;
}

static int verify_run(struct mr_cli *cli)
{
    char path[PATH_BYTES];
    struct verifying all = {.path = path};
    int code = mr_walk_journal_path(cli, path, sizeof(path));

    if (code != MR_EXIT_OK) {
        return code;
    }
    all.before = known_read(cli, path, &all.lane_total, &code);
    all.seen = mr_alloc((all.lane_total + 1) * sizeof(*all.seen));
    if (code <= MR_EXIT_FAILED) {
        int lanes = mr_journal_each_lane(cli, path, verify_lane, &all);
        code = lanes > code ? lanes : code;
    }
    if (code <= MR_EXIT_FAILED) {
        int unseen = verify_unseen(cli, &all);
        code = unseen > code ? unseen : code;
    }
    mr_free(all.before);
    mr_free(all.seen);
    return code;
}

static const struct mr_cli_option verify_options[] = {
    MR_JOURNAL_LANE_OPTION,
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per lane."},
    {.name = NULL},
};

const struct mr_command mr_command_journal_verify = {
    .name = "verify",
    .summary = "read everything and report damage",
    .help = "Exit code 0: all that was durable reads back; 1: it does not, and stderr says\n"
            "which file, position and seqs; 74: the disk refuses. What the cursors say that\n"
            "there must be counts too.\n\n" MR_JOURNAL_FOLDER_HELP,
    .options = verify_options,
    .run = verify_run,
};
