/* dead_internal.h - the dead letters of a bridge, one journal for all its lanes (dead.c).
 *
 *     what no target takes ─▶ mr_dead_letter() ─ durable ─▶ its span may retire
 *
 * Thread: a lane's part is its worker's; the store's is under its mutex.
 * Memory: a journal that is made with the first letter; `known` grows with what is there.
 * Time:   two branches a turn where there are none.
 */
#ifndef MR_PIPELINE_DEAD_INTERNAL_H
#define MR_PIPELINE_DEAD_INTERNAL_H

#include "pipeline/bridge.h"

struct flight;

/* The journal of dead letters: the lanes of a bridge append to its one lane in turn. */
struct dead_store {
    struct mr_mutex mutex;
    struct mr_journal *journal; /* NULL until the first */
    struct mr_cursor *cursor;   /* holds all letters until someone takes them out */
    uint32_t users;
    struct mr_bridge *owner; /* whose wake the lane rings; the others have readers */
};

/* Which event a letter is of.  The time tells those of another journal, whose seqs are the same. */
struct letter_of {
    uint64_t seq;
    int64_t received_us;
};

/* A lane's part in it. */
struct dead {
    struct dead_store *store;
    struct mr_journal *journal; /* the store's, once it is used; NULL until then */
    struct mr_lane *lane;
    struct mr_reader *rung;  /* never read: it rings when letters are durable */
    uint64_t seq_last;       /* appended */
    struct letter_of *known; /* events above the cursor whose letters are there already */
    size_t known_count;
    size_t known_room;
    size_t known_sorted;   /* so many are in order; the others are of this pass */
    bool recalls;          /* what is known is to be read back before anything is offered */
    uint32_t attempt;      /* opening or reading back has failed so often in a row */
    int64_t not_before_ns; /* tried again then */
    bool said_full;
};

/* FULL: try again later.  IO: the bridge must stop. */
enum mr_err mr_dead_letter(struct mr_bridge *bridge, const struct mr_event *event,
                           const char *reason, uint64_t *dead_seq) MR_MUST_USE;
enum mr_err mr_dead_letter_of(struct mr_bridge *bridge, struct flight *flight, uint64_t seq,
                              const char *reason) MR_MUST_USE;
void mr_dead_take_rejects(struct mr_bridge *bridge);
bool mr_dead_durable(const struct mr_bridge *bridge, uint64_t dead_seq);
enum mr_err mr_dead_open(struct mr_bridge *bridge, struct mr_error *why) MR_MUST_USE;
void mr_dead_rewind(struct mr_bridge *bridge); /* all behind the cursor comes again */
void mr_dead_moved(struct mr_bridge *bridge);  /* the cursor was put elsewhere */
/* It is known which events behind the cursor have their letters; false: nothing may be offered
 * yet, or it had to stop.
 */
bool mr_dead_is_known(struct mr_bridge *bridge);
bool mr_dead_waits(const struct mr_bridge *bridge); /* it is tried again later */
int64_t mr_dead_turn(struct mr_bridge *bridge, int64_t now_ns);
int64_t mr_dead_submit(struct mr_bridge *bridge, int64_t now_ns);
void mr_dead_close(struct mr_bridge *bridge);

#endif
