/* share_lanes.c - lanes read for groups: the own one, and what is left of those that have ended.
 *
 * DESIGN
 *
 * The shard reads its own lane behind the commit, as it reads the others' (foreign.c), so
 * every QoS 1 and 2 event is seen once, in order, and a crash goes on where it was.  Where that
 * is, GIVE records say, the store, and a READ record when there is another group, which else would
 * be given what was published before there was it.
 *
 * If the number of shards shrinks after a crash, a lane that is no more may hold events that no
 * group has been given.  Its position stands in the vector of a shard that goes on
 * (rehome.c), which gives them before anybody is accepted, as far as there is room, and the
 * rest live.  The lane's cursor `$sessions` holds its segments until that is stored.
 *
 * INVARIANT
 *
 *   pos: everything of the lane at or below has been given, or nobody wanted it.
 */
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"

enum { VIEWS_PER_TURN = 4 };

static struct shares *shares_of(const struct mr_shard *shard)
{
    return shard->broker->shares;
}

/* Kept in a name's slot: the version of the groups it holds for, and whether any wants it. */
static bool name_is_shared(struct mr_shard *shard, const struct foreign_lane *route,
                           const struct mr_event *event)
{
    uint64_t version = shares_version(shares_of(shard));

    if (event->name_id >= MR_NAMES_MAX) {
        return shares_has(shares_of(shard), event->topic);
    }
    void **slot = mr_names_slot(route->view.names, event->name_id);
    uintptr_t known = (uintptr_t)*slot;
    if (MR_UNLIKELY(known >> 1 != (uintptr_t)version)) {
        known = (uintptr_t)version << 1 | shares_has(shares_of(shard), event->topic);
        *slot = (void *)known;
    }
    return (known & 1) != 0;
}

static enum mr_err route_event(struct mr_shard *shard, const struct foreign_lane *route,
                               uint32_t lane, const struct mr_event *event)
{
    struct share_target targets[SHARE_TARGETS_MAX];
    struct mr_message message = message_of(event);
    struct giving giving = {
        .message = &message, .targets = targets, .lane = lane, .seq = event->seq};

    if (event->qos == 0 || event->type != MR_RECORD_EVENT || !name_is_shared(shard, route, event)) {
        return MR_OK;
    }
    giving.count =
        shares_choose_all(shares_of(shard), event->topic, event->qos, targets, SHARE_TARGETS_MAX);
    enum mr_err err = giving.count == 0 ? MR_OK : share_give(shard, &giving);
    shares_release(targets, giving.count);
    return err;
}

/* The rest of the open view.  False: it stays open, there is no room. */
static bool route_view(struct mr_shard *shard, struct foreign_lane *route, uint32_t lane)
{
    struct mr_event event;

    for (;;) {
        struct mr_view_at before = route->at;
        if (!mr_view_event(&route->view, &route->at, &event)) {
            break;
        }
        if (route_event(shard, route, lane, &event) != MR_OK) {
            route->at = before;
            mr_reader_done(route->reader, event.seq - 1);
            return false;
        }
    }
    route->pos = route->view.seq_last;
    mr_reader_done(route->reader, route->pos);
    route->view_open = false;
    mr_view_unpin(&route->view);
    return true;
}

/* One view.  AGAIN: nothing more.   FULL: no room, the end of the stall calls again. */
static enum mr_err route_next(struct mr_shard *shard, struct foreign_lane *route, uint32_t lane)
{
    enum mr_err err = route->view_open ? MR_OK : mr_reader_next(route->reader, &route->view);

    if (err == MR_OK && !route->view_open) {
        route->view_open = true;
        route->at = mr_view_begin(&route->view);
    }
    if (err == MR_ERR_CORRUPT) {
        route->pos = route->view.seq_last; /* it has been logged */
        mr_reader_done(route->reader, route->pos);
        return MR_OK;
    }
    if (err == MR_OK && !route_view(shard, route, lane)) {
        return MR_ERR_FULL;
    }
    return err;
}

/* The disk does not give back what is durable: as foreign.c does, say so and try again at the same
 * place.
 */
static void route_wait(struct mr_shard *shard, struct foreign_lane *route, uint32_t lane)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_ERROR, "mqtt",
               "lane %u cannot be read for shared subscriptions, whose members wait; it is tried "
               "again every second; check the disk",
               lane);
    }
    lane_read_wait(shard, route, lane);
}

/* At most a turn's worth.  True: there may be more. */
static bool route_lane(struct mr_shard *shard, struct foreign_lane *route, uint32_t lane)
{
    if (route->reader == NULL || route->retry_ns != 0) {
        return false;
    }
    for (int i = 0; i < VIEWS_PER_TURN; i++) {
        enum mr_err err = route_next(shard, route, lane);
        if (err == MR_ERR_IO) {
            route_wait(shard, route, lane);
        }
        if (err != MR_OK) {
            return false;
        }
    }
    return true;
}

/* ---- lanes that have ended ---- */

struct ended_lane *share_ended_lane(const struct mr_shard *shard, uint32_t lane)
{
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        if (shard->ended[i].lane == lane) {
            return &shard->ended[i];
        }
    }
    return NULL;
}

void share_ended_add(struct mr_shard *shard, uint32_t lane, uint64_t pos)
{
    uint32_t count = shard->ended_count + 1;

    shard->ended = mr_realloc(shard->ended, count * sizeof(*shard->ended));
    shard->ended[shard->ended_count] = (struct ended_lane){.lane = lane, .route = {.pos = pos}};
    shard->ended_count = count;
}

/* Nothing is appended to it any more. */
static uint64_t ended_last(const struct mr_shard *shard, const struct ended_lane *ended)
{
    return mr_lane_durable(mr_journal_lane(shard->broker->run.journal, ended->lane));
}

static bool ended_is_done(const struct mr_shard *shard, const struct ended_lane *ended)
{
    return ended->route.pos >= ended_last(shard, ended);
}

enum mr_err share_ended_open(struct mr_shard *shard, struct mr_error *why)
{
    enum mr_err err = MR_OK;
    bool is_new = false;

    for (uint32_t i = 0; i < shard->ended_count && err == MR_OK; i++) {
        struct ended_lane *ended = &shard->ended[i];
        struct foreign_lane *route = &ended->route;

        err = mr_cursor_open_behind(shard->broker->run.journal, SESSIONS_CURSOR, ended->lane,
                                    route->pos, &route->cursor, &is_new, why);
        if (err == MR_OK && mr_cursor_get(route->cursor) > route->pos) {
            route->pos = mr_cursor_get(route->cursor);
        }
    }
    return err;
}

void share_ended_catch_up(struct mr_shard *shard)
{
    shard->route_version = shares_version(shares_of(shard)); /* these groups are in the journal */
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        struct ended_lane *ended = &shard->ended[i];
        enum mr_err err = MR_OK;

        if (!shares_any(shares_of(shard))) {
            ended->route.pos = ended_last(shard, ended); /* nobody wants it */
        }
        if (!ended_is_done(shard, ended)) {
            lane_read_open(shard, &ended->route, ended->lane);
        }
        while (err == MR_OK && !ended_is_done(shard, ended)) {
            err = route_next(shard, &ended->route, ended->lane);
        }
        if (ended_is_done(shard, ended)) {
            lane_read_close(&ended->route);
        }
        shard->route_left |= ended->route.reader != NULL; /* the rest when there is room */
    }
}

/* A turn's worth of those that had no room at the start. */
static void ended_route(struct mr_shard *shard)
{
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        struct ended_lane *ended = &shard->ended[i];

        shard->route_left |= route_lane(shard, &ended->route, ended->lane);
        if (ended_is_done(shard, ended)) {
            lane_read_close(&ended->route);
        }
    }
}

/* Those that the disk did not give back are tried again. */
static void ended_follow(struct mr_shard *shard)
{
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        struct ended_lane *ended = &shard->ended[i];

        if (lane_read_is_due(&ended->route, shard->now_ns)) {
            shard->route_left = true;
        }
    }
}

/* ---- the shard's turn ---- */

void share_route(struct mr_shard *shard)
{
    shard->route_left = false;
    if (MR_UNLIKELY(shard->ended_count != 0)) { /* older than what comes in now */
        ended_route(shard);
    }
    shard->route_left |= route_lane(shard, &shard->route, shard->index);
}

bool share_route_waits(const struct mr_shard *shard)
{
    bool waits = shard->route.view_open;

    for (uint32_t i = 0; i < shard->ended_count; i++) {
        waits |= shard->ended[i].route.view_open;
    }
    return waits;
}

void share_route_again(struct mr_shard *shard)
{
    shard->route_left = shard->route.reader != NULL;
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        shard->route_left |= shard->ended[i].route.reader != NULL;
    }
}

/* There are other groups than before: nothing that was published until now is for those that are
 * new, after a crash neither.  Without room the record comes later; nothing is lost by that.
 */
static void route_note(struct mr_shard *shard)
{
    struct foreign_lane *route = &shard->route;
    uint64_t version = shares_version(shares_of(shard));
    uint8_t list[MR_CONTROL_POSITION_BYTES_MAX];
    uint64_t seq = 0;

    if (MR_LIKELY(version == shard->route_version) || shard->stalled || shard->stopping) {
        return;
    }
    if (route->pos > route->pos_told) {
        const uint8_t *end = mr_control_position_put(list, shard->index, route->pos);
        struct mr_control read = {.kind = MR_CONTROL_READ,
                                  .list = mr_span_make(list, (size_t)(end - list))};
        if (control_append(shard, &read, &seq) != MR_OK) {
            return;
        }
        route->pos_told = route->pos;
    }
    shard->route_version = version;
}

void share_follow(struct mr_shard *shard)
{
    struct foreign_lane *route = &shard->route;

    if (MR_UNLIKELY(shard->ended_count != 0)) {
        ended_follow(shard);
    }
    if (MR_LIKELY(!shares_any(shares_of(shard)))) {
        lane_read_close(route);
        share_route_again(shard);
        if (mr_lane_durable(shard->lane) > route->pos) {
            route->pos = mr_lane_durable(shard->lane);
        }
        return;
    }
    if (route->reader == NULL && !shard->stopping) {
        lane_read_open(shard, route, shard->index);
        shard->route_left = true; /* a commit since then has not rung for us */
    } else if (lane_read_is_due(route, shard->now_ns)) {
        shard->route_left = true;
    }
    route_note(shard);
}

void share_lanes_close(struct mr_shard *shard)
{
    lane_read_close(&shard->route);
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        lane_read_close(&shard->ended[i].route);
    }
    mr_free(shard->ended);
    shard->ended = NULL;
    shard->ended_count = 0;
}

void share_passed(struct mr_shard *shard, uint32_t lane, uint64_t seq)
{
    struct ended_lane *ended = share_ended_lane(shard, lane);
    struct foreign_lane *route = lane == shard->index ? &shard->route
                                 : ended != NULL      ? &ended->route
                                                      : NULL;

    if (route == NULL) {
        foreign_is_read(shard, lane, seq);
    } else if (seq > route->pos) {
        route->pos = seq;
        route->pos_told = seq;
    }
}

/* ---- checkpoints ---- */

void share_lanes_sealed(struct mr_shard *shard)
{
    /* All of the own lane, if there are no groups; but at a start they are not all known. */
    bool known = !shard->restoring && !shares_any(shares_of(shard));

    shard->route.pos_sealed = known ? UINT64_MAX : shard->route.pos;
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        shard->ended[i].route.pos_sealed = shard->ended[i].route.pos;
    }
}

void share_lanes_checkpointed(struct mr_shard *shard)
{
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        const struct foreign_lane *route = &shard->ended[i].route;
        if (route->cursor != NULL && route->pos_sealed > mr_cursor_get(route->cursor)) {
            mr_cursor_set_with(route->cursor, route->pos_sealed, route->pos_sealed);
        }
    }
}
