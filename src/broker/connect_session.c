/* connect_session.c - the session of a CONNECT: a new one, or the one that waits for it
 * (3.1.2.4, 3.1.2.11.2).
 *
 *     expiry 0, no older session          as before: no record, CONNACK at once
 *     expiry 0, clean, an older one       end record
 *     expiry > 0, or an older one goes on  open record
 *
 * The record comes first.  If it has no room nothing has changed, and the CONNECT is
 * parsed again when there is room.
 */
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"

/* The will of a CONNECT as the message it becomes. */
struct will {
    struct mr_message message;
    uint32_t delay_s;
    uint8_t *buffer; /* lent, for properties; may be NULL */
    size_t capacity;
    bool given;
};

/* The properties without the delay, which is ours to keep (3.1.3.2.2).  False: no memory. */
static bool will_take(struct client *client, const struct mr_mqtt_connect *packet,
                      struct will *will)
{
    struct mr_mqtt_props rest = packet->will_props;

    *will = (struct will){.buffer = NULL};
    if (!packet->has_will) {
        return true;
    }
    /* Dropped as a publish of 3.x is, not refused: the notifications of Mosquitto's
     * bridges are such wills, and without the bridge there is nothing at all.
     */
    if (topic_refused(client->shard, packet->will_topic) != 0) {
        mr_metric_add(client->shard->metrics.dropped_refused, 1);
        return true;
    }
    will->given = true;
    will->message = (struct mr_message){.topic = packet->will_topic,
                                        .payload = packet->will_payload,
                                        .client = packet->client_id,
                                        .username = packet->has_username ? packet->username
                                                                         : (struct mr_span){0},
                                        .publisher = mr_conn_id(client_conn(client)),
                                        .qos = packet->will_qos,
                                        .retain = packet->will_retain,
                                        .will = true};
    if (packet->version != MR_MQTT_5) {
        return true;
    }
    if (mr_mqtt_has(&rest, MR_MQTT_PROP_WILL_DELAY)) {
        will->delay_s = rest.will_delay_s;
        mr_mqtt_unset(&rest, MR_MQTT_PROP_WILL_DELAY);
    }
    return publish_props(client->shard, &rest, packet->will_props_raw.len, &will->message.props,
                         &will->buffer, &will->capacity);
}

static void will_give_back(struct mr_shard *shard, struct will *will)
{
    if (will->buffer != NULL) {
        mr_bufpool_give(&shard->pool, will->buffer, will->capacity);
    }
}

/* Seconds that the session outlives its connection. */
static uint32_t expiry_of(const struct mr_broker_limits *limits,
                          const struct mr_mqtt_connect *packet)
{
    uint64_t max_s = limits->max_session_expiry_us / 1000000;
    uint32_t wanted_s = packet->clean_start ? 0 : UINT32_MAX;

    if (packet->version == MR_MQTT_5) {
        wanted_s = mr_mqtt_has(&packet->props, MR_MQTT_PROP_SESSION_EXPIRY)
                       ? packet->props.session_expiry_s
                       : 0;
    }
    return limits->max_session_expiry_us != 0 && wanted_s > max_s ? (uint32_t)max_s : wanted_s;
}

static struct joined join_refused(uint8_t reason, const char *what)
{
    return (struct joined){.reason = reason, .what = what};
}

static struct joined join_no_memory(void)
{
    return join_refused(MR_MQTT_SERVER_UNAVAILABLE,
                        "no memory for another session; see `gateway.memory`");
}

/* The will takes its place with the session.  False: no memory. */
static bool will_keep(struct mr_shard *shard, struct session *session, const struct will *will)
{
    struct stored *copy = NULL;

    if (will->given) {
        copy = stored_new(&shard->pool, &will->message, STORED_NAMES | STORED_PAYLOAD);
        if (copy == NULL) {
            return false;
        }
    }
    if (session->will != NULL) {
        stored_free(&shard->pool, session->will); /* back before it was due: 3.1.3.2.2 */
    }
    session->will = copy;
    return true;
}

/* A session that ends with its connection: no record, unless an older one ends here.  It is made
 * before the append, so that without memory for it the older one stays.
 */
static struct joined join_clean(struct client *client, const struct mr_mqtt_connect *packet,
                                struct session *older, const struct will *will)
{
    struct mr_shard *shard = client->shard;
    struct joined joined = {.seq = 0};
    struct session *session =
        session_new(shard, client, packet->client_id,
                    packet->has_username ? packet->username : (struct mr_span){0});

    if (session == NULL) {
        return join_no_memory();
    }
    if (!will_keep(shard, session, will)) {
        session_free(shard, session);
        return join_no_memory();
    }
    if (older != NULL) {
        struct mr_control end = {.kind = MR_CONTROL_END, .client = packet->client_id};
        if (control_append(shard, &end, &joined.seq) != MR_OK) {
            session_free(shard, session);
            return (struct joined){.later = true};
        }
        session_free(shard, older);
    }
    client->session = session;
    shard->clients_online += 1;
    return joined;
}

static struct mr_control open_record(const struct client *client,
                                     const struct mr_mqtt_connect *packet, uint32_t expiry_s,
                                     const struct will *will)
{
    struct mr_control open = {
        .kind = MR_CONTROL_OPEN,
        .flags = packet->clean_start ? MR_CONTROL_CLEAN : 0,
        .client = packet->client_id,
        .username = packet->has_username ? packet->username : (struct mr_span){0},
        .expiry_s = expiry_s,
        .window = client->receive_max < INFLIGHT_MAX ? client->receive_max : INFLIGHT_MAX};

    if (will->given) {
        open.flags |=
            (uint8_t)(MR_CONTROL_HAS_WILL | (will->message.retain ? MR_CONTROL_WILL_RETAIN : 0) |
                      will->message.qos << MR_CONTROL_WILL_QOS_SHIFT);
        open.will_topic = will->message.topic;
        open.will_props = will->message.props;
        open.will_payload = will->message.payload;
        open.will_delay_s = will->delay_s;
    }
    return open;
}

/* A persistent session, or an older one that goes on. */
static struct joined join_persistent(struct client *client, const struct mr_mqtt_connect *packet,
                                     struct session *older, uint32_t expiry_s,
                                     const struct will *will)
{
    struct mr_shard *shard = client->shard;
    bool goes_on = older != NULL && !packet->clean_start;
    struct joined joined = {.expiry_s = expiry_s, .present = goes_on};
    struct session *session = older;

    if (older == NULL && shard->keeps_count >= shard->limits.max_sessions) {
        return join_refused(MR_MQTT_QUOTA_EXCEEDED, "`max_sessions` persistent sessions exist");
    }
    struct mr_control open = open_record(client, packet, expiry_s, will);
    if (!goes_on) { /* made before the append, so that it cannot fail afterwards */
        session = session_new(shard, client, packet->client_id, open.username);
        if (session == NULL || !keep_make(shard, session, shard->index, 0)) {
            if (session != NULL) {
                session_free(shard, session);
            }
            return join_no_memory();
        }
    }
    struct stored *will_before = session->will;
    session->will = NULL;
    bool fits =
        will_keep(shard, session, will) && session_set_username(shard, session, open.username);
    enum mr_err err = fits ? control_append(shard, &open, &joined.seq) : MR_ERR_FULL;
    if (err != MR_OK) {
        if (session->will != NULL) {
            stored_free(&shard->pool, session->will);
        }
        session->will = will_before;
        if (!goes_on) {
            session->keep->number = KEEP_NOT_BEGUN;
            session_free(shard, session);
        }
        return fits ? (struct joined){.later = true} : join_no_memory();
    }
    if (will_before != NULL) {
        stored_free(&shard->pool, will_before);
    }
    if (!goes_on) {
        session->keep->number = joined.seq;
        if (older != NULL) {
            session_free(shard, older);
        }
    }
    session->client = client;
    client->session = session;
    shard->clients_online += 1;
    access_joined(shard, session, mr_conn_listener(client_conn(client)));
    inbound_resume(session->inbound);
    keep_open(shard, session, &open);
    queue_attach(session->keep);
    bring_resume(shard, session);
    share_online(shard, session, true);
    queue_wake(shard, session->keep);
    return joined;
}

struct joined connect_session(struct client *client, const struct mr_mqtt_connect *packet)
{
    struct mr_shard *shard = client->shard;
    uint32_t expiry_s = expiry_of(&shard->limits, packet);
    struct session *older = session_find(shard, packet->client_id);
    bool over = older != NULL && older->keep->ends_ns <= shard->now_ns;
    struct mr_mqtt_connect anew;
    struct joined joined;
    struct will will;

    if (MR_UNLIKELY(over)) { /* a full journal keeps expiry.c from saying so */
        anew = *packet;
        anew.clean_start = true;
        packet = &anew;
    }

    if ((older != NULL || expiry_s != 0) &&
        (shard->stalled || answer_reserve(client, CONNACK_BYTES_MAX) != MR_OK)) {
        shard_stall(shard);
        return (struct joined){.later = true};
    }
    if (older != NULL && (packet->clean_start || older->keep->will_ns <= shard->now_ns) &&
        !will_publish_kept(shard, older)) { /* its session ends, or the delay is over */
        return (struct joined){.later = true};
    }
    if (older != NULL && packet->clean_start && !share_hand_over(shard, older)) {
        return (struct joined){.later = true};
    }
    if (!will_take(client, packet, &will)) {
        return join_no_memory();
    }
    if (expiry_s == 0 && (older == NULL || packet->clean_start)) {
        joined = join_clean(client, packet, older, &will);
    } else {
        joined = join_persistent(client, packet, older, expiry_s, &will);
    }
    will_give_back(shard, &will);
    shard->clients_expired += over && !joined.later && joined.reason == 0;
    return joined;
}
