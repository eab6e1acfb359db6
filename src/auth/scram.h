/* scram.h - SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677).
 *
 *     client-first ─▶ mr_scram_first() ─▶ who ─▶ keys ─▶ mr_scram_challenge() ─▶ server-first
 *     client-final ─▶ mr_scram_final() ─▶ server-final: we knew the keys, too
 *
 * The password never travels.  What we keep, StoredKey and ServerKey, checks a client and
 * proves us to it, and does not open any door by itself.
 *
 * No channel binding is offered.  An authorization identity must be the user.  User names are
 * compared as they come: SASLprep leaves ASCII as it is, and more is not prepared here.
 *
 * Thread: values; no state.
 * Memory: struct mr_scram, 1.4 KiB for the time of an exchange.
 * Time:   first and challenge ~1 us, final ~3 us, however many iterations: those are the
 *         client's.  mr_scram_make() takes 0.3 us for each.
 */
#ifndef MR_AUTH_SCRAM_H
#define MR_AUTH_SCRAM_H

#include "base/text.h"

#define MR_SCRAM_METHOD "SCRAM-SHA-256"

enum {
    MR_SCRAM_KEY_BYTES = 32,
    MR_SCRAM_SALT_BYTES = 16,
    MR_SCRAM_SALT_MAX = 64,
    MR_SCRAM_NONCE_BYTES = 18,      /* random ones of ours: 24 characters */
    MR_SCRAM_ITERATIONS_MIN = 4096, /* RFC 7677 section 4 */
    MR_SCRAM_TEXT_MAX = 256,        /* of mr_scram_write(), NUL included */
    MR_SCRAM_SAID_MAX = 1024,       /* of all messages of an exchange */
    MR_SCRAM_MESSAGE_MAX = 512,     /* of one of ours */
};

/* What is stored of a password. */
struct mr_scram_keys {
    uint32_t iterations;
    uint32_t salt_len;
    uint8_t salt[MR_SCRAM_SALT_MAX];
    uint8_t stored_key[MR_SCRAM_KEY_BYTES];
    uint8_t server_key[MR_SCRAM_KEY_BYTES];
};

/* From a password; `salt` is random. */
void mr_scram_make(struct mr_span password, uint32_t iterations,
                   const uint8_t salt[MR_SCRAM_SALT_BYTES], struct mr_scram_keys *out);

/* "10000:SALT:STOREDKEY:SERVERKEY", and back.  False: it is not that. */
void mr_scram_write(const struct mr_scram_keys *keys, char out[MR_SCRAM_TEXT_MAX]);
bool mr_scram_read(struct mr_span text, struct mr_scram_keys *out) MR_MUST_USE;

/* An exchange.  Zeroed is none. */
struct mr_scram {
    struct mr_scram_keys keys;
    bool known;     /* keys are a user's, not made up */
    uint16_t bare;  /* bytes of client-first without its header, at the front of `said` */
    uint16_t nonce; /* where in `said` the nonce of both begins */
    uint16_t nonce_len;
    uint16_t said_len;
    char gs2[8]; /* the header that client-final has to repeat, in base64 */
    char said[MR_SCRAM_SAID_MAX];
};

/* Take client-first.  *user is decoded into `name`, of `name_size` bytes.  NULL, or what is
 * wrong with it.
 */
const char *mr_scram_first(struct mr_scram *scram, struct mr_span message, char *name,
                           size_t name_size, struct mr_span *user);

/* server-first, for a user with `keys`; `known` false: they are a decoy, and the exchange
 * will fail at its end, as if the password were wrong.
 */
struct mr_span mr_scram_challenge(struct mr_scram *scram, const struct mr_scram_keys *keys,
                                  bool known, const uint8_t nonce[MR_SCRAM_NONCE_BYTES],
                                  char out[MR_SCRAM_MESSAGE_MAX]);

/* Take client-final.  NULL: it knew the password, and *server_final is our proof, in `out`.
 * Else what is wrong with it.
 */
const char *mr_scram_final(struct mr_scram *scram, struct mr_span message,
                           char out[MR_SCRAM_MESSAGE_MAX], struct mr_span *server_final);

#endif
