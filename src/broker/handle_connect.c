/* handle_connect.c - CONNECT and the CONNACK that answers it (sections 3.1, 3.2).
 *
 * Sessions end with their connection in this version.  A 5.0 client that asks for
 * more is told so (Session Expiry Interval 0 in CONNACK [MQTT-3.2.2-21]); a 3.1.1
 * client with clean session 0 learns it from session present 0 at each connect.
 */
#include "broker/broker_internal.h"

#include "os/process.h"

enum { ASSIGNED_RANDOM_BYTES = 10, ASSIGNED_ID_BYTES = 5 + 2 * ASSIGNED_RANDOM_BYTES };

/* Refuse with a CONNACK, if the version has one for it. */
static enum verdict connect_refuse(struct client *client, uint8_t version, uint8_t reason,
                                   const char *what)
{
    struct mr_mqtt_connack packet = {.reason = reason};

    if (version >= MR_MQTT_31 || reason == MR_MQTT_UNSUPPORTED_VERSION) {
        /* An unknown version is answered in the oldest form that knows the
         * answer: 3.1.1 below 5, 5.0 above [MQTT-3.1.2-2].  A bridge of Mosquitto
         * sets the highest bit of its version first; the answer of 3.1.1 makes it
         * leave that away, or 5.0 altogether, and any other stops it for good.
         */
        bool is_private = (version & 0x80) != 0;
        uint8_t as = is_private ? MR_MQTT_311 : version > MR_MQTT_5 ? MR_MQTT_5 : version;
        (void)!send_connack(client, &packet, as < MR_MQTT_31 ? MR_MQTT_311 : as);
    }
    return client_refuse(client, END_REFUSED, reason, what);
}

/* What we do not offer: 0, or the reason of the refusal. */
static uint8_t connect_check(const struct client *client, const struct mr_mqtt_connect *packet,
                             const char **what)
{
    const struct mr_broker *broker = client->shard->broker;
    uint32_t listener = mr_conn_listener(mr_conn_of_user((void *)(uintptr_t)client));
    bool is_v5 = packet->version == MR_MQTT_5;

    if (is_v5 && mr_mqtt_has(&packet->props, MR_MQTT_PROP_AUTH_METHOD)) {
        *what = "enhanced authentication is not configured";
        return MR_MQTT_BAD_AUTH_METHOD; /* [MQTT-4.12.0-1] */
    }
    if (!broker->listeners[listener].anonymous) {
        *what = "authentication is not configured; set `allow_anonymous: true` on this listener "
                "to admit everyone";
        return MR_MQTT_NOT_AUTHORIZED;
    }
    if (is_v5 && packet->has_will && packet->will_retain) {
        *what = "a will with RETAIN, which is not offered";
        return MR_MQTT_RETAIN_NOT_SUPPORTED; /* [MQTT-3.2.2-13] */
    }
    if (is_v5 && packet->has_will && packet->will_qos == 2) {
        *what = "a will with QoS 2, which is not offered";
        return MR_MQTT_QOS_NOT_SUPPORTED; /* [MQTT-3.2.2-12] */
    }
    return 0;
}

/* "auto-" and 20 random hexadecimal digits [MQTT-3.1.3-6]. */
static struct mr_span assigned_id(char out[ASSIGNED_ID_BYTES + 1])
{
    uint8_t random[ASSIGNED_RANDOM_BYTES];
    struct mr_text text = mr_text_over(out, ASSIGNED_ID_BYTES + 1);

    mr_os_random(random, sizeof(random));
    mr_text_add(&text, "auto-");
    for (size_t i = 0; i < sizeof(random); i++) {
        mr_text_fmt(&text, "%02x", random[i]);
    }
    return mr_span_make(out, text.len);
}

/* The will's properties as those of the PUBLISH it becomes: without the delay,
 * which ends with the session if not before (3.1.3.2.2), and here sessions end with
 * their connection.  *buffer, if lent, goes back.  False: no memory.
 */
static bool will_props(struct client *client, const struct mr_mqtt_connect *packet,
                       struct mr_span *props, uint8_t **buffer, size_t *capacity)
{
    struct mr_mqtt_props rest = packet->will_props;

    *buffer = NULL;
    *props = (struct mr_span){0};
    if (packet->version != MR_MQTT_5) {
        return true;
    }
    mr_mqtt_unset(&rest, MR_MQTT_PROP_WILL_DELAY);
    return publish_props(client->shard, &rest, packet->will_props_raw.len, props, buffer, capacity);
}

/* The will, kept for the end of the connection.  False: no memory. */
static bool will_keep(struct client *client, const struct mr_mqtt_connect *packet)
{
    struct session *session = client->session;
    uint8_t *buffer = NULL;
    size_t capacity = 0;

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
    struct mr_message will = {.topic = packet->will_topic,
                              .payload = packet->will_payload,
                              .client = session_id(session),
                              .username = session_username(session),
                              .publisher = mr_conn_id(client_conn(client)),
                              .qos = packet->will_qos > 1 ? 1 : packet->will_qos,
                              .retain = packet->will_retain,
                              .will = true};
    if (will_props(client, packet, &will.props, &buffer, &capacity)) {
        session->will = stored_new(&client->shard->pool, &will, STORED_NAMES | STORED_PAYLOAD);
    }
    if (buffer != NULL) {
        mr_bufpool_give(&client->shard->pool, buffer, capacity);
    }
    return session->will != NULL;
}

/* The connection that has this id now has to go [MQTT-3.1.4-3]. */
static void connect_take_over(struct mr_shard *shard, struct mr_span client_id)
{
    struct session *session = session_find(shard, client_id);

    if (session == NULL) {
        return;
    }
    if (session->client->version == MR_MQTT_5) {
        send_disconnect(session->client, MR_MQTT_SESSION_TAKEN_OVER, NULL);
    }
    client_end(session->client, END_TAKEN_OVER);
}

/* Keep alive in seconds as agreed: ours, if theirs is longer or none. */
static uint16_t keep_alive_agree(const struct mr_broker_limits *limits, uint16_t wanted_s)
{
    uint64_t max_s = limits->max_keepalive_us / 1000000;

    if (limits->max_keepalive_us == 0 || (wanted_s != 0 && wanted_s <= max_s)) {
        return wanted_s;
    }
    return (uint16_t)(max_s == 0 ? 1 : max_s > UINT16_MAX ? UINT16_MAX : max_s);
}

static void connect_remember(struct client *client, const struct mr_mqtt_connect *packet,
                             uint16_t keep_alive_s)
{
    const struct mr_broker_limits *limits = &client->shard->limits;
    const struct mr_mqtt_props *props = &packet->props;
    struct mr_conn *conn = client_conn(client);

    client->version = packet->version;
    client->connected_tick = client->shard->tick;
    client->receive_max = (uint16_t)limits->max_inflight_messages;
    if (packet->version == MR_MQTT_5) {
        client->receive_max =
            mr_mqtt_has(props, MR_MQTT_PROP_RECEIVE_MAX) ? props->receive_max : UINT16_MAX;
        client->packet_max = mr_mqtt_has(props, MR_MQTT_PROP_PACKET_MAX) ? props->packet_max : 0;
        client->ends_at_once =
            !mr_mqtt_has(props, MR_MQTT_PROP_SESSION_EXPIRY) || props->session_expiry_s == 0;
        client->wants_detail = !mr_mqtt_has(props, MR_MQTT_PROP_REQUEST_PROBLEM_INFO) ||
                               props->request_problem_info != 0;
    }
    /* One more, because the tick in which it was heard had begun before. */
    client->keep_alive_ticks =
        (uint32_t)((uint64_t)keep_alive_s * 1500000000u / MR_NET_TICK_NS) + 1;
    mr_conn_set_timer(conn, keep_alive_s == 0 ? 0 : client->shard->tick + client->keep_alive_ticks);
}

/* What a 5.0 client must know about us. */
static void connack_props(struct client *client, const struct mr_mqtt_connect *packet,
                          uint16_t keep_alive_s, struct mr_mqtt_props *props)
{
    const struct mr_broker_limits *limits = &client->shard->limits;

    props->receive_max = (uint16_t)limits->receive_maximum;
    mr_mqtt_set(props, MR_MQTT_PROP_RECEIVE_MAX);
    props->maximum_qos = 1;
    mr_mqtt_set(props, MR_MQTT_PROP_MAXIMUM_QOS);
    props->retain_available = 0;
    mr_mqtt_set(props, MR_MQTT_PROP_RETAIN_AVAILABLE);
    props->packet_max = (uint32_t)limits->max_packet_size;
    mr_mqtt_set(props, MR_MQTT_PROP_PACKET_MAX);
    props->topic_alias_max = (uint16_t)limits->topic_alias_maximum;
    mr_mqtt_set(props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    props->wildcard_available = 1;
    mr_mqtt_set(props, MR_MQTT_PROP_WILDCARD_AVAILABLE);
    props->subscription_id_available = 1;
    mr_mqtt_set(props, MR_MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE);
    props->shared_available = 0;
    mr_mqtt_set(props, MR_MQTT_PROP_SHARED_AVAILABLE);
    if (mr_mqtt_has(&packet->props, MR_MQTT_PROP_SESSION_EXPIRY) &&
        packet->props.session_expiry_s != 0) {
        props->session_expiry_s = 0;
        mr_mqtt_set(props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    if (keep_alive_s != packet->keep_alive_s) {
        props->server_keep_alive = keep_alive_s;
        mr_mqtt_set(props, MR_MQTT_PROP_SERVER_KEEP_ALIVE);
    }
}

/* Say once in a while that sessions do not outlive their connection yet. */
static void connect_note_session(struct client *client, const struct mr_mqtt_connect *packet)
{
    static struct mr_log_limit limit;
    struct client_label label;
    uint64_t held = 0;
    bool asks = packet->version == MR_MQTT_5
                    ? mr_mqtt_has(&packet->props, MR_MQTT_PROP_SESSION_EXPIRY) &&
                          packet->props.session_expiry_s != 0
                    : !packet->clean_start;

    if (asks && mr_log_allowed(&limit, 3600 * (int64_t)1000000, &held)) {
        mr_log(MR_LOG_INFO, "mqtt",
               "%s asks for a session that outlives its connection; this version keeps none, "
               "so it subscribes anew after each connect (%llu more asked)",
               client_label(client, &label), (unsigned long long)held);
    }
}

enum verdict handle_connect(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_connect packet;
    struct mr_mqtt_connack answer = {.reason = MR_MQTT_SUCCESS};
    struct mr_mqtt_why why;
    const char *what = NULL;
    char assigned[ASSIGNED_ID_BYTES + 1];

    if (client->session != NULL) {
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "a second CONNECT"); /* [MQTT-3.1.0-2] */
    }
    if (mr_mqtt_connect_decode(frame, &packet, &why) != MR_OK) {
        return connect_refuse(client, packet.version, why.reason, why.what);
    }
    uint8_t reason = connect_check(client, &packet, &what);
    if (reason != 0) {
        return connect_refuse(client, packet.version, reason, what);
    }
    if (packet.client_id.len == 0) {
        packet.client_id = assigned_id(assigned);
        answer.props.assigned_client_id = packet.client_id;
        mr_mqtt_set(&answer.props, MR_MQTT_PROP_ASSIGNED_CLIENT_ID);
    }
    connect_take_over(shard, packet.client_id);
    struct mr_span username = packet.has_username ? packet.username : (struct mr_span){0};
    client->session = session_new(shard, client, packet.client_id, username);
    if (client->session == NULL) {
        return connect_refuse(client, packet.version, MR_MQTT_SERVER_UNAVAILABLE,
                              "no memory for another session; see `gateway.memory`");
    }
    if (!will_keep(client, &packet)) {
        session_free(shard, client->session);
        client->session = NULL;
        return connect_refuse(client, packet.version, MR_MQTT_SERVER_UNAVAILABLE,
                              "no memory for a will; see `gateway.memory`");
    }
    uint16_t keep_alive_s = keep_alive_agree(&shard->limits, packet.keep_alive_s);
    connect_remember(client, &packet, keep_alive_s);
    connack_props(client, &packet, keep_alive_s, &answer.props);
    connect_note_session(client, &packet);
    if (send_connack(client, &answer, client->version) != MR_OK) {
        client_end(client, END_MEMORY);
        return PACKET_END;
    }
    client_log_connected(client, keep_alive_s);
    return PACKET_DONE;
}
