/* login_internal.h - the part of a CONNECT that asks who it is; see login.c.
 *
 * Thread: the shard's.   Memory: a question lies in a lent buffer.   Time: auth/auth.h.
 */
#ifndef MR_BROKER_LOGIN_INTERNAL_H
#define MR_BROKER_LOGIN_INTERNAL_H

#include "broker/broker_internal.h"

enum login_state {
    LOGIN_NONE,
    LOGIN_DELAYED, /* its address has to wait */
    LOGIN_WAITED,  /* ... and has, before an exchange of AUTH packets */
    LOGIN_ASKED,
    LOGIN_YES,
    LOGIN_NO,
    LOGIN_BUSY,
    LOGIN_BANNED,
    LOGIN_DOWN, /* the service that would know does not answer */
};

enum {
    LOGIN_WORDS_BYTES = 1024,
    LOGIN_LATER = 0xFF, /* no reason code; it means PACKET_LATER */
    LOGIN_ASKS = 0xFE,  /* nor this: an AUTH packet has been sent, the CONNECT is kept */
};

/* 0: it may come in; packet->username is who it is, perhaps in `words`.  LOGIN_LATER: the
 * connection is held, and the CONNECT comes again.  Else the reason of the refusal, and *what
 * says it, perhaps in `words`.
 */
uint8_t login_check(struct client *client, struct mr_mqtt_connect *packet,
                    char words[LOGIN_WORDS_BYTES], const char **what);

/* Its address has said too much that was wrong: hold the CONNECT for request->delay_ms, give
 * the count back, and let the CONNECT come again.  False: no memory.
 */
bool login_delay(struct client *client, const struct mr_auth_request *request);

/* Wake it by login_timer() in so many milliseconds. */
void login_set_timer(struct client *client, uint64_t ms);

/* Its address, for those who guess. */
uint64_t login_address(struct client *client);

/* Its listener's realm (auth/auth.h), if it asks who a client is. */
bool login_asks(struct client *client);
uint32_t login_realm(struct client *client);

/* Where the listener wants it so, the client id is the user name, from here on.  Before the
 * name is checked, because it says where the client is at home.  As login_check().
 */
uint8_t login_client_id(struct client *client, struct mr_mqtt_connect *packet,
                        char words[LOGIN_WORDS_BYTES], const char **what);

/* Other rules are in force.  Of a client before its CONNACK: whoever said what about it has to be
 * asked again.
 */
void login_reloaded(struct client *client);
/* Of one that is in: NULL, or why it would not be let in any more. */
const char *login_lapsed(struct client *client, const struct listener_policy *before);

void logins_take(struct mr_shard *shard); /* the answers that are there */

/* Its timer has come: true if it was one of ours. */
bool login_timer(struct client *client);
void login_drop(struct client *client); /* the connection ends */

#endif
