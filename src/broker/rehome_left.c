/* rehome_left.c - what a lane gave to a member that had left when its shard read of it.
 *
 * DESIGN
 *
 * A running shard that reads a GIVE for a member that is gone gives it to another one, with a
 * record (share_route.c).  At a change of the layout nothing is appended, so the message is
 * pushed to a member's queue, like all that an old shard was owed from other lanes; but groups
 * have members in all old shards, and these are made one after the other.  So what finds nobody is
 * noted, and offered to each shard that is made from then on.  What is left at the end is a reason
 * to make them all once more, and then each has a chance.  This is rare: a member left in the
 * milliseconds before the crash.
 *
 * What nobody takes then was for a group without members whose sessions have outlived the crash.
 */
#include "broker/layout_internal.h"

#include "journal/reader.h"

enum { LIST_FIRST = 64 };

/* One taker of one GIVE, who has left. */
struct left {
    uint64_t seq;
    uint32_t lane;
    uint32_t filter_len;
    bool placed;
    uint8_t filter[];
};

static void left_add(struct moving *moving, uint32_t lane, uint64_t seq, struct mr_span filter)
{
    struct left *left = mr_alloc(sizeof(*left) + filter.len);

    *left = (struct left){.seq = seq, .lane = lane, .filter_len = (uint32_t)filter.len};
    memcpy(left->filter, filter.at, filter.len);
    if (moving->left_count == moving->left_room) {
        moving->left_room = moving->left_room == 0 ? LIST_FIRST : moving->left_room * 2;
        moving->left = mr_realloc(moving->left, moving->left_room * sizeof(struct left *));
    }
    moving->left[moving->left_count++] = left;
}

void left_note(struct moving *moving, struct mr_shard *shard, const struct mr_control *give,
               uint32_t lane, uint64_t seq)
{
    struct mr_take take = mr_take_from(give->list);
    struct mr_control_taker taker;

    while (mr_control_taker_next(&take, &taker)) {
        if (taker.keeps &&
            mr_journal_home_of(moving->broker->run.journal, taker.client,
                               moving->old->shard_count) == shard->index &&
            share_taker(shard, &taker) == NULL) {
            moving->left_here = true;
            if (!moving->again) {
                left_add(moving, lane, seq, taker.filter);
            }
        }
    }
}

/* To a member in this shard, if there is one. */
static void left_give(struct moving *moving, struct mr_shard *shard, struct left *left,
                      const struct mr_control *give)
{
    struct mr_span filter = mr_span_make(left->filter, left->filter_len);
    struct mr_control one = *give;
    struct share_target target;
    struct mr_control_taker taker = {.filter = filter, .keeps = true};

    if (!shares_choose(moving->old->shares, filter, give->will_topic, NULL, SHARE_ANYONE,
                       &target)) {
        return;
    }
    taker.client = share_client_id(target.client);
    size_t size = mr_control_taker_size(&taker);
    uint8_t *list = mr_alloc(size);
    (void)mr_control_taker_put(list, &taker);
    one.list = mr_span_make(list, size);
    one.from = (struct mr_span){0};
    one.flags &= (uint8_t)~MR_CONTROL_GIVE_SOURCE;
    share_apply(shard, &one, left->lane, left->seq);
    left->placed = true;
    shares_release(&target, 1);
    mr_free(list);
}

/* The record is read again, for there may be many. */
static enum mr_err left_offer(struct moving *moving, struct mr_shard *shard, struct left *left,
                              struct mr_error *why)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event record;
    struct mr_control give;
    enum mr_err err =
        mr_reader_open(&reader, moving->broker->run.journal, left->lane, left->seq, NULL, why);

    if (err != MR_OK) {
        return err;
    }
    err = mr_reader_next(reader, &view);
    if (err == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_record(&view, &at, &record) && record.seq <= left->seq) {
            if (record.seq == left->seq && share_get(&record, &give)) {
                left_give(moving, shard, left, &give);
            }
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    return err == MR_ERR_IO
               ? mr_error_set(why, MR_ERR_IO, "the journal cannot be read; check the disk")
               : MR_OK; /* the journal has said what is lost */
}

enum mr_err left_place(struct moving *moving, struct mr_shard *shard, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < moving->left_count && err == MR_OK; i++) {
        if (!moving->left[i]->placed) {
            err = left_offer(moving, shard, moving->left[i], why);
        }
    }
    return err;
}

bool left_again(struct moving *moving)
{
    bool any = false;

    for (size_t i = 0; i < moving->left_count; i++) {
        any |= !moving->left[i]->placed;
    }
    for (size_t i = 0; any && i < moving->left_count; i++) {
        moving->left[i]->placed = false;
    }
    moving->again = any;
    return any;
}

void left_end(struct moving *moving)
{
    for (size_t i = 0; i < moving->left_count; i++) {
        mr_free(moving->left[i]);
    }
    mr_free(moving->left);
}
