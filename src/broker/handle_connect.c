/* handle_connect.c - CONNECT and the CONNACK that answers it (sections 3.1, 3.2).
 *
 * What it does to sessions is in connect_session.c.
 */
#include "broker/enhanced_internal.h"
#include "broker/keep_internal.h"
#include "broker/login_internal.h"

#include "os/process.h"

enum {
    ASSIGNED_RANDOM_BYTES = 10,
    ASSIGNED_ID_BYTES = 5 + 2 * ASSIGNED_RANDOM_BYTES,
    RESPONSE_INFO_BYTES = 256,
    EXPIRY_WATCHED_S = 400 * 86400,
};

enum verdict connect_refuse(struct client *client, uint8_t version, uint8_t reason,
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

/* What a 5.0 client must know about us. */
static void connack_props(struct client *client, const struct mr_mqtt_connect *packet,
                          uint16_t keep_alive_s, uint32_t expiry_s, struct mr_mqtt_props *props)
{
    const struct mr_broker_limits *limits = &client->shard->limits;

    props->receive_max = (uint16_t)limits->receive_maximum;
    mr_mqtt_set(props, MR_MQTT_PROP_RECEIVE_MAX);
    props->packet_max = client_limits(client)->packet_max;
    mr_mqtt_set(props, MR_MQTT_PROP_PACKET_MAX);
    props->topic_alias_max = (uint16_t)client_limits(client)->topic_aliases_max;
    mr_mqtt_set(props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    props->wildcard_available = 1;
    mr_mqtt_set(props, MR_MQTT_PROP_WILDCARD_AVAILABLE);
    props->subscription_id_available = 1;
    mr_mqtt_set(props, MR_MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE);
    props->shared_available = 1;
    mr_mqtt_set(props, MR_MQTT_PROP_SHARED_AVAILABLE);
    if (mr_mqtt_has(&packet->props, MR_MQTT_PROP_SESSION_EXPIRY) &&
        packet->props.session_expiry_s != expiry_s) { /* [MQTT-3.2.2-21] */
        props->session_expiry_s = expiry_s;
        mr_mqtt_set(props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    if (keep_alive_s != packet->keep_alive_s) {
        props->server_keep_alive = keep_alive_s;
        mr_mqtt_set(props, MR_MQTT_PROP_SERVER_KEEP_ALIVE);
    }
}

/* Would its CONNACK be more than it takes [MQTT-3.1.2-24]?  Measured as if all that may
 * differ from what it asked for did.
 */
static bool connack_is_beyond(struct client *client, const struct mr_mqtt_connect *packet)
{
    static const char any_id[ASSIGNED_ID_BYTES];
    struct mr_mqtt_connack longest = {.reason = MR_MQTT_SUCCESS};

    if (client->packet_max == 0) {
        return false;
    }
    connack_props(client, packet, (uint16_t)~packet->keep_alive_s, ~packet->props.session_expiry_s,
                  &longest.props);
    enhanced_answer(client, &longest.props);
    if (packet->client_id.len == 0) {
        longest.props.assigned_client_id = mr_span_make(any_id, sizeof(any_id));
        mr_mqtt_set(&longest.props, MR_MQTT_PROP_ASSIGNED_CLIENT_ID);
    }
    return mr_mqtt_connack_size(&longest, packet->version) > client->packet_max;
}

/* More than its listener allows, or a will that is not the text it says: 0, or the reason. */
static uint8_t connect_check_limits(struct client *client, const struct mr_mqtt_connect *packet,
                                    const char **what)
{
    const struct session *session = session_find(client->shard, packet->client_id);
    bool takes_over = session != NULL && session->client != NULL;

    if (packet->client_id.len > client_limits(client)->client_id_max) {
        *what = "a client id longer than `max_clientid_len`";
        return MR_MQTT_CLIENT_ID_INVALID;
    }
    if (packet->has_will && topic_is_beyond(client, packet->will_topic)) {
        *what = "a will topic longer or deeper than allowed";
        return MR_MQTT_TOPIC_NAME_INVALID;
    }
    if (connack_is_beyond(client, packet)) {
        *what = "a Maximum Packet Size below that of its CONNACK";
        return MR_MQTT_IMPLEMENTATION_ERROR;
    }
    /* Who comes back while its old connection still counts frees a place itself. */
    if (mr_conn_is_surplus(client_conn(client)) && !takes_over) {
        *what = "the listener has `max_connections` clients";
        return MR_MQTT_QUOTA_EXCEEDED;
    }
    if (crowd_refuses(client) && !takes_over) {
        *what = "its address has `max_connections_per_address` connections";
        return MR_MQTT_QUOTA_EXCEEDED;
    }
    if (packet->version == MR_MQTT_5 && packet->has_will &&
        client->shard->limits.validate_payload_format &&
        !mr_mqtt_payload_format_holds(&packet->will_props, packet->will_payload)) {
        *what = "the will says its payload is UTF-8, and it is not";
        return MR_MQTT_PAYLOAD_FORMAT_INVALID; /* 3.1.3.2.3 */
    }
    return 0;
}

/* "auto-" and 20 random hexadecimal digits [MQTT-3.1.3-6], such that its client is at
 * home in this shard.
 */
static struct mr_span assigned_id(const struct mr_shard *shard, char out[ASSIGNED_ID_BYTES + 1])
{
    uint8_t random[ASSIGNED_RANDOM_BYTES];
    struct mr_span id;

    do {
        struct mr_text text = mr_text_over(out, ASSIGNED_ID_BYTES + 1);

        mr_os_random(random, sizeof(random));
        mr_text_add(&text, "auto-");
        for (size_t i = 0; i < sizeof(random); i++) {
            mr_text_fmt(&text, "%02x", random[i]);
        }
        id = mr_span_make(out, text.len);
    } while (mr_journal_home(shard->broker->run.journal, id) != shard->index);
    return id;
}

/* Is the client at home here?  If not, client->home says where. */
static bool connect_is_home(struct client *client, struct mr_span client_id)
{
    const struct mr_shard *shard = client->shard;

    client->home = (uint16_t)mr_journal_home(shard->broker->run.journal, client_id);
    return client->home == shard->index;
}

/* The connection that has this id now has to go [MQTT-3.1.4-3]. */
static void connect_take_over(struct mr_shard *shard, struct mr_span client_id)
{
    struct session *session = session_find(shard, client_id);

    if (session == NULL || session->client == NULL) {
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

/* When what its login brought holds no longer; 0: never, or in more than a year.  Ticks are
 * compared by the sign of their difference, so none may be further away than half their range.
 */
static uint32_t connect_expires_tick(const struct client *client)
{
    const struct mr_shard *shard = client->shard;
    int64_t expires_s = client->grant == NULL ? 0 : client->grant->expires_s;
    int64_t left_s = expires_s - shard->wall_us / 1000000;

    _Static_assert((int64_t)EXPIRY_WATCHED_S * 1000000000 / MR_NET_TICK_NS < INT32_MAX,
                   "as far away as a tick can be");
    if (expires_s == 0 || left_s > EXPIRY_WATCHED_S) {
        return 0;
    }
    int64_t left_ns = (expires_s * 1000000 - shard->wall_us) * 1000;
    int64_t due_ns = shard->now_ns - shard->start_ns + (left_s < 0 ? 0 : left_ns);
    /* The first tick that begins no sooner: its login holds for as long as was promised. */
    uint32_t tick = (uint32_t)((due_ns + MR_NET_TICK_NS - 1) / MR_NET_TICK_NS) + 1;
    return tick == 0 ? 1 : tick;
}

static void connect_timers(struct client *client, uint16_t keep_alive_s)
{
    /* One more, because the tick in which it was heard had begun before. */
    uint64_t ticks = (uint64_t)keep_alive_s * 1500000000u / MR_NET_TICK_NS + 1;

    client->keep_alive_ticks = keep_alive_s == 0 ? 0 : (uint32_t)ticks;
    client->expires_tick = connect_expires_tick(client);
    client_timer_set(client, client->shard->tick + client->keep_alive_ticks);
}

static void connect_remember(struct client *client, const struct mr_mqtt_connect *packet)
{
    const struct mr_broker_limits *limits = &client->shard->limits;
    const struct mr_mqtt_props *props = &packet->props;

    client->version = packet->version;
    client->packet_told = client_limits(client)->packet_max;
    client->connected_tick = client->shard->tick;
    client->receive_max = (uint16_t)limits->max_inflight_messages;
    if (packet->version == MR_MQTT_5) {
        client->receive_max =
            mr_mqtt_has(props, MR_MQTT_PROP_RECEIVE_MAX) ? props->receive_max : UINT16_MAX;
        client->aliases_max = (uint16_t)client_limits(client)->topic_aliases_max;
        client->receive_told = (uint16_t)limits->receive_maximum;
        client->alias_max =
            mr_mqtt_has(props, MR_MQTT_PROP_TOPIC_ALIAS_MAX) ? props->topic_alias_max : 0;
        client->ends_at_once =
            !mr_mqtt_has(props, MR_MQTT_PROP_SESSION_EXPIRY) || props->session_expiry_s == 0;
        client->wants_detail = !mr_mqtt_has(props, MR_MQTT_PROP_REQUEST_PROBLEM_INFO) ||
                               props->request_problem_info != 0;
    }
}

/* What the operator lets clients know who ask: `%c` is the client id [MQTT-3.1.2-28].
 * Nothing if it does not fit.
 */
static void connack_response_info(struct client *client, const struct mr_mqtt_connect *packet,
                                  struct mr_mqtt_connack *answer, char out[RESPONSE_INFO_BYTES])
{
    const char *from = client->shard->limits.response_information;
    struct mr_text text = mr_text_over(out, RESPONSE_INFO_BYTES);

    if (from == NULL || !mr_mqtt_has(&packet->props, MR_MQTT_PROP_REQUEST_RESPONSE_INFO) ||
        packet->props.request_response_info == 0 ||
        strlen(from) + packet->client_id.len >= RESPONSE_INFO_BYTES / 2) {
        return;
    }
    for (; *from != '\0'; from++) {
        if (from[0] == '%' && from[1] == 'c') {
            mr_text_bytes(&text, packet->client_id.at, packet->client_id.len);
            from += 1;
        } else {
            mr_text_bytes(&text, from, 1);
        }
    }
    if (text.len + 1 >= RESPONSE_INFO_BYTES) {
        return;
    }
    answer->props.response_info = mr_span_make(out, text.len);
    mr_mqtt_set(&answer->props, MR_MQTT_PROP_RESPONSE_INFO);
    if (client->packet_max != 0 &&
        mr_mqtt_connack_size(answer, packet->version) > client->packet_max) {
        mr_mqtt_unset(&answer->props, MR_MQTT_PROP_RESPONSE_INFO);
    }
}

enum verdict handle_connect(struct client *client, const struct mr_mqtt_frame *frame)
{
    if (client->session != NULL || client->exchange != NULL) {
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "a second CONNECT"); /* [MQTT-3.1.0-2] [MQTT-3.1.2-30] */
    }
    return connect_go_on(client, frame);
}

/* Who is it?  0, a reason, LOGIN_LATER or LOGIN_ASKS. */
static uint8_t connect_who(struct client *client, const struct mr_mqtt_frame *frame,
                           struct mr_mqtt_connect *packet, char words[LOGIN_WORDS_BYTES],
                           const char **what)
{
    return mr_mqtt_has(&packet->props, MR_MQTT_PROP_AUTH_METHOD)
               ? enhanced_check(client, frame, packet, what)
               : login_check(client, packet, words, what);
}

/* CONNACK, at once or when the session's record is durable. */
static enum verdict connect_answer(struct client *client, const struct mr_mqtt_connack *answer,
                                   uint64_t seq)
{
    enum mr_err err = MR_OK;

    if (seq != 0) {
        hold_connack(client, answer, seq);
    } else {
        err = send_connack(client, answer, client->version);
    }
    exchange_drop(client); /* the answer had its bytes */
    if (err != MR_OK) {
        client_end(client, END_MEMORY);
        return PACKET_END;
    }
    return seq != 0 ? PACKET_JOINING : PACKET_DONE;
}

enum verdict connect_go_on(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_connect packet;
    struct mr_mqtt_connack answer = {.reason = MR_MQTT_SUCCESS};
    struct mr_mqtt_why why;
    const char *what = NULL;
    char assigned[ASSIGNED_ID_BYTES + 1] = "";
    char words[LOGIN_WORDS_BYTES];
    char response_info[RESPONSE_INFO_BYTES];

    if (mr_mqtt_connect_decode(frame, &packet, &why) != MR_OK) {
        return connect_refuse(client, packet.version, why.reason, why.what);
    }
    if (mr_mqtt_has(&packet.props, MR_MQTT_PROP_PACKET_MAX)) {
        client->packet_max = packet.props.packet_max; /* for each answer from here on */
    }
    bool nameless = packet.client_id.len == 0;
    uint8_t reason = login_client_id(client, &packet, words, &what);
    if (reason == 0) {
        reason = bans_check(client, &packet, &what);
    }
    if (reason != 0) {
        return connect_refuse(client, packet.version, reason, what);
    }
    if (packet.client_id.len != 0 && !connect_is_home(client, packet.client_id)) {
        return PACKET_AWAY; /* before it is asked who it is: that is done once, at home */
    }
    reason = connect_who(client, frame, &packet, words, &what);
    if (reason == LOGIN_LATER || reason == LOGIN_ASKS) {
        return reason == LOGIN_LATER ? PACKET_LATER : PACKET_DONE;
    }
    if (reason == 0) {
        reason = connect_check_limits(client, &packet, &what);
    }
    if (reason != 0) {
        return connect_refuse(client, packet.version, reason, what);
    }
    if (packet.client_id.len == 0) {
        packet.client_id = assigned_id(shard, assigned);
    }
    if (nameless) {
        answer.props.assigned_client_id = packet.client_id;
        mr_mqtt_set(&answer.props, MR_MQTT_PROP_ASSIGNED_CLIENT_ID);
    }
    reason = access_connect(client, &packet, assigned[0] != 0, &what);
    if (reason != 0) {
        return connect_refuse(client, packet.version, reason, what);
    }
    connect_take_over(shard, packet.client_id);
    connect_remember(client, &packet);
    struct joined joined = connect_session(client, &packet);
    if (joined.later) {
        client->version = 0;
        return PACKET_LATER;
    }
    if (joined.reason != 0) {
        return connect_refuse(client, packet.version, joined.reason, joined.what);
    }
    uint16_t keep_alive_s = keep_alive_agree(&shard->limits, packet.keep_alive_s);
    connect_timers(client, keep_alive_s);
    limits_begin(client);
    bans_note_accepted(client);
    answer.session_present = joined.present;
    connack_props(client, &packet, keep_alive_s, joined.expiry_s, &answer.props);
    connack_response_info(client, &packet, &answer, response_info);
    client_log_connected(client, joined.present, keep_alive_s);
    enhanced_answer(client, &answer.props);
    return connect_answer(client, &answer, joined.seq);
}
