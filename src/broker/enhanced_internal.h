/* enhanced_internal.h - a client that proves who it is by AUTH packets (section 4.12).
 *
 *     CONNECT ─▶ enhanced_check() ─▶ AUTH 0x18 ─▶ AUTH from it ─▶ CONNACK
 *     AUTH 0x19 ───────────────────▶ AUTH 0x18 ─▶ AUTH from it ─▶ AUTH 0x00, while it goes on
 *
 * The one method is SCRAM-SHA-256 (auth/scram.h).
 *
 * Thread: the shard's.
 * Memory: an exchange and its CONNECT lie in a lent buffer, until CONNACK.
 * Time:   some microseconds; nothing of it is slow for us.
 */
#ifndef MR_BROKER_ENHANCED_INTERNAL_H
#define MR_BROKER_ENHANCED_INTERNAL_H

#include "broker/login_internal.h"

/* A CONNECT with an Authentication Method.  0: it is proven, and packet->username says who it
 * is.  LOGIN_ASKS: an AUTH packet has been sent and the CONNECT is kept.  LOGIN_LATER: it is
 * held and comes again.  Else the reason of the refusal.
 */
uint8_t enhanced_check(struct client *client, const struct mr_mqtt_frame *frame,
                       struct mr_mqtt_connect *packet, const char **what);

/* The method and our own proof for CONNACK, if there was an exchange [MQTT-4.12.0-5].  Borrowed
 * from it.
 */
void enhanced_answer(struct client *client, struct mr_mqtt_props *props);

/* A packet between CONNECT and CONNACK: AUTH, DISCONNECT or a mistake [MQTT-3.1.2-30]. */
enum verdict exchange_packet(struct client *client, const struct mr_mqtt_frame *frame);

void exchange_drop(struct client *client); /* if there is one */

#endif
