/* scan.h - walk a lane's segment files without a running journal.
 *
 * For recovery, for lagging readers, and for tools (`millrace journal`, `tap`)
 * that look at a folder another process may be writing.  Read-only.
 *
 * Thread: one per scan.   Memory: a buffer of one batch.   Time: the disk's.
 */
#ifndef MR_JOURNAL_SCAN_H
#define MR_JOURNAL_SCAN_H

#include "journal/format.h"
#include "os/file.h"

struct mr_scan; /* one segment file being walked */

enum mr_err mr_scan_open(struct mr_scan **out, const char *path, struct mr_segment_header *header,
                         struct mr_error *why) MR_MUST_USE;
void mr_scan_close(struct mr_scan *scan);

/* The next valid batch: header, its bytes (valid until the next call) and its
 * position.  AGAIN: no valid batch here (yet): the end, a torn tail, or rot;
 * more may appear if the file is being written.  IO: the disk refuses.
 */
enum mr_err mr_scan_next(struct mr_scan *scan, struct mr_batch_header *header,
                         struct mr_span *batch, uint64_t *pos) MR_MUST_USE;

/* After AGAIN: look for the next valid batch behind the invalid place, whatever
 * its seq.  OK: found; the scan goes on there.  AGAIN: none to the end.
 */
enum mr_err mr_scan_resync(struct mr_scan *scan, struct mr_batch_header *header,
                           uint64_t *pos) MR_MUST_USE;

/* Segment files of a lane folder, ordered by first seq.  `paths` is released
 * with mr_free() per entry and as a whole.
 */
enum mr_err mr_scan_list(const char *lane_path, char ***paths, size_t *count) MR_MUST_USE;

/* The same, and one more than the highest slot of which there is a spare; 0: there is none. */
enum mr_err mr_scan_list_all(const char *lane_path, char ***paths, size_t *count,
                             uint32_t *spares_end) MR_MUST_USE;

/* First seq of the segment, as the name says it, of a path that mr_scan_list() gave. */
uint64_t mr_scan_path_seq(const char *path);

#endif
