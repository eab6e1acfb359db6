/* journal_repair.c - `millrace journal repair`: take out what is damaged, keep all else. */
#include <inttypes.h>

#include "app/cli/ends.h"
#include "app/cli/walk.h"
#include "journal/cursor.h"
#include "journal/repair.h"
#include "journal/scan.h"
#include "os/file.h"

enum { PATH_BYTES = 4096 };

static void lost_show(void *arg, const struct mr_repair_loss *loss)
{
    struct mr_cli *cli = arg;

    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli,
                         "{\"lane\":%" PRIu32 ",\"seq_first\":%" PRIu64 ",\"seq_last\":%" PRIu64
                         ",\"position\":%" PRIu64 ",\"names_only\":%s,\"file\":",
                         loss->lane, loss->seq_first, loss->seq_last, loss->pos,
                         loss->names ? "true" : "false");
        (void)mr_cli_out_json(cli, loss->path, strlen(loss->path));
        (void)mr_cli_out(cli, "}\n");
        return;
    }
    (void)mr_cli_out(cli,
                     "lane %" PRIu32 ": %" PRIu64 " to %" PRIu64 " lost (%s at %" PRIu64 "%s)\n",
                     loss->lane, loss->seq_first, loss->seq_last, loss->path, loss->pos,
                     loss->names ? ": who sent them stood in a damaged place" : "");
}

static int repaired_show(struct mr_cli *cli, const struct mr_repair *repair, const char *path)
{
    const char *plural = repair->segments_damaged == 1 ? "" : "s";

    if (repair->segments_damaged == 0) {
        mr_cli_note(cli, "nothing is damaged; %" PRIu64 " segment%s looked at", repair->segments,
                    repair->segments == 1 ? "" : "s");
        return MR_EXIT_OK;
    }
    if (repair->dry_run) {
        mr_cli_note(cli,
                    "%" PRIu64 " segment%s damaged, %" PRIu64 " seqs lost; nothing was changed, "
                    "add --yes to repair",
                    repair->segments_damaged, plural, repair->seqs_lost);
        return MR_EXIT_FAILED;
    }
    mr_cli_note(cli,
                "%" PRIu64 " segment%s written anew without %" PRIu64 " seqs that were lost; the "
                "old ones lie in %s/damaged",
                repair->segments_damaged, plural, repair->seqs_lost, path);
    return MR_EXIT_OK;
}

/* What a lane lacks in front of its oldest segment or behind its newest no segment can tell, so no
 * repair sees it; the cursors can.  Was there something?
 */
static bool ends_missing(struct mr_cli *cli, struct mr_journal *journal, const char *path,
                         uint32_t lane)
{
    char lane_path[PATH_BYTES];
    char **paths = NULL;
    size_t count = 0;
    uint64_t behind = 0;
    uint64_t to = 0;
    struct mr_seqs lacks[2];

    mr_walk_lane_path(path, lane, lane_path, sizeof(lane_path));
    if (mr_scan_list(lane_path, &paths, &count) != MR_OK) {
        return false; /* the repair has said so */
    }
    uint64_t oldest = count == 0 ? 0 : mr_scan_path_seq(paths[0]);
    for (size_t i = 0; i < count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    mr_cursors_known(journal, lane, &behind, &to);
    count = mr_lane_lacks(behind, to, oldest, mr_lane_newest(path, lane), lacks);
    for (size_t i = 0; i < count; i++) {
        (void)mr_cli_fail(
            cli, MR_EXIT_FAILED,
            "lane %" PRIu32 ": seqs %" PRIu64 " to %" PRIu64
            " are missing: cursors say that they were there, and no segment in %s holds "
            "them; a repair cannot bring them back, were files removed by hand?",
            lane, lacks[i].first, lacks[i].last, lane_path);
    }
    return count != 0;
}

static int repair_run(struct mr_cli *cli)
{
    char path[PATH_BYTES];
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};
    bool missing = false;
    struct mr_repair repair = {.dry_run = !mr_cli_flag(cli, "yes"), .lost = lost_show, .arg = cli};
    int code = mr_walk_journal_path(cli, path, sizeof(path));

    if (code != MR_EXIT_OK) {
        return code;
    }
    const struct mr_journal_options options = {
        .path = path, .name = "journal", .cursors_only = true};
    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);
    if (err == MR_ERR_AGAIN) {
        return mr_cli_fail(cli, MR_EXIT_TRY_AGAIN,
                           "a journal can be repaired only while the gateway is stopped: %s",
                           why.text);
    }
    if (err == MR_OK) {
        err = mr_journal_repair(journal, &repair, &why);
        for (uint32_t i = 0; err == MR_OK && i < mr_journal_lane_total(journal); i++) {
            missing = ends_missing(cli, journal, path, i) || missing;
        }
        (void)mr_journal_close(journal); /* no cursor was moved */
    }
    if (err != MR_OK) {
        return mr_cli_fail(cli, err == MR_ERR_CONFIG ? MR_EXIT_DATA : MR_EXIT_IO, "%s", why.text);
    }
    if (missing && repair.segments_damaged == 0) {
        return MR_EXIT_FAILED;
    }
    code = repaired_show(cli, &repair, path);
    return missing ? MR_EXIT_FAILED : code;
}

static const struct mr_cli_option repair_options[] = {
    {.name = "yes", .type = MR_OPT_BOOL, .help = "Do it; without this it only says what it would."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per range that is lost."},
    {.name = NULL},
};

const struct mr_command mr_command_journal_repair = {
    .name = "repair",
    .summary = "take out what is damaged, keep all else",
    .help = "A gateway runs with a damaged journal too, and says so at each start. After a repair\n"
            "the journal itself says what is missing. Nothing is destroyed: a damaged segment is\n"
            "kept as it was in `damaged`, beside the lanes. Lists the seqs that are lost. Exit\n"
            "code 1: something is damaged, without --yes; or segments are missing; 75: the gateway "
            "is running.\n"
            "--data may also name one bridge's dead letters: --data DIR/dead-letters/NAME.\n",
    .options = repair_options,
    .run = repair_run,
};
