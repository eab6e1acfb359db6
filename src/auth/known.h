/* known.h - logins that were verified a short while ago.
 *
 * What is kept of each is a mark of 128 bits, an HMAC that the asker makes over everything that
 * the answer depended on; see auth.h.
 *
 * Thread: the owner's lock.   Memory: 1.5 MiB.   Time: a look ~50 ns.
 */
#ifndef MR_AUTH_KNOWN_H
#define MR_AUTH_KNOWN_H

#include "base/base.h"

enum { KNOWN_SLOTS = 65536, KNOWN_WAYS = 4, KNOWN_BYTES = 16 };

struct known {
    uint8_t mark[KNOWN_BYTES];
    uint32_t until_s; /* 0: none */
};

struct knowns {
    struct known table[KNOWN_SLOTS];
};

bool known_has(const struct knowns *knowns, const uint8_t mark[KNOWN_BYTES]);

/* For so many seconds, if nothing more important needs the place. */
void known_add(struct knowns *knowns, const uint8_t mark[KNOWN_BYTES], uint32_t seconds);

void known_forget_all(struct knowns *knowns);

#endif
