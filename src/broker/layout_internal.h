/* layout_internal.h - the folders of the session stores, and the change of all of them at once.
 *
 *     settle ─▶ find ─▶ (write the stores of `next`) ─▶ decide ─▶ settle
 *
 * Thread: at start, one.   Memory: none.   Time: the disk's.
 */
#ifndef MR_BROKER_LAYOUT_INTERNAL_H
#define MR_BROKER_LAYOUT_INTERNAL_H

#include "broker/keep_internal.h"

/* The store of `lane`; `next`: of the layout that is being written. */
void layout_path(char out[SESSIONS_PATH_BYTES], const char *sessions, bool next, uint32_t lane);

/* Finish a change that was decided, forget one that was not.  IO: `why` says it. */
enum mr_err layout_settle(const char *sessions, struct mr_error *why) MR_MUST_USE;

/* How many lanes the stores of this journal are for; out->lanes 0: there are none. */
enum mr_err layout_find(const char *sessions, const struct mr_journal_id *journal,
                        struct vector *out, struct mr_error *why) MR_MUST_USE;

/* The next layout is complete and on the disk: it is the one from now on.  IO: it may be. */
enum mr_err layout_decide(const char *sessions, struct mr_error *why) MR_MUST_USE;

/* Remove stores of shards from `lanes` on, which hold nothing of this journal. */
enum mr_err layout_trim(const char *sessions, uint32_t lanes, struct mr_error *why) MR_MUST_USE;

/* ---- rehome.c, rehome_copy.c, rehome_left.c ---- */

/* A change of layout under way. */
struct moving {
    struct mr_broker *broker; /* the running one */
    struct mr_broker *old;    /* as it was: count and epoch of the old layout; no shards */
    bool has_stores;
    uint32_t epoch; /* of the new layout */
    uint32_t lanes;
    struct mr_store **stores; /* by new lane */
    uint64_t sessions;
    uint64_t deliveries;
    uint64_t *routes; /* by lane, of all there ever were: as far as groups have been given it */
    bool failed;
    struct clock_step steps[CLOCK_STEPS]; /* of an old shard */
    struct left **left;                   /* rehome_left.c; mr_alloc */
    size_t left_count;
    size_t left_room;
    bool left_here; /* some of it is of the old shard that is being made */
    bool again;     /* the old shards are being made for the second time, and all is known */
};

/* What of this old shard is at home in the new `lane`, into its store. */
void moving_copy(struct moving *moving, struct mr_shard *shard, uint32_t lane);

/* Write what was gathered for `lane`, if that is more than `at_bytes`. */
void moving_flush(struct moving *moving, uint32_t lane, size_t at_bytes);

/* The record `seq` of `lane` gives something to members at home in this old shard: note those
 * who have left.
 */
void left_note(struct moving *moving, struct mr_shard *shard, const struct mr_control *give,
               uint32_t lane, uint64_t seq);

/* What was noted goes to members in this old shard, in place of those.  IO: `why` says it. */
enum mr_err left_place(struct moving *moving, struct mr_shard *shard,
                       struct mr_error *why) MR_MUST_USE;

/* All old shards have been made.  True: not all was placed, and they are to be made again. */
bool left_again(struct moving *moving);
void left_end(struct moving *moving);

#endif
