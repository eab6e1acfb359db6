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
 * paused, tried again at the next tick; and so when what is on its way would be more than
 * the part of `gateway.memory` that is kept for it.
 *
 * Messages with QoS 0, and those that are not journaled, go to every other shard that
 * may have a subscriber for them (interest.h), at once.  They lie in the ring itself, or
 * beside it if they are large; when there is no room they are dropped and counted, as
 * for any subscriber that is too slow.  QoS 1 takes another way: foreign.c.
 *
 * Two connections of one client are taken over in the order in which they arrive at
 * home.
 */
#include "broker/keep_internal.h"
#include "broker/retained.h"

#include "net/move.h"

enum {
    RING_BYTES = 1 << 20,
    MAIL_BYTES_PER_TURN = 256 << 10, /* from each shard */
    MESSAGE_IN_RING_MAX = 64 << 10,
    LARGE_BYTES_MAX = 16 << 20, /* of large messages between two shards, if more than one */
};

enum mail_kind { MAIL_CLIENT, MAIL_MESSAGE };

struct mail_client {
    struct mr_conn_parcel parcel;
    uint8_t *unread; /* mr_alloc; the reader frees it */
    bool in_crowd;   /* as the client's */
    bool is_surplus;
};

/* Topic, properties and payload stand behind it, or in `large`. */
struct mail_message {
    uint8_t *large; /* mr_alloc; the reader frees it; NULL: behind */
    int64_t received_us;
    uint32_t topic_len;
    uint32_t props_len;
    uint32_t payload_len;
    uint32_t filter_len; /* for one member of a group: its filter, and the client id, */
    uint32_t client_len; /* stand behind the payload; else 0 */
    uint8_t qos;
    bool retain;
};

/* The member that a message is for; empty spans: whoever is subscribed. */
struct mail_member {
    struct mr_span filter;
    struct mr_span client;
};

struct mail {
    enum mail_kind kind;
    union {
        struct mail_client client;
        struct mail_message message;
    };
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
    struct mailbox *box = mailbox_of(shard->broker, shard->index, client->home);
    uint64_t moving = atomic_load_explicit(&box->moving_bytes, memory_order_relaxed);
    bool fits = moving == 0 || moving + unread.len <= shard->moving_max;
    struct mail *mail = NULL;

    if (fits && mr_conn_may_detach(client_conn(client))) {
        mail = (struct mail *)(void *)mr_ring_reserve(ring, sizeof(*mail));
    }
    if (mail == NULL) {
        return MR_ERR_FULL;
    }
    uint32_t to = client->home;
    *mail = (struct mail){.kind = MAIL_CLIENT,
                          .client = {.unread = mr_alloc(unread.len),
                                     .in_crowd = client->in_crowd,
                                     .is_surplus = client->is_surplus}};
    memcpy(mail->client.unread, unread.at, unread.len);
    atomic_fetch_add_explicit(&box->moving_bytes, unread.len, memory_order_relaxed);
    mr_acks_drop(shard->gates[GATE_DISK], &client->acks);
    mr_conn_detach(client_conn(client), (uint32_t)unread.len, &mail->client.parcel);
    mail_sent(shard, ring, sizeof(*mail), to);
    return MR_OK;
}

static uint8_t *put_span(uint8_t *at, struct mr_span span)
{
    if (span.len != 0) {
        memcpy(at, span.at, span.len);
    }
    return at + span.len;
}

/* False: there is no room. */
static bool send_message_to(struct mr_shard *shard, const struct mr_message *message,
                            const struct mail_member *member, uint32_t to)
{
    size_t bytes = message_bytes(message) + member->filter.len + member->client.len;
    struct mailbox *box = mailbox_of(shard->broker, shard->index, to);
    struct mr_ring *ring = ring_to(shard, to);
    bool large = bytes > MESSAGE_IN_RING_MAX;
    size_t size = sizeof(struct mail) + (large ? 0 : bytes);
    uint64_t beside = atomic_load_explicit(&box->large_bytes, memory_order_relaxed);

    if (large && beside != 0 && beside + bytes > LARGE_BYTES_MAX) {
        return false;
    }
    struct mail *mail = (struct mail *)(void *)mr_ring_reserve(ring, size);
    if (mail == NULL) {
        return false;
    }
    *mail = (struct mail){.kind = MAIL_MESSAGE,
                          .message = {.received_us = message->received_us,
                                      .topic_len = (uint32_t)message->topic.len,
                                      .props_len = (uint32_t)message->props.len,
                                      .payload_len = (uint32_t)message->payload.len,
                                      .filter_len = (uint32_t)member->filter.len,
                                      .client_len = (uint32_t)member->client.len,
                                      .qos = message->qos,
                                      .retain = message->retain}};
    uint8_t *at = (uint8_t *)(mail + 1);
    if (large) {
        mail->message.large = mr_alloc(bytes);
        at = mail->message.large;
        atomic_fetch_add_explicit(&box->large_bytes, bytes, memory_order_relaxed);
    }
    at = put_span(at, message->topic);
    at = put_span(at, message->props);
    at = put_span(at, message->payload);
    at = put_span(at, member->filter);
    (void)put_span(at, member->client);
    mail_sent(shard, ring, size, to);
    return true;
}

void mailbox_send_message(struct mr_shard *shard, const struct mr_message *message)
{
    const struct mr_broker *broker = shard->broker;
    struct mr_interest_bits bits = mr_interest_of_topic(&broker->interest_key, message->topic);
    const struct mail_member everyone = {.filter = {0}};

    for (uint32_t to = 0; to < broker->shard_count; to++) {
        if (to != shard->index && mr_interest_has(broker->shards[to]->interest, &bits) &&
            !send_message_to(shard, message, &everyone, to)) {
            mr_metric_add(shard->metrics.dropped_mailbox, 1);
        }
    }
}

void mailbox_send_shared(struct mr_shard *shard, const struct mr_message *message, uint32_t to,
                         struct mr_span client_id, struct mr_span filter)
{
    const struct mail_member member = {.filter = filter, .client = client_id};

    if (!send_message_to(shard, message, &member, to)) {
        mr_metric_add(shard->metrics.dropped_mailbox, 1);
    }
}

/* It is a CONNECT, perhaps with a password. */
static void unread_free(struct mailbox *box, const struct mail_client *mail)
{
    atomic_fetch_sub_explicit(&box->moving_bytes, mail->parcel.unread_bytes, memory_order_relaxed);
    mr_wipe(mail->unread, mail->parcel.unread_bytes);
    mr_free(mail->unread);
}

static void take_client(struct mr_shard *shard, struct mailbox *box, const struct mail_client *mail)
{
    struct mr_conn *conn = NULL;

    if (shard->stopping) {
        mr_conn_parcel_close(&mail->parcel, &shard->broker->net_shared);
    } else {
        conn = mr_net_attach(shard->net, &mail->parcel, mail->unread);
    }
    unread_free(box, mail);
    if (conn != NULL) {
        struct client *client = mr_conn_user(conn);
        client_begin(shard, conn);
        client->in_crowd = mail->in_crowd;
        client->is_surplus = mail->is_surplus;
        mr_conn_resume(conn);
    } else {
        if (mail->in_crowd) {
            crowd_leave(shard->broker->crowd, mail->parcel.listener, mail->parcel.peer);
        }
        mr_metric_add(shard->metrics.disconnects[shard->stopping ? END_SHUTDOWN : END_MEMORY], 1);
    }
}

static void large_free(struct mailbox *box, const struct mail_message *mail)
{
    if (mail->large != NULL) {
        atomic_fetch_sub_explicit(&box->large_bytes,
                                  (uint64_t)mail->topic_len + mail->props_len + mail->payload_len +
                                      mail->filter_len + mail->client_len,
                                  memory_order_relaxed);
        mr_free(mail->large);
    }
}

static void take_message(struct mr_shard *shard, const struct mail *mail)
{
    const struct mail_message *from = &mail->message;
    const uint8_t *at = from->large != NULL ? from->large : (const uint8_t *)(mail + 1);
    struct mr_message message = {
        .topic = {.at = at, .len = from->topic_len},
        .props = {.at = at + from->topic_len, .len = from->props_len},
        .payload = {.at = at + from->topic_len + from->props_len, .len = from->payload_len},
        .received_us = from->received_us,
        .qos = from->qos,
        .retain = from->retain};

    if (from->filter_len != 0) {
        const uint8_t *filter = message.payload.at + from->payload_len;
        share_deliver_to(shard, &message, mr_span_make(filter + from->filter_len, from->client_len),
                         mr_span_make(filter, from->filter_len));
        return;
    }
    if (MR_UNLIKELY(message.retain && shard->bringing_count != 0)) {
        retained_outdate(shard, message.topic); /* the lane's reader brings it to the tree later */
    }
    deliver_now(shard, &message, false);
}

/* Everything in the box, up to a turn's worth. */
static void mailbox_take(struct mr_shard *shard, struct mailbox *box, struct mr_ring *ring)
{
    size_t bytes = 0;

    while (bytes < MAIL_BYTES_PER_TURN) {
        struct mr_span entry = mr_ring_peek(ring);
        if (entry.at == NULL) {
            return;
        }
        const struct mail *mail = (const struct mail *)(const void *)entry.at;
        bytes += entry.len;
        if (mail->kind == MAIL_CLIENT) {
            bytes += mail->client.parcel.unread_bytes;
            take_client(shard, box, &mail->client);
        } else {
            bytes += mail->message.large != NULL ? mail->message.payload_len : 0;
            take_message(shard, mail);
            large_free(box, &mail->message);
        }
        mr_ring_pop(ring);
    }
    shard->mail_left = true;
}

void mailbox_take_all(struct mr_shard *shard)
{
    struct mr_broker *broker = shard->broker;

    shard->mail_left = false;
    for (uint32_t from = 0; from < broker->shard_count; from++) {
        struct mailbox *box = mailbox_of(broker, from, shard->index);
        struct mr_ring *ring = atomic_load_explicit(&box->ring, memory_order_acquire);
        if (ring != NULL) {
            mailbox_take(shard, box, ring);
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

static void mailbox_empty(struct mr_broker *broker, struct mailbox *box, struct mr_ring *ring)
{
    struct mr_span entry;

    while ((entry = mr_ring_peek(ring)).at != NULL) {
        const struct mail *mail = (const struct mail *)(const void *)entry.at;
        if (mail->kind == MAIL_CLIENT) {
            mr_conn_parcel_close(&mail->client.parcel, &broker->net_shared);
            unread_free(box, &mail->client);
        } else {
            large_free(box, &mail->message);
        }
        mr_ring_pop(ring);
    }
    mr_ring_close(ring);
}

void mailboxes_close(struct mr_broker *broker)
{
    uint32_t count = broker->mailboxes == NULL ? 0 : broker->shard_count * broker->shard_count;

    for (uint32_t i = 0; i < count; i++) {
        struct mailbox *box = &broker->mailboxes[i];
        struct mr_ring *ring = atomic_load_explicit(&box->ring, memory_order_acquire);
        if (ring != NULL) {
            mailbox_empty(broker, box, ring);
        }
    }
    mr_free(broker->mailboxes);
    broker->mailboxes = NULL;
}
