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
    LOGIN_ASKED,
    LOGIN_YES,
    LOGIN_NO,
    LOGIN_BUSY,
};

enum {
    LOGIN_WORDS_BYTES = 256,
    LOGIN_LATER = 0xFF, /* no reason code; it means PACKET_LATER */
};

/* 0: it may come in; packet->username is who it is, perhaps in `words`.  LOGIN_LATER: the
 * connection is held, and the CONNECT comes again.  Else the reason of the refusal, and *what
 * says it, perhaps in `words`.
 */
uint8_t login_check(struct client *client, struct mr_mqtt_connect *packet,
                    char words[LOGIN_WORDS_BYTES], const char **what);

void logins_take(struct mr_shard *shard); /* the answers that are there */

/* Its timer has come: true if it was one of ours. */
bool login_timer(struct client *client);
void login_drop(struct client *client); /* the connection ends */

#endif
