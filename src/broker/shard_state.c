/* shard_state.c - what a shard knows, without what it serves: sessions, subscriptions, retained
 * messages, and the memory for them.
 *
 * A shard of an earlier layout is this and nothing more (rehome.c).
 */
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"
#include "broker/retained.h"

#include "os/process.h"

void shard_state_open(struct mr_shard *shard, struct mr_broker *broker, uint32_t index,
                      uint64_t memory)
{
    shard->broker = broker;
    shard->limits = broker->limits;
    shard->index = index;
    shard->wake.fd = -1;
    shard->lane = mr_journal_lane(broker->run.journal, index);
    mr_bufpool_init(&shard->pool, memory, memory / 8);
    mr_os_random(&shard->key, sizeof(shard->key));
    shard->subtree = mr_subtree_open(&shard->pool, &shard->key);
    mr_wheel_init(&shard->expiries, shard->tick);
    if (broker->shard_count > 1) {
        shard->foreign = mr_alloc(broker->shard_count * sizeof(*shard->foreign));
    }
}

/* Lists may know sessions that have ended. */
static void lists_close(struct mr_shard *shard)
{
    while (shard->kicked != NULL) {
        struct keep *keep = shard->kicked;
        shard->kicked = keep->kick_next;
        keep->kicked = false;
        keep_let_go(shard, keep);
    }
    while (shard->settling != NULL) {
        struct keep *keep = shard->settling;
        shard->settling = keep->settle_next;
        keep->settling = false;
        keep_let_go(shard, keep);
    }
    while (shard->dirty != NULL) {
        struct keep *keep = shard->dirty;
        shard->dirty = keep->dirty_next;
        keep->dirty = false;
        keep_let_go(shard, keep);
    }
}

void shard_sessions_close(struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;

    mr_store_close(shard->store);
    shard->store = NULL;
    shard->closing = true;
    for (size_t i = 0; i < slots; i++) {
        while (shard->sessions[i] != NULL) {
            session_free(shard, shard->sessions[i]);
        }
    }
    reserve_close(shard);
    bring_close(shard);
    retained_close(shard);
    kept_drop_all(shard);
    lists_close(shard);
}

void shard_state_close(struct mr_shard *shard)
{
    mr_subtree_close(shard->subtree);
    mr_free(shard->foreign);
    mr_free(shard->sessions);
    mr_bufpool_fini(&shard->pool);
}
