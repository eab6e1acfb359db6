/* ends.h - where a lane begins and ends, and what stands at a time, from its files.
 *
 * Works beside a running gateway and without one.
 *
 * Thread: main.   Memory: a window of one file.
 * Time:   ends: one segment is read; at: one or two.
 */
#ifndef MR_APP_CLI_ENDS_H
#define MR_APP_CLI_ENDS_H

#include "app/cli/cli.h"

#define MR_SEQ_UNKNOWN UINT64_MAX /* a damaged header, or the disk refuses: cannot be told */

/* The last seq on disk, 0 if the lane is empty. */
uint64_t mr_lane_newest(const char *journal_path, uint32_t lane);

/* The first seq that is still there, 1 if the lane is empty. */
uint64_t mr_lane_oldest(const char *journal_path, uint32_t lane);

/* The first event that was received at `time_us` or later; behind the newest if there
 * is none, the oldest if all are, 1 if the lane is empty.  What is damaged is passed over.
 * IO, CONFIG: a segment cannot be read, so it may be in there; `why`.
 */
enum mr_err mr_lane_at(const char *journal_path, uint32_t lane, int64_t time_us, uint64_t *out_seq,
                       struct mr_error *why) MR_MUST_USE;

/* What a lane lacks at its ends, where no segment can tell: cursors say (mr_cursors_known()) that
 * all records behind `behind` must be there, at least up to `to`, and from `first` (0: none) to
 * `last` there are.  How many ranges, two at most.
 */
struct mr_seqs {
    uint64_t first;
    uint64_t last;
};
size_t mr_lane_lacks(uint64_t behind, uint64_t to, uint64_t first, uint64_t last,
                     struct mr_seqs out[2]);

#endif
