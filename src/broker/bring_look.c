/* bring_look.c - the next batch of a walk: what the session has not had, and may have.
 *
 * A message whose rules cannot be asked, for the session store cannot be read now, holds up its
 * walk until it can: it is `unread`, and looked at first the next time.
 */
#include "broker/bring_internal.h"

enum { QUEUE_FILL_MAX = 512 }; /* deliveries of a persistent session that wait to be sent */

uint32_t bring_room(const struct mr_shard *shard, const struct keep *keep)
{
    uint64_t most = shard->limits.max_queued_messages / 2;
    uint32_t waits = keep->count - keep->next;

    most = most == 0 ? 1 : most < QUEUE_FILL_MAX ? most : QUEUE_FILL_MAX;
    if (keep->count != 0 && keep->bytes >= shard->limits.max_queued_bytes / 2) {
        return 0;
    }
    return waits < most ? (uint32_t)most - waits : 0;
}

static int brought_compare(const void *a, const void *b)
{
    const struct kept *x = ((const struct brought *)a)->kept;
    const struct kept *y = ((const struct brought *)b)->kept;

    if (x->lane != y->lane) {
        return x->lane < y->lane ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Has what was found come to the session as a live message, or will it? */
static bool came_live(const struct bringing *bringing, const struct bring *bring, uint8_t qos)
{
    return bring->walk.stamp > bring->stamp && (qos != 0 || bring->walk.stamp > bringing->missed);
}

/* What has to be asked of each message that a walk finds. */
struct asked {
    bool guarded; /* not all of what it matches may be read */
    bool sourced; /* nor what its publisher may not publish any more */
};

/* May this client have it?  CONFIG: the rules keep it from it.   IO: nobody knows now. */
static enum mr_err kept_ask(struct mr_shard *shard, const struct session *session,
                            const struct asked *asked, const struct kept *kept)
{
    struct mr_message message;

    if (MR_LIKELY(!asked->guarded && !asked->sourced)) {
        return MR_OK;
    }
    enum mr_err err = kept_read(shard, kept, &message);
    if (err == MR_OK &&
        ((asked->guarded && !access_may(shard, session, message.topic, MR_ACL_READ)) ||
         (asked->sourced && !access_source_may(shard, &message)))) {
        err = MR_ERR_CONFIG;
    }
    kept_read_end(shard);
    return err;
}

void bring_unread_drop(struct mr_shard *shard, struct bring *bring)
{
    if (bring->unread != NULL) {
        kept_unref(shard, bring->unread);
        bring->unread = NULL;
    }
}

/* The next one of the walk, which goes on: the one that could not be read before, or another. */
static struct kept *bring_found(struct mr_shard *shard, struct bring *bring, uint32_t *steps)
{
    struct kept *unread = bring->unread;
    bool again = unread != NULL && unread->is_retained; /* so the tree holds it */

    bring_unread_drop(shard, bring);
    return again ? unread : retained_walk_next(shard, &bring->walk, bring_filter(bring), steps);
}

bool bring_walk_ended(const struct bring *bring)
{
    return bring->walk.at == NULL && bring->unread == NULL;
}

void bring_look(struct mr_shard *shard, struct bringing *bringing, struct bring *bring,
                uint32_t *steps)
{
    const struct session *session = bringing->session;
    const struct keep *keep = session->keep;
    const struct asked asked = {.guarded = access_covers(shard, session, bring_filter(bring)) !=
                                           MR_ACL_COVERS_ALL,
                                .sourced = access_asks_sources(shard, session)};
    uint32_t room = keep == NULL ? BATCH : bring_room(shard, keep);
    uint64_t bytes = keep == NULL ? 0 : keep->bytes;
    uint16_t begin = bringing->count;
    struct kept *kept;

    bringing->acl_version = shard->acl_version;
    retained_walk_resume(&bring->walk);
    while (bringing->count < BATCH && room != 0 &&
           (kept = bring_found(shard, bring, steps)) != NULL) {
        uint8_t qos = kept->qos < bring->qos ? kept->qos : bring->qos;
        if (keep != NULL && kept->state == KEPT_EXEMPT) {
            qos = 0; /* what has no seq cannot be queued */
        }
        if (came_live(bringing, bring, qos)) {
            continue;
        }
        enum mr_err err = kept_ask(shard, session, &asked, kept);
        if (MR_UNLIKELY(err == MR_ERR_IO)) {
            bring->unread = kept;
            kept->refs += 1;
            break;
        }
        if (err != MR_OK) {
            continue;
        }
        bringing->batch[bringing->count++] = (struct brought){
            .kept = kept, .sub = bring->sub, .subscription_id = bring->subscription_id, .qos = qos};
        kept->refs += 1;
        if (keep != NULL && qos != 0) {
            bytes += kept->bytes;
            room = bytes < shard->limits.max_queued_bytes / 2 ? room - 1 : 0;
        }
    }
    retained_walk_pause(&bring->walk);
    /* In the order in which they came, as far as that is known here. */
    if (bringing->count > begin + 1) {
        qsort(&bringing->batch[begin], (size_t)(bringing->count - begin), sizeof(struct brought),
              brought_compare);
    }
}
