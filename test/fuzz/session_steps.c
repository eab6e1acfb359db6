/* session_steps.c - what an input of fuzz_session.c says.
 *
 * A step is a byte and what it takes of those behind it: bits 0 to 4 say what is done (step()),
 * 5 and 6 by which connection (or the next one that can), 7 whether everything is to happen before
 * the next step.  Behind the end of the input all bytes are 0.
 */
#include "session_run.h"

#include "os/loop.h"
#include "os/sim.h"

#include <string.h>

enum { PACKET_BYTES = 8192 };

static const char *const topics[] = {"q/a", "q/b",   "q/",     "q/c/d", "t",
                                     "t/1", "t/1/2", "will/w", "$x/y",  "u//v"};
static const char *const filters[] = {
    "#",          "t/#",          "+/1", "t/+",    "q/+",    "q/#",   "t/1",  "$share/g/t/#",
    "$share/h/#", "$share/g/q/a", "+/+", "$SYS/#", "will/w", "u/+/v", "$x/#", "$share/g/+/1"};

static struct mr_span input;

/* ---- the input ---- */

static uint8_t byte(void)
{
    if (input.len == 0) {
        return 0;
    }
    input.len -= 1;
    return *input.at++;
}

static bool bit(uint8_t of, unsigned n)
{
    return (of >> n & 1) != 0;
}

/* ---- packets ---- */

static struct {
    uint8_t how; /* of the next packet: 0 as it is, 1 changed, 2 cut, 3 longer */
    uint8_t at;
    uint8_t with;
} spoil;

/* The bytes that the peer does not know. */
static void spoil_peer(struct peer *peer, int slot)
{
    peer->spoilt = true;
    if (run.client[slot] >= 0) {
        run.spoilt_ids[run.client[slot]] = true;
    }
}

static void slot_send(int slot, uint8_t *bytes, ptrdiff_t len, int16_t tag)
{
    struct peer *peer = &slots[slot];
    size_t count = (size_t)len;

    mr_assert(len > 0);
    if (spoil.how != 0) {
        size_t at = spoil.at % count;
        spoil_peer(peer, slot);
        if (tag != NO_TAG) {
            run.tags[tag].wanted = false;
            run.tags[tag].may_double = true;
        }
        if (spoil.how == 1) {
            bytes[at] ^= spoil.with != 0 ? spoil.with : 0xff;
        } else if (spoil.how == 2) {
            count = at;
        } else {
            memmove(bytes + at + 1, bytes + at, count - at);
            bytes[at] = spoil.with;
            count += 1;
        }
        spoil.how = 0;
    }
    peer_send(peer, bytes, count, tag);
}

static void user_property(struct mr_mqtt_props *props, uint8_t *room, size_t size)
{
    ptrdiff_t len = mr_mqtt_user_property_put(mr_span_of("k"), mr_span_of("v"), room, size);

    props->user_raw = mr_span_make(room, (size_t)len);
    mr_mqtt_set(props, MR_MQTT_PROP_USER);
}

static uint32_t seconds(uint8_t of)
{
    static const uint32_t choices[] = {0, 1, 5, 30, 1000, 100000, UINT32_MAX, 2};

    return choices[of & 7];
}

static void will(struct mr_mqtt_connect *packet, int client, uint8_t payload[TAG_BYTES])
{
    uint8_t how = byte();
    uint8_t topic = byte() % MR_COUNT_OF(topics);

    packet->has_will = true;
    packet->will_qos = how & 3;
    packet->will_qos = packet->will_qos == 3 ? 2 : packet->will_qos;
    packet->will_retain = bit(how, 2);
    packet->will_topic = mr_span_of(topics[topic]);
    int16_t tag = tag_new(client, packet->will_qos, payload);
    if (tag != NO_TAG && !bit(how, 6)) {
        packet->will_payload = mr_span_make(payload, TAG_BYTES);
    }
    if (packet->version == MR_MQTT_5 && bit(how, 3)) {
        packet->will_props.will_delay_s = seconds(how >> 4);
        mr_mqtt_set(&packet->will_props, MR_MQTT_PROP_WILL_DELAY);
    }
    if (packet->version == MR_MQTT_5 && bit(how, 7)) {
        packet->will_props.message_expiry_s = seconds(how >> 3);
        mr_mqtt_set(&packet->will_props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    }
}

static void connect_props(struct mr_mqtt_props *props, uint8_t room[16])
{
    uint8_t what = byte();

    if (bit(what, 0)) {
        props->session_expiry_s = seconds(byte());
        mr_mqtt_set(props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    if (bit(what, 1)) {
        props->receive_max = (uint16_t)(1 + byte() % 8);
        mr_mqtt_set(props, MR_MQTT_PROP_RECEIVE_MAX);
    }
    if (bit(what, 2)) {
        props->topic_alias_max = byte() % 6;
        mr_mqtt_set(props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    }
    if (bit(what, 3)) {
        props->packet_max = 1 + (uint32_t)byte() * 8;
        mr_mqtt_set(props, MR_MQTT_PROP_PACKET_MAX);
    }
    if (bit(what, 4)) {
        props->request_problem_info = byte() & 1;
        mr_mqtt_set(props, MR_MQTT_PROP_REQUEST_PROBLEM_INFO);
    }
    if (bit(what, 5)) {
        props->request_response_info = 1;
        mr_mqtt_set(props, MR_MQTT_PROP_REQUEST_RESPONSE_INFO);
    }
    if (bit(what, 6)) {
        user_property(props, room, 16);
    }
    if (bit(what, 7) && bit(byte(), 0)) {
        props->auth_method = mr_span_of("SCRAM-SHA-256");
        mr_mqtt_set(props, MR_MQTT_PROP_AUTH_METHOD);
    }
}

/* On a new connection, or against the rules on the one that there is. */
static void step_connect(int slot)
{
    uint8_t how = byte();
    uint8_t who = byte();
    uint8_t client = who % IDS;
    uint8_t payload[TAG_BYTES];
    uint8_t room[16];
    uint8_t bytes[PACKET_BYTES];
    struct mr_mqtt_connect packet = {.version = bit(how, 0) ? MR_MQTT_5 : MR_MQTT_311,
                                     .clean_start = bit(how, 1)};

    if (!bit(how, 7) || slots[slot].fd < 0) {
        peer_open(&slots[slot]);
        slots[slot].spoilt = false;
    }
    if (packet.version == MR_MQTT_311 && bit(who, 4)) {
        packet.version = MR_MQTT_31;
    }
    packet.client_id = bit(who, 5) ? (struct mr_span){0} : mr_span_of(session_ids[client]);
    run.client[slot] = bit(who, 5) ? -1 : client;
    packet.keep_alive_s = bit(how, 2) ? byte() : 0;
    if (bit(how, 3)) {
        will(&packet, client, payload);
    }
    if (bit(how, 4)) {
        packet.has_username = true;
        packet.username = mr_span_of("user");
        packet.has_password = bit(who, 6);
        packet.password = mr_span_of("password");
    }
    if (packet.version == MR_MQTT_5) {
        connect_props(&packet.props, room);
    } else if (bit(how, 5)) {
        packet.clean_start = false;
    }
    slot_send(slot, bytes, mr_mqtt_connect_encode(&packet, bytes, PACKET_BYTES - 1), NO_TAG);
}

static uint16_t packet_id(void)
{
    run.id_last += 1;
    return run.id_last;
}

static void step_subscribe(int slot)
{
    bool v5 = slots[slot].version == MR_MQTT_5;
    uint8_t count = byte();
    uint8_t raw[512];
    uint8_t bytes[PACKET_BYTES];
    size_t len = 0;
    struct mr_mqtt_subscribe packet = {.packet_id = packet_id()};

    for (int i = 0; i <= (count & 3); i++) {
        uint8_t which = byte();
        uint8_t options = byte();
        struct mr_mqtt_subscription one = {
            .filter = mr_span_of(filters[which % MR_COUNT_OF(filters)]),
            .qos = (uint8_t)((options & 3) % 3),
            .no_local = v5 && bit(options, 2) && filters[which % MR_COUNT_OF(filters)][1] != 's',
            .retain_as_published = v5 && bit(options, 3),
            .retain_handling = (uint8_t)(v5 ? (options >> 4 & 3) % 3 : 0)};
        ptrdiff_t some = mr_mqtt_subscription_put(&one, raw + len, sizeof(raw) - len);
        mr_assert(some > 0);
        len += (size_t)some;
    }
    packet.raw = mr_span_make(raw, len);
    if (v5 && bit(count, 2)) {
        packet.props.subscription_id = 1 + (uint32_t)count * 1000;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SUBSCRIPTION_ID);
    }
    slot_send(slot, bytes,
              mr_mqtt_subscribe_encode(&packet, slots[slot].version, bytes, PACKET_BYTES - 1),
              NO_TAG);
}

static void step_unsubscribe(int slot)
{
    uint8_t raw[128];
    uint8_t bytes[PACKET_BYTES];
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(filters[byte() % MR_COUNT_OF(filters)]),
                                               raw, sizeof(raw));
    struct mr_mqtt_subscribe packet = {.packet_id = packet_id(),
                                       .raw = mr_span_make(raw, (size_t)len)};

    slot_send(slot, bytes,
              mr_mqtt_unsubscribe_encode(&packet, slots[slot].version, bytes, PACKET_BYTES - 1),
              NO_TAG);
}

static void publish_props(struct mr_mqtt_publish *packet, uint8_t topic, bool *expires,
                          uint8_t room[16])
{
    struct mr_mqtt_props *props = &packet->props;
    uint8_t what = byte();

    if (bit(what, 0)) { /* its name once, then the alias alone; or one that was never named */
        props->topic_alias = (uint16_t)(1 + topic % (MACHINE_ALIASES + (bit(what, 7) ? 2 : 0)));
        mr_mqtt_set(props, MR_MQTT_PROP_TOPIC_ALIAS);
        if (bit(what, 1)) {
            packet->topic = (struct mr_span){0};
        }
    }
    if (bit(what, 2)) {
        props->message_expiry_s = seconds(what >> 4);
        mr_mqtt_set(props, MR_MQTT_PROP_MESSAGE_EXPIRY);
        *expires = true;
    }
    if (bit(what, 3)) {
        props->payload_format = bit(what, 4);
        mr_mqtt_set(props, MR_MQTT_PROP_PAYLOAD_FORMAT);
    }
    if (bit(what, 5)) {
        props->response_topic = mr_span_of("t/1");
        mr_mqtt_set(props, MR_MQTT_PROP_RESPONSE_TOPIC);
        props->correlation_data = mr_span_of("c");
        mr_mqtt_set(props, MR_MQTT_PROP_CORRELATION_DATA);
    }
    if (bit(what, 6)) {
        user_property(props, room, 16);
    }
}

static size_t payload_bytes(uint8_t how)
{
    static const size_t choices[] = {16, 16, 0, 40, 100, 17, 1000, 3000};

    return choices[how & 7];
}

static void step_publish(int slot)
{
    static uint8_t payload[4096];
    struct peer *peer = &slots[slot];
    int client = run.client[slot];
    uint8_t how = byte();
    uint8_t topic = byte() % MR_COUNT_OF(topics);
    uint8_t bytes[PACKET_BYTES];
    uint8_t room[16];
    bool expires = false;
    int16_t tag = NO_TAG;
    struct mr_mqtt_publish packet = {
        .topic = mr_span_of(topics[topic]), .qos = (uint8_t)((how & 3) % 3), .retain = bit(how, 2)};
    size_t len = payload_bytes(how >> 3);

    if (packet.qos != 0) {
        packet.packet_id = packet_id();
    }
    if (peer->version == MR_MQTT_5 && bit(how, 6)) {
        publish_props(&packet, topic, &expires, room);
    }
    if (len != 0) {
        tag = tag_new(client, packet.qos, payload);
        len = tag == NO_TAG ? 0 : len;
    }
    packet.payload = mr_span_make(payload, len);
    if (tag != NO_TAG) {
        run.tags[tag].packet_id = packet.packet_id;
        run.tags[tag].topic = topic;
        run.tags[tag].may_double = peer->taken; /* whose session it comes to is not known */
        /* An alias alone may stand for another topic. */
        run.tags[tag].wanted = topics[topic][0] == 'q' && packet.topic.len != 0 &&
                               packet.qos != 0 && !expires && !peer->spoilt && client >= 0 &&
                               !run.spoilt_ids[client];
    }
    slot_send(slot, bytes, mr_mqtt_publish_encode(&packet, peer->version, bytes, PACKET_BYTES - 1),
              tag);
}

/* A message of QoS 1 or 2 again. */
static void step_again(int slot)
{
    int client = run.client[slot];
    uint8_t pick = byte();
    uint8_t bytes[PACKET_BYTES];
    uint8_t payload[TAG_BYTES];

    for (uint32_t i = 0; i < run.tag_count; i++) {
        uint32_t number = (pick + i) % run.tag_count;
        struct tag *tag = &run.tags[number];
        if (client < 0 || tag->client != client || tag->qos == 0 || tag->packet_id == 0) {
            continue;
        }
        tag_put((int16_t)number, payload);
        struct mr_mqtt_publish packet = {.topic = mr_span_of(topics[tag->topic]),
                                         .qos = tag->qos,
                                         .dup = true,
                                         .packet_id = tag->packet_id,
                                         .payload = mr_span_make(payload, TAG_BYTES)};
        if (tag->qos == 1 || tag->released || tag->generation != run.generations[client] ||
            !slots[slot].let_in || slots[slot].taken || slots[slot].spoilt ||
            run.spoilt_ids[client]) {
            tag->may_double = true;
        }
        slot_send(slot, bytes,
                  mr_mqtt_publish_encode(&packet, slots[slot].version, bytes, PACKET_BYTES - 1),
                  (int16_t)number);
        return;
    }
}

static void step_ack(int slot)
{
    struct peer *peer = &slots[slot];
    uint8_t how = byte();
    uint32_t count = 1 + (how & 7);

    while (count-- != 0 && peer->pending_count != 0 && peer->fd >= 0) {
        uint32_t at = bit(how, 7) ? (how >> 3 & 15) % peer->pending_count : 0;
        struct pending pending = peer->pending[at];
        peer->pending_count -= 1;
        memmove(&peer->pending[at], &peer->pending[at + 1],
                (peer->pending_count - at) * sizeof(peer->pending[0]));
        if (at != 0) {
            peer->doubt = true;
        }
        if (peer->version == MR_MQTT_5 && bit(how, 6) && pending.type != MR_MQTT_PUBCOMP) {
            uint8_t bytes[PACKET_BYTES];
            struct mr_mqtt_ack packet = {.type = pending.type,
                                         .packet_id = pending.id,
                                         .reason = bit(how, 5) ? MR_MQTT_UNSPECIFIED : 0};
            slot_send(slot, bytes,
                      mr_mqtt_ack_encode(&packet, peer->version, bytes, PACKET_BYTES - 1), NO_TAG);
        } else {
            peer_ack(peer, pending.type, pending.id);
        }
    }
}

static void step_release(int slot)
{
    int client = run.client[slot];
    uint8_t pick = byte();
    uint8_t bytes[PACKET_BYTES];

    for (uint32_t i = 0; i < run.tag_count; i++) {
        struct tag *tag = &run.tags[(pick + i) % run.tag_count];
        if (client >= 0 && tag->client == client && tag->qos == 2 && tag->packet_id != 0 &&
            !tag->released) {
            struct mr_mqtt_ack packet = {.type = MR_MQTT_PUBREL, .packet_id = tag->packet_id};
            tag->released = true;
            slot_send(slot, bytes,
                      mr_mqtt_ack_encode(&packet, slots[slot].version, bytes, PACKET_BYTES - 1),
                      NO_TAG);
            return;
        }
    }
}

static void step_wrong_ack(int slot)
{
    static const uint8_t types[] = {MR_MQTT_PUBACK, MR_MQTT_PUBREC, MR_MQTT_PUBREL,
                                    MR_MQTT_PUBCOMP};
    uint8_t how = byte();
    uint8_t bytes[PACKET_BYTES];
    struct mr_mqtt_ack packet = {.type = types[how & 3], .packet_id = 1 + (how >> 2)};

    slots[slot].doubt = true;
    spoil_peer(&slots[slot], slot);
    slot_send(slot, bytes,
              mr_mqtt_ack_encode(&packet, slots[slot].version, bytes, PACKET_BYTES - 1), NO_TAG);
}

static void step_goodbye(int slot)
{
    static const uint8_t reasons[] = {MR_MQTT_SUCCESS, MR_MQTT_DISCONNECT_WITH_WILL,
                                      MR_MQTT_UNSPECIFIED, MR_MQTT_SUCCESS};
    uint8_t how = byte();
    uint8_t bytes[PACKET_BYTES];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT, .reason = reasons[how & 3]};

    if (slots[slot].version != MR_MQTT_5) {
        packet.reason = 0;
    } else if (bit(how, 2)) {
        packet.props.session_expiry_s = seconds(how >> 3);
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    slot_send(slot, bytes,
              mr_mqtt_disconnect_encode(&packet, slots[slot].version, bytes, PACKET_BYTES - 1),
              NO_TAG);
    if (bit(how, 6)) {
        peer_drop(&slots[slot], false);
    }
}

static void step_auth(int slot)
{
    uint8_t how = byte();
    uint8_t bytes[PACKET_BYTES];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_AUTH,
                                        .reason = bit(how, 0) ? MR_MQTT_REAUTHENTICATE
                                                              : MR_MQTT_CONTINUE_AUTHENTICATION};

    packet.props.auth_method = mr_span_of("SCRAM-SHA-256");
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_METHOD);
    slot_send(slot, bytes, mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, bytes, PACKET_BYTES - 1),
              NO_TAG);
}

/* Bytes of the input as they are; a connection that says nothing else, if there is none. */
static void step_raw(int slot)
{
    uint8_t count = byte() & 63;
    size_t len = count < input.len ? count : input.len;

    if (slots[slot].fd < 0) {
        peer_open(&slots[slot]);
        run.client[slot] = -1;
    }
    spoil_peer(&slots[slot], slot);
    peer_send(&slots[slot], input.at, len, NO_TAG);
    input.at += len;
    input.len -= len;
}

static void step_server_packet(int slot)
{
    static const uint8_t packets[][4] = {
        {0x20, 2, 0, 0}, {0x90, 3, 0, 1}, {0xb0, 2, 0, 1}, {0xd0, 0, 0, 0}};
    const uint8_t *packet = packets[byte() & 3];

    peer_send(&slots[slot], packet, packet[1] == 3 ? 4 : 2 + (size_t)packet[1], NO_TAG);
}

/* Everybody's. */
static void step_time(int slot)
{
    static const int64_t ms[] = {1, 20, 120, 1100, 2100, 6000, 31000, 1000000};

    (void)slot;
    happen();
    time_passes(ms[byte() & 7] * NS_PER_MS);
}

static void step_shape(int slot)
{
    static const size_t pieces[] = {0, 1, 3, 20};
    uint8_t how = byte();

    if (slots[slot].fd >= 0) {
        int64_t delay_ns = bit(how, 2) ? 2 * NS_PER_MS : 0;
        mr_sim_stream_shape(slots[slot].fd, delay_ns, pieces[how & 3]);
        mr_sim_stream_shape_peer(slots[slot].fd, delay_ns, pieces[how >> 3 & 3]);
    }
}

static void step_end(int slot)
{
    uint8_t how = byte();

    if (bit(how, 1) && slots[slot].fd >= 0) {
        slots[slot].doubt = true;
        mr_socket_shutdown(slots[slot].fd);
    } else {
        peer_drop(&slots[slot], bit(how, 0));
    }
}

static void kick(void)
{
    struct mr_span who = mr_span_of(session_ids[byte() % IDS]);

    for (int i = 0; i < SLOTS; i++) {
        if (mr_span_equal(mr_span_make(slots[i].id, slots[i].id_len), who)) {
            slots[i].doubt = true;
        }
    }
    (void)machine_kick(who);
}

static void step_ping(int slot)
{
    uint8_t ping[MR_MQTT_PING_BYTES];

    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    peer_send(&slots[slot], ping, sizeof(ping), NO_TAG);
}

/* Of the packet that the next step sends, whoever that is. */
static void step_spoil(int slot)
{
    (void)slot;
    spoil.how = 1 + byte() % 3;
    spoil.at = byte();
    spoil.with = byte();
}

/* The operator and the disk. */
static void step_other(int slot)
{
    if (bit((uint8_t)slot, 0)) {
        mr_sim_disk_pace(0, bit((uint8_t)slot, 1) ? 3 * NS_PER_MS : 0);
    } else {
        kick();
    }
}

/* The one that is meant, or the next one that can: what nobody could do would be nothing. */
static int slot_for(void (*one)(int slot), int slot)
{
    if (one == step_connect || one == step_raw || one == step_other) {
        return slot;
    }
    for (int i = 0; i < SLOTS; i++) {
        const struct peer *peer = &slots[(slot + i) % SLOTS];
        if (peer->fd >= 0 && !peer->said_bye && (one != step_ack || peer->pending_count != 0)) {
            return (slot + i) % SLOTS;
        }
    }
    return slot;
}

static void step(void)
{
    static void (*const steps[32])(int slot) = {
        step_connect,       step_connect,   step_connect,     step_connect,   step_subscribe,
        step_subscribe,     step_subscribe, step_unsubscribe, step_publish,   step_publish,
        step_publish,       step_publish,   step_publish,     step_publish,   step_publish,
        step_again,         step_ack,       step_ack,         step_ack,       step_release,
        step_ping,          step_goodbye,   step_raw,         step_spoil,     step_time,
        step_time,          step_end,       step_shape,       step_wrong_ack, step_auth,
        step_server_packet, step_other};
    uint8_t what = byte();
    void (*one)(int slot) = steps[what & 31];

    one(slot_for(one, what >> 5 & 3));
    if (bit(what, 7)) {
        happen();
    }
}

void steps_do(struct mr_span bytes)
{
    input = bytes;
    spoil.how = 0;
    for (int steps = 0; steps < STEPS_MAX && input.len != 0; steps++) {
        step();
    }
}
