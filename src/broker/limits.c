/* limits.c - how much a client may, and how fast.
 *
 * DESIGN
 *
 * A rate is counted in time.  A PUBLISH costs the time that one may take at the rate
 * allowed, a byte likewise; `due` is when everything so far will have been paid for.
 * While it is further ahead of now than the burst is long, the client is held: what it
 * has sent stays unparsed, then unread, and TCP tells it to wait.  Nothing is refused
 * and nothing lost.  A packet larger than the burst is admitted and paid off afterwards,
 * so none waits for ever.
 *
 * A connection that is held is not paused for the journal's sake, so shard_resume() does
 * not find it; its own timer, which otherwise watches its keep alive, lets it go on.
 * Silence while it is held is ours (client.c).  It is read in small pieces, so that
 * little of it waits in memory.
 *
 * A client without a rate pays one look at a pointer per packet.
 */
#include "broker/broker_internal.h"

#define SECOND_NS 1000000000

/* No cost and no burst is longer, so that no sum of them leaves 64 bits; and no timer is set
 * further ahead, for when it comes the client is looked at again.
 */
#define YEAR_NS ((int64_t)365 * 24 * 3600 * SECOND_NS)
#define WAIT_MAX_NS ((int64_t)24 * 3600 * SECOND_NS)

/* What `count` events cost that take `cost_ns` each. */
static int64_t cost_of(uint64_t count, int64_t cost_ns)
{
    return cost_ns != 0 && count > (uint64_t)(YEAR_NS / cost_ns) ? YEAR_NS
                                                                 : (int64_t)count * cost_ns;
}

/* What `mqtt` says, unless the listener says otherwise. */
static uint64_t limit_of(uint64_t own, uint64_t common)
{
    return own != 0 ? own : common;
}

/* Journal and tree of subscriptions are made for what `mqtt` says; a listener can only have
 * less.
 */
static uint32_t lower_of(uint64_t own, uint64_t common)
{
    return (uint32_t)(own != 0 && own < common ? own : common);
}

/* How far ahead `burst` events of `cost_ns` each may be; a timer comes with the tick, and
 * what came due within one must not be lost.
 */
static int64_t ahead_of(uint64_t burst, int64_t cost_ns)
{
    int64_t most = burst == 0 ? 0 : cost_of(burst - 1, cost_ns);
    int64_t least = (int64_t)2 * MR_NET_TICK_NS;

    return most > least ? most : least;
}

static void rates_set(struct client_limits *out, const struct mr_listener_limits *own,
                      const struct mr_broker_limits *common)
{
    uint64_t messages = limit_of(own->messages_rate, common->messages_rate);
    uint64_t bytes = limit_of(own->bytes_rate, common->bytes_rate);
    uint64_t messages_burst = limit_of(own->messages_burst, common->messages_burst);
    uint64_t bytes_burst = limit_of(own->bytes_burst, common->bytes_burst);

    if (messages != 0) {
        out->message_ns = (int64_t)(SECOND_NS / messages);
        out->messages_ahead_ns = ahead_of(limit_of(messages_burst, messages), out->message_ns);
    }
    if (bytes != 0) {
        uint64_t cost_ns = (uint64_t)SECOND_NS * 1024 / bytes;
        out->kibibyte_ns = cost_ns == 0 ? 1 : (int64_t)cost_ns;
        out->bytes_ahead_ns = ahead_of(limit_of(bytes_burst, bytes) / 1024 + 1, out->kibibyte_ns);
    }
}

static void listener_limits_set(struct mr_shard *shard, uint32_t index)
{
    const struct mr_listener_conf *conf = shard->policy.listeners[index].conf;
    const struct mr_listener_limits *own = &conf->limits;
    const struct mr_broker_limits *common = &shard->limits;
    struct client_limits *out = &shard->listener_limits[index];
    uint64_t topic_bytes = limit_of(own->max_topic_length, common->max_topic_length);
    uint64_t subscriptions = limit_of(own->max_subscriptions, common->max_subscriptions);
    uint32_t packet_max = lower_of(own->max_packet_size, common->max_packet_size);
    uint32_t connect_max = (uint32_t)limit_of(own->max_connect_size, common->max_connect_size);

    *out = (struct client_limits){
        .gate = shard->broker->listeners[index].gate,
        .packet_max = packet_max,
        .connect_max = connect_max < packet_max ? connect_max : packet_max,
        .topic_bytes_max = topic_bytes == 0 ? UINT16_MAX : (uint32_t)topic_bytes,
        .topic_levels_max = lower_of(own->max_topic_levels, common->max_topic_levels),
        .client_id_max =
            common->max_clientid_len == 0 ? UINT16_MAX : (uint32_t)common->max_clientid_len,
        .subscriptions_max = subscriptions == 0 ? UINT32_MAX : (uint32_t)subscriptions,
        .topic_aliases_max =
            (uint32_t)limit_of(own->topic_alias_maximum, common->topic_alias_maximum),
        .connections_per_address =
            (uint32_t)limit_of(own->max_conn_rate_per_address, common->max_conn_rate_per_address),
        .address_connections_max = (uint32_t)limit_of(own->max_connections_per_address,
                                                      common->max_connections_per_address),
    };
    rates_set(out, own, common);
    mr_net_set_max(shard->net, index, conf->max_connections);
    mr_net_limit(shard->net, index,
                 &(struct mr_net_limits){
                     .surplus = LISTENER_SURPLUS,
                     .rate = (uint32_t)limit_of(own->max_conn_rate, common->max_conn_rate),
                     .burst = (uint32_t)limit_of(own->max_conn_burst, common->max_conn_burst)});
}

static void client_rated(void *arg, struct mr_conn *conn)
{
    struct client *client = mr_conn_user(conn);

    (void)arg;
    if (client->session != NULL) {
        limits_begin(client);
    }
    if (client->rate_waits) { /* by the old rates; a turn later it is looked at with these */
        mr_conn_set_timer(conn, client->shard->tick + 1);
    }
}

void limits_set(struct mr_shard *shard)
{
    uint64_t ticks = shard->limits.packet_timeout_us * 1000 / MR_NET_TICK_NS;

    for (uint32_t i = 0; i < shard->broker->run.listener_count; i++) {
        listener_limits_set(shard, i);
    }
    mr_net_set_patience(shard->net, shard->limits.packet_timeout_us == 0 ? 0 : (uint32_t)ticks + 1);
    mr_net_each(shard->net, client_rated, NULL);
}

void limits_begin(struct client *client)
{
    const struct client_limits *limits = client_limits(client);
    bool rated = limits->message_ns != 0 || limits->kibibyte_ns != 0;

    if (!rated) {
        limits_end(client);
    } else if (client->rate == NULL) {
        client->rate = mr_alloc(sizeof(*client->rate));
    }
    mr_conn_read_little(client_conn(client), rated);
}

void limits_end(struct client *client)
{
    mr_free(client->rate);
    client->rate = NULL;
}

/* ---- rates ---- */

/* How long `due` is further ahead than it may be; 0: it is not. */
static int64_t wait_of(int64_t due_ns, int64_t ahead_ns, int64_t now_ns)
{
    return due_ns - now_ns > ahead_ns ? due_ns - now_ns - ahead_ns : 0;
}

static void charge(int64_t *due_ns, int64_t cost_ns, int64_t now_ns)
{
    *due_ns = (*due_ns > now_ns ? *due_ns : now_ns) + cost_ns;
}

/* Rounded to what 1,024 bytes cost only where that is a year's worth. */
static int64_t bytes_cost_of(uint32_t bytes, const struct client_limits *limits)
{
    return cost_of(bytes / 1024, limits->kibibyte_ns) +
           (int64_t)(bytes % 1024) * limits->kibibyte_ns / 1024;
}

bool rate_admits(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct client_limits *limits = client_limits(client);
    struct mr_shard *shard = client->shard;
    int64_t wait_ns = wait_of(client->rate->bytes_due_ns, limits->bytes_ahead_ns, shard->now_ns);

    if (frame->type == MR_MQTT_PUBLISH) {
        int64_t more =
            wait_of(client->rate->messages_due_ns, limits->messages_ahead_ns, shard->now_ns);
        wait_ns = more > wait_ns ? more : wait_ns;
    }
    if (wait_ns == 0) {
        return true;
    }
    wait_ns = wait_ns > WAIT_MAX_NS ? WAIT_MAX_NS : wait_ns;
    client->rate_waits = true;
    mr_conn_hold(client_conn(client));
    mr_conn_set_timer(client_conn(client), shard->tick + (uint32_t)(wait_ns / MR_NET_TICK_NS) + 1);
    return false;
}

void rate_charge(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct client_limits *limits = client_limits(client);
    int64_t now_ns = client->shard->now_ns;

    charge(&client->rate->bytes_due_ns, bytes_cost_of(frame->total_bytes, limits), now_ns);
    if (frame->type == MR_MQTT_PUBLISH) {
        charge(&client->rate->messages_due_ns, limits->message_ns, now_ns);
    }
}

bool rate_timer(struct client *client)
{
    struct mr_conn *conn = client_conn(client);

    if (!client->rate_waits) {
        return false;
    }
    client->rate_waits = false;
    client_watch_silence(client); /* before: it may be held again, or end */
    mr_conn_resume(conn);
    return true;
}

/* ---- topics ---- */

bool topic_is_beyond(const struct client *client, struct mr_span topic)
{
    const struct client_limits *limits = client_limits(client);

    return topic.len > limits->topic_bytes_max ||
           mr_topic_level_count(topic) > limits->topic_levels_max;
}
