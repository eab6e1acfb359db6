/* expiry.c - connections that end, and sessions and wills whose time comes.
 *
 * A tick looks at a part of the table of sessions: at all of a small one, so that a will
 * is a quarter of a second late at most, at a sixteenth of a large one, so that a tick
 * costs the shard no more than some tenths of a millisecond.
 */
#include "broker/keep_internal.h"

enum { SCAN_SLOTS = 4096, SCAN_PARTS = 16 };

/* Its close record; FULL: the scan tries again. */
static void close_append(struct mr_shard *shard, struct keep *keep, uint8_t flags)
{
    struct mr_control control = {.kind = MR_CONTROL_CLOSE,
                                 .flags = flags,
                                 .client = session_id(keep->session),
                                 .ordinal = keep->ordinal_sent,
                                 .expiry_s = keep->expiry_s};
    uint64_t seq;

    keep->close_owed = control_append(shard, &control, &seq) != MR_OK;
}

bool session_end(struct mr_shard *shard, struct session *session)
{
    struct mr_control end = {.kind = MR_CONTROL_END, .client = session_id(session)};
    uint64_t seq;

    if (!will_publish_kept(shard, session) || shard->stalled ||
        control_append(shard, &end, &seq) != MR_OK) {
        return false;
    }
    session_free(shard, session);
    return true;
}

void session_leave(struct mr_shard *shard, struct session *session, const struct client *client)
{
    struct keep *keep = session->keep;

    session->client = NULL;
    queue_attach(keep);
    if (client->will_dropped && session->will != NULL) {
        stored_free(&shard->pool, session->will);
        session->will = NULL;
    }
    keep_close(shard, keep, shard->wall_us);
    if (keep->expiry_s == 0 && session_end(shard, session)) {
        return;
    }
    close_append(shard, keep, client->will_dropped ? MR_CONTROL_WILL_REVOKED : 0);
    if (session->will != NULL && keep->will_us <= shard->wall_us) {
        (void)will_publish_kept(shard, session); /* the scan tries again */
    }
    share_online(shard, session, false);
    if (session->share != NULL && !shard->stopping) {
        share_shift(shard, session, SHARE_CONNECTED);
    }
}

/* False: the session has ended. */
static void session_look_at(struct mr_shard *shard, struct session *session)
{
    struct keep *keep = session->keep;

    if (keep == NULL || keep->closed_us == 0 || shard->stalled) {
        return;
    }
    if (keep->close_owed) {
        close_append(shard, keep, session->will == NULL ? MR_CONTROL_WILL_REVOKED : 0);
    }
    if (session->will != NULL && keep->will_us <= shard->wall_us) {
        (void)will_publish_kept(shard, session);
    }
    if (MR_UNLIKELY(session->share != NULL) && keep->count != 0) {
        share_shift(shard, session, SHARE_CONNECTED); /* one may be there by now */
    }
    if (keep_expires_us(keep) <= shard->wall_us && session_end(shard, session)) {
        shard->clients_expired += 1;
    }
}

void expiry_scan(struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;
    size_t part = slots <= SCAN_SLOTS ? slots : slots / SCAN_PARTS;

    if (shard->keeps_count == 0) {
        return;
    }
    for (size_t i = 0; i < part; i++) {
        struct session *session = shard->sessions[shard->expiry_slot & (slots - 1)];
        shard->expiry_slot += 1;
        while (session != NULL) {
            struct session *next = session->table_next;
            session_look_at(shard, session);
            session = next;
        }
    }
}
