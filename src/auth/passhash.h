/* passhash.h - passwords as mosquitto_passwd writes them.
 *
 *     $7$101$SALT$HASH     PBKDF2 with HMAC-SHA512; Mosquitto 2, and what we write
 *     $6$SALT$HASH         one SHA512 over password and salt; Mosquitto 1
 *     $argon2id$v=19$m=47104,t=1,p=1$SALT$HASH    Mosquitto 2.1; needs OpenSSL 3.2
 *
 * Thread: pure functions.   Memory: what argon2id asks for, else none.
 * Time:   checking is slow on purpose: 0.45 us for each iteration of $7$.
 */
#ifndef MR_AUTH_PASSHASH_H
#define MR_AUTH_PASSHASH_H

#include "base/span.h"

enum {
    MR_PASSHASH_SALT_MAX = 64,
    MR_PASSHASH_BYTES_MAX = 64,
    MR_PASSHASH_TEXT_MAX = 256, /* of what make() writes, NUL included */
    MR_PASSHASH_ITERATIONS = 10000,
    MR_PASSHASH_ITERATIONS_MAX = 10000000,
};

enum mr_passhash_kind { MR_PASSHASH_PBKDF2 = 7, MR_PASSHASH_SHA512 = 6, MR_PASSHASH_ARGON2ID = 2 };

struct mr_passhash {
    uint32_t kind;       /* enum mr_passhash_kind */
    uint32_t iterations; /* of argon2id: passes */
    uint32_t memory_kib; /* argon2id */
    uint32_t lanes;      /* argon2id */
    uint32_t salt_len;
    uint32_t hash_len;
    uint8_t salt[MR_PASSHASH_SALT_MAX];
    uint8_t hash[MR_PASSHASH_BYTES_MAX];
};

/* REJECT: not one of the three, or one that this machine's OpenSSL cannot check;
 * *fault says why, and is a string of its own.
 */
enum mr_err mr_passhash_parse(struct mr_span text, struct mr_passhash *out,
                              const char **fault) MR_MUST_USE;

/* Is it the password?  Takes its time, and the same for yes and no. */
bool mr_passhash_verify(const struct mr_passhash *hash, struct mr_span password) MR_MUST_USE;

/* How long verify() takes, to compare two of them; no unit. */
uint64_t mr_passhash_cost(const struct mr_passhash *hash);

/* "$7$..." of a password, with these 12 random bytes as salt. */
enum { MR_PASSHASH_SALT_BYTES = 12 };
void mr_passhash_make(struct mr_span password, uint32_t iterations,
                      const uint8_t salt[MR_PASSHASH_SALT_BYTES], char out[MR_PASSHASH_TEXT_MAX]);

/* Overwrite what should not stay in memory, in a way no compiler leaves out. */
void mr_secret_wipe(void *at, size_t len);

#endif
