/* group.c - what the lanes of one bridge have in common.
 *
 * DESIGN
 *
 * Epochs.  Within an epoch all events of a client are in one lane, so lanes need not
 * know each other.  Between epochs a client may change its lane: what is of epoch e + 1
 * must not be offered before everything of epoch e is settled, in all lanes.  So a
 * worker that comes to the first view of an epoch looks at the cursors of all lanes, and
 * if one is still in front of an earlier epoch's end, it waits.  Whoever moves a cursor
 * over such an end rings all the others.  Cursors only rise, so that the answer "yes"
 * stays true.  Nothing of this is asked for within an epoch.
 *
 * Dead letters.  The lanes have one journal of them; see dead.c.
 *
 * Destinations.  Their number is bounded for all lanes together; see route.c.
 *
 * The mutex guards the list of workers, which come and go one by one, from those who
 * ring, and the destinations.
 */
#include "pipeline/bridge_internal.h"

#include <inttypes.h>

static enum mr_err cursors_open(struct mr_bridge_group *group, const struct mr_bridge_conf *conf,
                                struct mr_error *why)
{
    struct start start;
    enum mr_err err = mr_start_parse(conf->start, &start, why);

    for (uint32_t lane = 0; lane < group->lane_count && err == MR_OK; lane++) {
        const struct start_at where = {
            .journal = group->journal, .name = group->name, .lane = lane};
        err = mr_start_cursor(&where, &start, &group->cursors[lane], why);
    }
    return err;
}

enum mr_err mr_bridge_group_open(struct mr_bridge_group **out, struct mr_journal *journal,
                                 const char *name, const struct mr_bridge_conf *conf,
                                 struct mr_error *why)
{
    struct mr_bridge_group *group = mr_alloc(sizeof(*group));
    struct mr_text text = mr_text_over(group->name, sizeof(group->name));

    mr_text_add(&text, name);
    group->journal = journal;
    group->lane_count = mr_journal_lane_total(journal);
    group->cursors = mr_alloc(group->lane_count * sizeof(struct mr_cursor *));
    group->members = mr_alloc(group->lane_count * sizeof(struct mr_bridge *));
    mr_mutex_init(&group->mutex);
    mr_mutex_init(&group->dead.mutex);
    enum mr_err err = cursors_open(group, conf, why);
    if (err != MR_OK) {
        mr_bridge_group_close(group);
        return err;
    }
    *out = group;
    return MR_OK;
}

void mr_bridge_group_close(struct mr_bridge_group *group)
{
    if (group == NULL) {
        return;
    }
    mr_assert(group->dead.users == 0);
    for (uint32_t lane = 0; lane < group->lane_count; lane++) {
        mr_assert(group->members[lane] == NULL);
    }
    mr_mutex_fini(&group->dead.mutex);
    mr_mutex_fini(&group->mutex);
    mr_dests_close(&group->dests);
    mr_free(group->members);
    mr_free(group->cursors);
    mr_free(group);
}

bool mr_bridge_group_needs(const struct mr_bridge_group *group, uint32_t lane)
{
    uint64_t from;
    uint64_t to;

    return lane < mr_journal_lane_count(group->journal) ||
           mr_cursor_ahead(group->cursors[lane], &from, &to) ||
           mr_cursor_get(group->cursors[lane]) <
               mr_lane_durable(mr_journal_lane(group->journal, lane));
}

void mr_group_join(struct mr_bridge *b)
{
    struct mr_bridge_group *group = b->options.group;

    mr_mutex_lock(&group->mutex);
    mr_assert(group->members[b->options.lane] == NULL);
    group->members[b->options.lane] = b;
    mr_mutex_unlock(&group->mutex);
    mr_group_settled(b);
}

void mr_group_leave(struct mr_bridge *b)
{
    struct mr_bridge_group *group = b->options.group;

    mr_mutex_lock(&group->mutex);
    if (group->members[b->options.lane] == b) {
        group->members[b->options.lane] = NULL;
    }
    mr_mutex_unlock(&group->mutex);
}

/* The next end of an epoch in this lane that the cursor has not reached. */
static uint64_t epoch_end_next(const struct mr_bridge *b)
{
    const struct mr_journal *journal = b->options.journal;
    uint64_t next = UINT64_MAX;

    for (uint32_t epoch = mr_journal_epoch(journal) - 1; epoch > 0; epoch--) {
        uint64_t end = mr_journal_epoch_end(journal, epoch, b->options.lane);
        if (end <= b->seq_cursor) {
            break; /* and so are the earlier ones */
        }
        next = end;
    }
    return next;
}

void mr_group_settled(struct mr_bridge *b)
{
    struct mr_bridge_group *group = b->options.group;

    if (b->main != NULL) {
        return; /* what the others wait for is the first worker's cursor */
    }
    b->seq_epoch_end = epoch_end_next(b);
    if (group == NULL) {
        return;
    }
    mr_mutex_lock(&group->mutex);
    for (uint32_t lane = 0; lane < group->lane_count; lane++) {
        struct mr_bridge *member = group->members[lane];
        if (member != NULL) {
            mr_wake_ring(&member->wake);
        }
        if (member != NULL && member->live.worker != NULL) {
            mr_wake_ring(&member->live.worker->wake);
        }
        mr_cursor_ring(group->cursors[lane]); /* acknowledgements may wait for an epoch, too */
    }
    mr_mutex_unlock(&group->mutex);
}

/* The first lane that has not settled everything in front of `epoch`; lane_count: all
 * have.
 */
static uint32_t lane_behind(const struct mr_bridge_group *group, uint32_t epoch)
{
    uint32_t lane = 0;

    while (lane < group->lane_count && mr_cursor_get(group->cursors[lane]) >=
                                           mr_journal_epoch_end(group->journal, epoch - 1, lane)) {
        lane += 1;
    }
    return lane;
}

bool mr_group_enter_epoch(struct mr_bridge *b, uint32_t epoch)
{
    struct mr_bridge_group *group = b->options.group;
    uint32_t lane = group == NULL ? 0 : lane_behind(group, epoch);

    if (group == NULL || lane == group->lane_count) {
        b->epoch = epoch;
        b->said_epoch = false;
        return true;
    }
    if (!b->said_epoch) {
        b->said_epoch = true;
        mr_log(MR_LOG_INFO, "bridge",
               "%s: lane %u waits at the beginning of epoch %u until lane %u has delivered what "
               "is older",
               b->name, b->options.lane, epoch, lane);
    }
    return false;
}
