/* journal_internal.h - what the commands of `millrace journal` that look at lanes share.
 *
 * Thread: main.   Memory: none.   Time: the disk's.
 */
#ifndef MR_APP_CLI_JOURNAL_INTERNAL_H
#define MR_APP_CLI_JOURNAL_INTERNAL_H

#include "app/cli/cli.h"

/* Call `each` for every lane's folder that is asked for (all there are, or --lane).  The exit code:
 * the highest of theirs; one above MR_EXIT_FAILED ends it.
 */
int mr_journal_each_lane(struct mr_cli *cli, const char *journal_path,
                         int (*each)(struct mr_cli *cli, const char *lane_path, uint32_t lane,
                                     void *arg),
                         void *arg);

#define MR_JOURNAL_LANE_OPTION \
    {.name = "lane", .type = MR_OPT_U64, .value = "N", .max = UINT16_MAX, .help = "Only this lane."}

#define MR_JOURNAL_FOLDER_HELP                                                   \
    "Works beside a running gateway and without one. --data may also name one\n" \
    "bridge's dead letters: --data DIR/dead-letters/NAME.\n"

#endif
