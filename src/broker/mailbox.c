/* mailbox.c - what shards send each other.
 *
 * DESIGN
 *
 * From each shard to each other there is a ring (base/ring.h), made when it is first
 * needed; so every ring has one writer and one reader, and nobody ever waits for a lock.
 * Whoever was sent something is woken once, at the end of the sender's turn.
 *
 * A connection goes to the shard where its client is at home, which is a matter of the
 * client id alone (mr_journal_home): all events of a client are in one lane, in order,
 * and its session is touched by one thread.  What travels is the parcel of net/move.c
 * and the bytes that were read and not consumed, CONNECT first; the home parses them
 * anew.  When the ring is full the connection waits as for a full journal: unparsed,
 * paused, tried again at the next tick.
 *
 * Two connections of one client are taken over in the order in which they arrive at
 * home.
 */
#include "broker/broker_internal.h"

enum {
    RING_BYTES = 1 << 20,
    MAIL_BYTES_PER_TURN = 256 << 10, /* from each shard */
};

enum mail_kind { MAIL_CLIENT };

struct mail {
    uint32_t kind;
};

struct mail_client {
    struct mail mail;
    struct mr_conn_parcel parcel;
    uint8_t *unread; /* mr_alloc; the reader frees it */
};

static struct mailbox *mailbox_of(const struct mr_broker *broker, uint32_t from, uint32_t to)
{
    return &broker->mailboxes[to * broker->shard_count + from];
}

/* The ring to shard `to`; made by its writer. */
static struct mr_ring *ring_to(struct mr_shard *shard, uint32_t to)
{
    struct mailbox *box = mailbox_of(shard->broker, shard->index, to);
    struct mr_ring *ring = atomic_load_explicit(&box->ring, memory_order_relaxed);

    if (ring == NULL) {
        ring = mr_ring_open(RING_BYTES);
        atomic_store_explicit(&box->ring, ring, memory_order_release);
    }
    return ring;
}

static void mail_sent(struct mr_shard *shard, struct mr_ring *ring, size_t size, uint32_t to)
{
    mr_ring_publish(ring, size);
    shard->posted[to] = true;
    shard->posted_any = true;
}

enum mr_err mailbox_send_client(struct client *client, struct mr_span unread)
{
    struct mr_shard *shard = client->shard;
    struct mr_ring *ring = ring_to(shard, client->home);
    struct mail_client *mail = (struct mail_client *)(void *)mr_ring_reserve(ring, sizeof(*mail));

    if (mail == NULL) {
        return MR_ERR_FULL;
    }
    uint32_t to = client->home;
    *mail = (struct mail_client){.mail = {.kind = MAIL_CLIENT}, .unread = mr_alloc(unread.len)};
    memcpy(mail->unread, unread.at, unread.len);
    mr_acks_drop(shard->gate, &client->acks);
    mr_conn_detach(client_conn(client), (uint32_t)unread.len, &mail->parcel);
    mail_sent(shard, ring, sizeof(*mail), to);
    return MR_OK;
}

static void take_client(struct mr_shard *shard, struct mail_client *mail)
{
    struct mr_conn *conn = NULL;

    if (shard->stopping) {
        mr_conn_parcel_close(&mail->parcel, &shard->broker->net_shared);
    } else {
        conn = mr_net_attach(shard->net, &mail->parcel, mail->unread);
    }
    mr_free(mail->unread);
    if (conn != NULL) {
        client_begin(shard, conn);
        mr_conn_resume(conn);
    } else {
        mr_metric_add(shard->metrics.disconnects[shard->stopping ? END_SHUTDOWN : END_MEMORY], 1);
    }
}

/* Everything in the ring, up to a turn's worth. */
static void mailbox_take(struct mr_shard *shard, struct mr_ring *ring)
{
    size_t bytes = 0;

    while (bytes < MAIL_BYTES_PER_TURN) {
        struct mr_span entry = mr_ring_peek(ring);
        if (entry.at == NULL) {
            return;
        }
        struct mail_client mail;
        memcpy(&mail, entry.at, sizeof(mail));
        mr_ring_pop(ring);
        bytes += entry.len + mail.parcel.unread_bytes;
        take_client(shard, &mail);
    }
    shard->mail_left = true;
}

void mailbox_take_all(struct mr_shard *shard)
{
    struct mr_broker *broker = shard->broker;

    shard->mail_left = false;
    for (uint32_t from = 0; from < broker->shard_count; from++) {
        struct mr_ring *ring = atomic_load_explicit(&mailbox_of(broker, from, shard->index)->ring,
                                                    memory_order_acquire);
        if (ring != NULL) {
            mailbox_take(shard, ring);
        }
    }
}

void mailbox_ring(struct mr_shard *shard)
{
    if (!shard->posted_any) {
        return;
    }
    shard->posted_any = false;
    for (uint32_t to = 0; to < shard->broker->shard_count; to++) {
        if (shard->posted[to]) {
            shard->posted[to] = false;
            mr_wake_ring(&shard->broker->shards[to]->wake);
        }
    }
}

static void mailbox_empty(struct mr_broker *broker, struct mr_ring *ring)
{
    struct mr_span entry;

    while ((entry = mr_ring_peek(ring)).at != NULL) {
        struct mail_client mail;
        memcpy(&mail, entry.at, sizeof(mail));
        mr_ring_pop(ring);
        mr_conn_parcel_close(&mail.parcel, &broker->net_shared);
        mr_free(mail.unread);
    }
    mr_ring_close(ring);
}

void mailboxes_close(struct mr_broker *broker)
{
    for (uint32_t i = 0; broker->mailboxes != NULL && i < broker->shard_count * broker->shard_count;
         i++) {
        struct mr_ring *ring =
            atomic_load_explicit(&broker->mailboxes[i].ring, memory_order_acquire);
        if (ring != NULL) {
            mailbox_empty(broker, ring);
        }
    }
    mr_free(broker->mailboxes);
    broker->mailboxes = NULL;
}
