/* bans.c - the guard's part in the life of a connection (guard.h).
 *
 * Who keeps failing to connect is banned with its address: what counts is a wrong password
 * or none, bytes that are no MQTT, no CONNECT in time, and TLS that fails.  A device whose
 * password is remembered comes in all the same (login.c), so that behind one address one
 * guesser does not lock out a site.
 *
 * Here too: how many connections its address has (crowd.h).
 */
#include "broker/login_internal.h"

#include "os/clock.h"

static const char *peer_of(struct client *client)
{
    return mr_conn_peer(client_conn(client));
}

/* ---- how many its address has ---- */

/* It counts from now on, where there is such a limit.  False: there are far too many. */
static bool crowd_take(struct client *client, uint32_t max)
{
    uint32_t listener = mr_conn_listener(client_conn(client));

    if (max == 0) {
        return true;
    }
    enum crowd_says says =
        crowd_enter(client->shard->broker->crowd, listener, peer_of(client), max);
    client->in_crowd = says == CROWD_FITS || says == CROWD_BEYOND;
    client->is_surplus = says == CROWD_BEYOND;
    return says != CROWD_SHUT;
}

void crowd_drop(struct client *client)
{
    if (client->in_crowd) {
        crowd_leave(client->shard->broker->crowd, mr_conn_listener(client_conn(client)),
                    peer_of(client));
        client->in_crowd = false;
    }
}

void crowd_reloaded(struct client *client)
{
    if (client_limits(client)->address_connections_max == 0) {
        crowd_drop(client);
    } else if (!client->in_crowd) {
        (void)crowd_take(client, UINT32_MAX); /* it is there already */
    }
}

bool crowd_refuses(struct client *client)
{
    uint32_t max = client_limits(client)->address_connections_max;

    return client->is_surplus && max != 0 &&
           crowd_is_beyond(client->shard->broker->crowd, mr_conn_listener(client_conn(client)),
                           peer_of(client), max);
}

/* ---- bans ---- */

bool bans_let_in(struct client *client)
{
    struct mr_guard *guard = client->shard->broker->guard;
    uint32_t rate = client_limits(client)->connections_per_address;

    switch (mr_guard_knock(guard, peer_of(client), rate, client->shard->now_ns)) {
    case MR_GUARD_SHUT:
        return false;
    case MR_GUARD_REFUSE:
        client->turned_away = MR_MQTT_RATE_EXCEEDED;
        break;
    case MR_GUARD_GO:
        break;
    }
    return crowd_take(client, client_limits(client)->address_connections_max);
}
bool bans_address(struct client *client)
{
    return mr_guard_bans_address(client->shard->broker->guard, peer_of(client),
                                 client->shard->now_ns);
}

uint8_t bans_check(struct client *client, const struct mr_mqtt_connect *packet, const char **what)
{
    struct mr_broker *broker = client->shard->broker;
    const struct mr_listener_conf *conf =
        &broker->run.listeners[mr_conn_listener(client_conn(client))];
    bool may_be_known = packet->has_username && login_asks(client) &&
                        !conf->tls.use_identity_as_username &&
                        !mr_mqtt_has(&packet->props, MR_MQTT_PROP_AUTH_METHOD);

    if (client->turned_away != 0) {
        *what = "its address connects more often than `max_conn_rate_per_address`";
        return client->turned_away;
    }
    if (!may_be_known && bans_address(client)) { /* else login.c asks */
        *what = "its address is banned for a while";
        return MR_MQTT_BANNED;
    }
    if (mr_guard_bans_client(broker->guard, packet->client_id, client->shard->now_ns)) {
        *what = "its id is banned for a while, because it came and left too often";
        return MR_MQTT_BANNED;
    }
    return 0;
}

static bool counts(uint8_t reason)
{
    return reason == MR_MQTT_BAD_CREDENTIALS || reason == MR_MQTT_NOT_AUTHORIZED ||
           reason == MR_MQTT_MALFORMED || reason == MR_MQTT_PROTOCOL_ERROR ||
           reason == MR_MQTT_PACKET_TOO_LARGE || reason == MR_MQTT_MAXIMUM_CONNECT_TIME;
}

void bans_note_refused(struct client *client, uint8_t reason)
{
    struct mr_shard *shard = client->shard;
    uint32_t seconds =
        counts(reason) ? mr_guard_failed(shard->broker->guard, peer_of(client), shard->now_ns) : 0;

    if (seconds != 0) {
        mr_log(MR_LOG_WARN, "mqtt",
               "the address of %s is banned for %u s: it fails to connect again and again; who "
               "is connected stays; `millrace bans clear` ends it",
               peer_of(client), seconds);
    }
}

void bans_note_accepted(struct client *client)
{
    mr_guard_succeeded(client->shard->broker->guard, peer_of(client), client->shard->now_ns);
}

void bans_note_left(struct client *client)
{
    struct mr_shard *shard = client->shard;
    struct client_label label;
    uint32_t seconds = 0;

    if (client->end != END_SHUTDOWN && client->end != END_KICKED) {
        seconds =
            mr_guard_client_left(shard->broker->guard, session_id(client->session), shard->now_ns);
    }
    if (seconds != 0) {
        mr_log(MR_LOG_WARN, "mqtt",
               "%s is banned for %u s: it came and left too often (`mqtt.flapping_detect`); "
               "`millrace bans clear` ends it",
               client_label(client, &label), seconds);
    }
}

void mr_broker_bans(struct mr_broker *broker,
                    void (*each)(void *arg, const struct mr_ban_info *info), void *arg)
{
    mr_guard_each(broker->guard, mr_clock_mono_ns(), each, arg);
}

uint64_t mr_broker_bans_clear(struct mr_broker *broker, struct mr_span who)
{
    return mr_guard_clear(broker->guard, who, mr_clock_mono_ns());
}
