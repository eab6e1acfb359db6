/* guess.h - addresses that fail to say the right password, and how long they wait.
 *
 * A level per address: up by one with each failure, down by one with each success and
 * every few seconds.  Above GUESS_FREE the address waits, twice as long with each level.
 *
 * The table is fixed; an address nobody has heard of for longest makes room.  Whoever has
 * as many addresses as it has places is slowed by the cost of the hashes alone.
 *
 * Thread: the owner's lock.   Memory: 96 KiB.   Time: ns since any start.
 */
#ifndef MR_AUTH_GUESS_H
#define MR_AUTH_GUESS_H

#include "base/base.h"

enum {
    GUESS_WAYS = 4,
    GUESS_SETS = 1024,
    GUESS_FREE = 20,        /* failures nobody is slowed for: typing, old configuration */
    GUESS_LEVEL_MAX = 60,   /* four minutes of good behaviour until all is forgotten */
    GUESS_FORGET_MS = 6000, /* one level */
    GUESS_DELAY_MS = 250,   /* at the first level above GUESS_FREE */
    GUESS_DELAY_MS_MAX = 4000,
    GUESS_OPEN_MAX = 32, /* questions of one slowed address at a time */
};

struct guess {
    uint64_t address;
    int64_t since_ns; /* up to here the level has been lowered */
    uint32_t level;
    uint32_t open; /* delayed questions */
};

struct guesses {
    struct guess table[GUESS_SETS][GUESS_WAYS];
};

/* How long this address has to wait: 0, or ms. */
uint32_t guess_delay_ms(struct guesses *guesses, uint64_t address, int64_t now_ns);

/* One more delayed question; false: it has too many.  close() when it is answered. */
bool guess_open(struct guesses *guesses, uint64_t address, int64_t now_ns);
void guess_close(struct guesses *guesses, uint64_t address);

void guess_failed(struct guesses *guesses, uint64_t address, int64_t now_ns);
void guess_succeeded(struct guesses *guesses, uint64_t address, int64_t now_ns);

#endif
