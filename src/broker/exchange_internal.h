/* exchange_internal.h - the inside of an exchange of AUTH packets, for enhanced.c and
 * handle_auth.c; see enhanced_internal.h.
 *
 * Thread: the shard's.   Memory: lent by the pool.   Time: none.
 */
#ifndef MR_BROKER_EXCHANGE_INTERNAL_H
#define MR_BROKER_EXCHANGE_INTERNAL_H

#include "broker/enhanced_internal.h"

enum { EXCHANGE_USER_MAX = 512 };

struct exchange {
    size_t capacity; /* as lent by the pool */
    struct mr_scram scram;
    uint16_t user_len;
    uint16_t proof_len;
    bool proven;
    char user[EXCHANGE_USER_MAX];
    char proof[MR_SCRAM_MESSAGE_MAX]; /* ours, for the client */
    uint32_t connect_len;             /* 0: of a client that has its session */
    uint8_t connect[];                /* the whole packet */
};

/* client->exchange; NULL: no memory. */
struct exchange *exchange_new(struct client *client, size_t connect_len);

/* Take client-first and send server-first.  NULL, or what is wrong. */
const char *exchange_begin(struct client *client, struct mr_span data);

/* Take client-final.  NULL: proven.  Else what is wrong, and it counts as a guess. */
const char *exchange_end(struct client *client, struct mr_span data);

/* Has its address begun to look like a guesser since this exchange began without waiting?  So
 * many exchanges that are begun at once are no way to guess without waiting.
 */
bool exchange_is_suspect(struct client *client);

struct mr_span exchange_user(const struct exchange *exchange);
struct mr_span exchange_proof(const struct exchange *exchange);

#endif
