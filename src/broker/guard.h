/* guard.h - who has to stay outside for a while.
 *
 *     accept ─▶ mr_guard_knock()  ── SHUT: close it   REFUSE: tell it so at its CONNECT
 *     CONNECT ─▶ mr_guard_bans_address(), mr_guard_bans_client()
 *     outcome ─▶ mr_guard_failed() | mr_guard_succeeded(), mr_guard_client_left()
 *
 * ADDRESSES (of v6 the network of 64 bits) have a level: up by one with each failure, down
 * by one with each success and every few seconds.  At `max_failures` the address is banned
 * for `time`, the next time twice as long, up to `max_time`.  Whoever is connected stays.
 *
 * CLIENT IDS that connect and leave again and again within `window_time` are banned for
 * `ban_time`, as EMQX's flapping_detect does.
 *
 * Two fixed tables: whoever was heard of longest ago makes room, and banned ones last.
 * While nobody has failed, nobody pays more than a look at an atomic number.
 *
 * Thread: any; one mutex, held for some 100 ns.   Memory: 1 MiB, touched as it is used.
 * Time:   ns of the monotonic clock.
 */
#ifndef MR_BROKER_GUARD_H
#define MR_BROKER_GUARD_H

#include "base/span.h"

struct mr_guard;

struct mr_ban_conf {
    uint64_t max_failures; /* 0: no address is banned */
    uint64_t time_us;
    uint64_t max_time_us;
    bool loopback; /* addresses of this machine too */
};

struct mr_flapping_conf {
    bool enable;
    uint64_t max_count;
    uint64_t window_time_us;
    uint64_t ban_time_us;
};

enum mr_guard_says { MR_GUARD_GO, MR_GUARD_REFUSE, MR_GUARD_SHUT };

struct mr_guard *mr_guard_open(void);
void mr_guard_close(struct mr_guard *guard); /* NULL is allowed */

/* From now on.  Bans that there are stay. */
void mr_guard_set(struct mr_guard *guard, const struct mr_ban_conf *ban,
                  const struct mr_flapping_conf *flapping);

/* One more connection from "10.0.0.7:51812" or "[2001:db8::7]:51812"; `rate` of them a second
 * are allowed, 0: any number.  SHUT: it is banned and comes too often to be answered.
 */
enum mr_guard_says mr_guard_knock(struct mr_guard *guard, const char *peer, uint32_t rate,
                                  int64_t now_ns);

bool mr_guard_bans_address(struct mr_guard *guard, const char *peer, int64_t now_ns);
bool mr_guard_bans_client(struct mr_guard *guard, struct mr_span client_id, int64_t now_ns);

/* How an attempt to connect has ended.  Seconds of the ban that has begun with it, or 0. */
uint32_t mr_guard_failed(struct mr_guard *guard, const char *peer, int64_t now_ns);
void mr_guard_succeeded(struct mr_guard *guard, const char *peer, int64_t now_ns);

/* Its connection has ended.  Seconds of the ban that has begun with it, or 0. */
uint32_t mr_guard_client_left(struct mr_guard *guard, struct mr_span client_id, int64_t now_ns);

/* One who is banned.  Borrowed for the call. */
struct mr_ban_info {
    struct mr_span who; /* an address, or the first bytes of a client id */
    int64_t left_ns;
    uint32_t times; /* so many bans so far */
    bool is_client; /* a client id */
};

/* Show them, under the mutex. */
void mr_guard_each(struct mr_guard *guard, int64_t now_ns,
                   void (*each)(void *arg, const struct mr_ban_info *info), void *arg);

/* Let `who` in again, as mr_guard_each() names it; at NULL everyone.  How many that were. */
uint64_t mr_guard_clear(struct mr_guard *guard, struct mr_span who, int64_t now_ns);

#endif
