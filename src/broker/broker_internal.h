/* broker_internal.h - what the broker's files offer each other.
 *
 *     shard.c      the turn               handle_*.c  one packet from a client
 *     client.c     a connection's life    send_*.c    one packet to a client
 *     session.c    who is connected       ackgate.c   when acks may leave
 *     topics.c     known topics, aliases  subtree.c   who wants a topic
 *     append.c     into the journal       deliver.c   out to live subscribers
 *     mailbox.c    to and from the other shards
 *     foreign.c    from the other shards' lanes
 *     limits.c     how much and how fast
 *     access.c     who may do what     reload.c     how that changes
 *     share_internal.h  shared subscriptions       outgoing_internal.h  one copy, short topics
 *     inbound_internal.h  QoS 2 from clients       keep_internal.h  persistent sessions
 *     call.c       questions of the control plane
 *     systree.c    $SYS/broker
 *     login_internal.h, enhanced_internal.h  who a client is
 *
 * Thread: all of it belongs to the shard's thread.
 */
#ifndef MR_BROKER_BROKER_INTERNAL_H
#define MR_BROKER_BROKER_INTERNAL_H

#include "broker/access_internal.h"
#include "broker/call_internal.h"
#include "broker/shard_internal.h"

/* What a handler says about the packet it was given. */
enum verdict {
    PACKET_DONE,
    PACKET_LATER,   /* no room: keep it unparsed, pause the connection */
    PACKET_END,     /* the connection has been closed */
    PACKET_AWAY,    /* CONNECT: its client is at home in another shard */
    PACKET_JOINING, /* done, but go on only when its CONNACK has left */
};

/* ---- client.c ---- */

struct mr_conn *client_conn(struct client *client);

/* A connection begins in this shard, accepted here or come from another. */
void client_begin(struct mr_shard *shard, struct mr_conn *conn);
extern const struct mr_net_handler client_handler;

/* Its timer: at the tick `due`, if it has a keep alive, or when its login expires. */
void client_timer_set(struct client *client, uint32_t due);
void client_watch_silence(struct client *client); /* the same, since it was last heard */

/* End it without a word: `kind` for the metric. */
void client_end(struct client *client, enum end_kind kind);

/* Say why, as far as its version can, log it, end it.  Always PACKET_END. */
enum verdict client_refuse(struct client *client, enum end_kind kind, uint8_t reason,
                           const char *what);

/* "client 'press-7' (10.0.0.7:51812)" for logs. */
struct client_label {
    char text[200];
};
const char *client_label(struct client *client, struct client_label *label);

/* "client 'x' (10.0.0.7:51812) connected ...", if that is wanted and not too much. */
void client_log_connected(struct client *client, bool session_present, uint16_t keep_alive_s);
/* At a tick: how many had no line. */
void client_log_held(struct mr_shard *shard);

/* ---- session.c ---- */

struct mr_span session_id(const struct session *session);
struct mr_span session_username(const struct session *session);
struct session *session_find(struct mr_shard *shard, struct mr_span client_id);

/* A session for `client`, in the table.  NULL: the pool has no room. */
struct session *session_new(struct mr_shard *shard, struct client *client, struct mr_span client_id,
                            struct mr_span username);

bool session_set_username(struct mr_shard *shard, struct session *session, struct mr_span username);

/* Unsubscribe everything, leave the table, free, and what a persistent one keeps. */
void session_free(struct mr_shard *shard, struct session *session);

/* ---- limits.c ---- */

/* Work out what `mqtt` and the listeners say; at open, and after a reload. */
void limits_set(struct mr_shard *shard);

/* Its CONNECT was accepted: from here on it is counted.  After a reload again. */
void limits_begin(struct client *client);
void limits_end(struct client *client);

/* May this packet be handled now?  False: the connection is held until it may. */
bool rate_admits(struct client *client, const struct mr_mqtt_frame *frame);
void rate_charge(struct client *client, const struct mr_mqtt_frame *frame); /* it was */

/* Its timer has come: true if it was that of a connection held by rate_admits(). */
bool rate_timer(struct client *client);

/* Is the topic or filter longer or deeper than its listener lets it be? */
bool topic_is_beyond(const struct client *client, struct mr_span topic);

/* ---- bans.c ---- */

/* It was accepted.  False: its address is banned and comes too often; close it. */
bool bans_let_in(struct client *client);

/* May this CONNECT go on, as far as bans go?  0, or the reason of the refusal. */
uint8_t bans_check(struct client *client, const struct mr_mqtt_connect *packet, const char **what);
bool bans_address(struct client *client); /* is it banned? */

/* It has ended: it does not count among those of its address any more. */
void crowd_drop(struct client *client);
void crowd_reloaded(struct client *client); /* the limit may be another */
/* Has its address more connections than it may, and it came when it had? */
bool crowd_refuses(struct client *client);

/* How its attempt to connect has ended; `reason` is what a refused one is told. */
void bans_note_refused(struct client *client, uint8_t reason);
void bans_note_accepted(struct client *client);
void bans_note_left(struct client *client); /* it was connected */

/* ---- topics.c ---- */

/* What is known about this topic; valid until the next call. */
struct topic_entry *topic_look_up(struct client *client, struct mr_span topic);
void topics_drop(struct client *client);
/* Of trees and groups: while it is the same, so is who is subscribed to what. */
uint64_t topics_version(const struct mr_shard *shard);
/* May someone in another shard be listening? */
bool topic_is_wanted_abroad(const struct mr_shard *shard, struct mr_span topic);
/* May clients publish to it?  0, or the reason why not. */
uint8_t topic_refused(const struct mr_shard *shard, struct mr_span topic);
bool topic_is_excluded(const struct mr_shard *shard, struct mr_span topic);

/* Resolve and define aliases [MQTT-3.3.2-8 ff.].  0, or the reason of the refusal;
 * LATER is answered by *no_room.
 */
uint8_t alias_resolve(struct client *client, struct mr_mqtt_publish *packet, bool *no_room);
void aliases_drop(struct client *client);

/* ---- append.c ---- */

/* The properties of a PUBLISH from what is left of `raw_len` bytes of received ones.
 * *buffer, if lent, goes back to the pool when *props is no longer needed.  False: no
 * memory.
 */
bool publish_props(struct mr_shard *shard, const struct mr_mqtt_props *rest, size_t raw_len,
                   struct mr_span *props, uint8_t **buffer, size_t *capacity);

/* Put `message` into the journal.  FULL: the shard is stalled now.  IO: it has
 * failed.  REJECT: larger than the journal takes.
 */
enum mr_err message_append(struct mr_shard *shard, const struct mr_message *message,
                           struct mr_name_ref *name, struct mr_appended *out);

/* What else `message` means: retained, owed to persistent sessions.  `seq` 0: it is of an
 * excluded topic and not in the journal.
 */
void message_apply(struct mr_shard *shard, const struct mr_message *message, uint64_t seq);

/* Publish in our own name (wills): journal, then live subscribers.  Takes `will`
 * over, now or when the journal has room again.
 */
void will_publish(struct mr_shard *shard, struct stored *will);
void wills_retry(struct mr_shard *shard);

/* The same for a persistent session, whose will stays with it, and in the store, until it is
 * in the journal.  False: there is no room; try again.
 */
bool will_publish_kept(struct mr_shard *shard, struct session *session);

struct cleared_mark *cleared_mark_new(void); /* of several shards (cleared.c) */
void cleared_mark_free(struct cleared_mark *mark);

/* ---- deliver.c ---- */

/* May what waits take more memory?  Not the last quarter of it. */
bool deliver_has_memory(const struct mr_shard *shard, size_t bytes); /* so many more */

/* Room in the out buffer for one more message? */
bool client_has_room(struct client *client);

/* Hand to all live subscribers now.  `journaled`: QoS 1 and 2 of persistent sessions come
 * from their queues; else they get it with QoS 0.
 */
void deliver_now(struct mr_shard *shard, const struct mr_message *message, bool journaled);

/* Send one message to one client whose session is not persistent, or with QoS 0. */
void deliver_one(struct client *client, struct outgoing *outgoing);

/* Keep for delivery once seq is durable.  Made before the append that cannot be
 * undone, then filled in and queued or dropped.  FULL: no memory until some of those
 * that wait have been delivered.  OK with NULL: none at all, it is not delivered.
 */
enum mr_err pending_new(struct mr_shard *shard, const struct mr_message *message,
                        struct stored **out) MR_MUST_USE;
void pending_push(struct mr_shard *shard, struct stored *pending, const struct mr_appended *at);
void pending_deliver(struct mr_shard *shard, uint64_t durable_seq);

/* The subscriber has room again: send what is queued. */
void outbound_drain(struct client *client);
/* At a tick: those whose queue waits for memory. */
void outbound_drain_waiting(struct mr_shard *shard);
void outbound_drain_later(struct client *client); /* its queue waits for memory */

/* The subscriber answered `packet_id`; false: we did not wait for that. */
bool outbound_acked(struct client *client, uint16_t packet_id);
bool outbound_received(struct client *client, uint16_t packet_id, uint8_t reason);
bool outbound_completed(struct client *client, uint16_t packet_id);
void outbound_drop(struct mr_shard *shard, struct session *session);

/* ---- mailbox.c ---- */

/* From one shard to another: a ring, made when it is first needed. */
struct mailbox {
    _Atomic(struct mr_ring *) ring;
    _Atomic uint64_t large_bytes;  /* of messages that lie beside the ring */
    _Atomic uint64_t moving_bytes; /* of connections on their way, what they sent and is unread */
};

/* Send the connection, whose CONNECT is at the front of `unread`, to its home.  FULL:
 * there is no room on the way; it stays as it is.  OK: `client` is gone.
 */
enum mr_err mailbox_send_client(struct client *client, struct mr_span unread) MR_MUST_USE;

/* Give it to the other shards that may have subscribers for it, now or never. */
void mailbox_send_message(struct mr_shard *shard, const struct mr_message *message);

/* Give it to one member of a group, who is at home in shard `to`, now or never. */
void mailbox_send_shared(struct mr_shard *shard, const struct mr_message *message, uint32_t to,
                         struct mr_span client_id, struct mr_span filter);

void mailbox_take_all(struct mr_shard *shard);  /* at most a turn's worth */
void mailbox_ring(struct mr_shard *shard);      /* wake those to whom something was sent */
void mailboxes_close(struct mr_broker *broker); /* all shards have ended */

/* listeners.c: every shard accepts on every address, and none yet.  CONFIG: `why` says what
 * is in the way; listeners_close() then closes what is open.
 */
enum mr_err listeners_limit(const struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;
enum mr_err listeners_open(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;
void listeners_close(struct mr_broker *broker);

/* Does it let in who does not say who it is?  `bind`: where it is. */
bool listener_is_anonymous(const struct mr_listener_conf *conf, const char *bind, bool asks);

/* Read the certificates of all of them again, then put them in force, or leave the old ones. */
enum mr_err listeners_tls_begin(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;
void listeners_tls_end(struct mr_broker *broker, bool good);

/* ---- foreign.c ---- */

/* Begin to read the other lanes, or end it, as subscriptions came or went.  Called in
 * front of every SUBACK and at the end of each turn.
 */
void foreign_follow(struct mr_shard *shard);
void foreign_deliver(struct mr_shard *shard); /* at most a turn's worth */
void foreign_close(struct mr_shard *shard);

/* An event with RETAIN was appended: all shards have to read it. */
void foreign_tell(struct mr_shard *shard, uint64_t seq);

/* How far the other lanes were read, as a record: in front of a new subscription, which is
 * owed nothing of what was passed over before it.  Nothing, if the records say it already.
 * FULL: not now.
 */
enum mr_err foreign_note(struct mr_shard *shard) MR_MUST_USE;
void foreign_is_read(struct mr_shard *shard, uint32_t lane, uint64_t seq); /* at start */

/* How far the other lanes were read goes with the checkpoints. */
enum mr_err foreign_cursors_open(struct mr_shard *shard, struct mr_error *why) MR_MUST_USE;
void foreign_restored(struct mr_shard *shard);
bool foreign_has_moved(const struct mr_shard *shard);
bool foreign_is_read_up(const struct mr_shard *shard); /* nothing durable is left to read */
void foreign_sealed(struct mr_shard *shard);
void foreign_checkpointed(struct mr_shard *shard);

/* ---- shard.c ---- */

void shard_run(void *arg);
void shard_fail(struct mr_shard *shard);

/* ---- no_room.c ---- */

/* No room, in the journal or in memory: publishers wait until a commit or the next
 * tick, and what is read until then is little.
 */
void shard_stall(struct mr_shard *shard);
void stall_note(struct mr_shard *shard); /* once a turn: say so */

/* Look again: is the journal full, and do publishers not wait for that? */
bool shard_refuses(struct mr_shard *shard);

/* ---- clock.c ---- */

void clock_begin(struct mr_shard *shard); /* at its start */
void clock_turn(struct mr_shard *shard);  /* read both clocks, once a turn */

/* Since `at_us` of the wall clock, whatever it was set to meanwhile (docs/SESSIONS.md); never
 * less than 0, never more than it was.
 */
int64_t shard_waited_us(const struct mr_shard *shard, int64_t at_us);

/* ---- metrics.c ---- */

void shard_metrics_make(struct mr_shard *shard, uint32_t index);
void shard_metrics_update(struct mr_shard *shard);

/* ---- dispatch.c ---- */

size_t dispatch_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes);

/* ---- packets from clients: handle_<packet>.c ---- */

enum verdict handle_connect(struct client *client, const struct mr_mqtt_frame *frame);
/* The same once more, of a CONNECT that was kept until its client had proven who it is. */
enum verdict connect_go_on(struct client *client, const struct mr_mqtt_frame *frame);
/* Refuse a client with a CONNACK, if the version has one for it.  Always PACKET_END. */
enum verdict connect_refuse(struct client *client, uint8_t version, uint8_t reason,
                            const char *what);
enum verdict handle_auth(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_publish(struct client *client, const struct mr_mqtt_frame *frame);
/* Behind a publish that was accepted: as many more as are just like it; bytes used. */
size_t publish_run(struct client *client, struct mr_span bytes);
enum verdict handle_puback(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_pubrec(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_pubrel(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_pubcomp(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_subscribe(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_unsubscribe(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_pingreq(struct client *client, const struct mr_mqtt_frame *frame);
enum verdict handle_disconnect(struct client *client, const struct mr_mqtt_frame *frame);

/* What a CONNECT did to the sessions (connect_session.c). */
struct joined {
    uint64_t seq; /* CONNACK waits for this record; 0: for none */
    const char *what;
    uint32_t expiry_s;
    uint8_t reason; /* of a refusal; 0: client->session is there */
    bool present;
    bool later; /* no room for the record: the CONNECT stays unparsed */
};
struct joined connect_session(struct client *client, const struct mr_mqtt_connect *packet);

/* ---- systree.c: $SYS/broker ---- */

void systree_open(struct mr_shard *shard);
void systree_close(struct mr_shard *shard);

/* Gather and send what has changed, if its time has come. */
void systree_tick(struct mr_shard *shard);

/* That time, on the clock of now_ns; INT64_MAX: never. */
int64_t systree_due_ns(const struct mr_shard *shard);

/* What `filter` matches of it, to a client that has just subscribed. */
void systree_send(struct client *client, struct mr_span filter, uint32_t subscription_id);

/* ---- packets to clients: send_<packet>.c ---- */

/* FULL: no memory.  REJECT: the version cannot say it. */
enum mr_err send_connack(struct client *client, const struct mr_mqtt_connack *packet,
                         uint8_t version) MR_MUST_USE;

/* Hold it until the record `seq` of its session is durable (reserved before). */
enum { CONNACK_BYTES_MAX = 448 }; /* all we send, with a client id and response information */
void hold_connack(struct client *client, const struct mr_mqtt_connack *packet, uint64_t seq);

/* Does the client's CONNACK wait for the disk?  Nothing may be sent before it [MQTT-3.2.0-1]. */
static inline bool connack_waits(const struct client *client)
{
    return client->joining && client->join_seq > client->shard->seq_released;
}

/* Nothing is sent while its CONNACK waits: then the end comes without a reason [MQTT-3.14.0-1]. */
void send_disconnect(struct client *client, uint8_t reason, const char *what);
/* FULL: no memory, or larger than the client accepts. */
enum mr_err send_auth(struct client *client, uint8_t reason, struct mr_span method,
                      struct mr_span data) MR_MUST_USE;
/* `seq` 0: at once; else when that record is durable (reserve before). */
size_t suback_size(struct client *client, const struct mr_mqtt_suback *packet);
bool suback_is_beyond(struct client *client, const struct mr_mqtt_suback *packet);
enum verdict send_suback(struct client *client, const struct mr_mqtt_suback *packet, uint64_t seq);
/* PUBREL 0x92 to a PUBREC of an id we do not know. */
enum verdict pubrel_unknown(struct client *client, uint16_t packet_id);

/* REJECT: larger than the client accepts, or expired: do not send.  FULL: no room. */
enum mr_err send_publish(struct client *client, const struct outgoing *outgoing);

static inline uint32_t broker_shard_count(const struct mr_broker *broker)
{
    return broker->shard_count;
}

static inline struct mr_shard *broker_shard(struct mr_broker *broker, uint32_t index)
{
    mr_assert(index < broker->shard_count);
    return broker->shards[index];
}

#endif
