/* turns.c - an operator's command and a reload both work on bridges: one after the other.
 *
 * DESIGN
 *
 * A command may wait for as long as a disk is full, and needs its bridge all that time; a reload
 * takes bridges away.  So who works on them takes the turn first.  The main thread must see
 * signals meanwhile, so it never waits for the turn: a reload that cannot have it now is made
 * when the command has ended, which rings the main thread.  No other command begins before.
 *
 * At the end there are no turns any more: a command that waits for one is refused.
 *
 * Rejected: a mutex.  The main thread would wait for the disk with it, and SIGTERM for the main
 * thread.
 */
#include "app/gateway_internal.h"

enum mr_err mr_turns_open(struct gateway *gateway, struct mr_error *why)
{
    return mr_wake_open(&gateway->turns.free, why);
}

void mr_turns_close(struct gateway *gateway)
{
    mr_wake_close(&gateway->turns.free);
}

bool mr_turn_command(struct gateway *gateway)
{
    bool taken = false;

    while (!taken && !atomic_load(&gateway->stopping)) {
        mr_mutex_lock(&gateway->mutex);
        taken = !gateway->turns.taken && !gateway->turns.reload_waits;
        gateway->turns.taken = gateway->turns.taken || taken;
        mr_mutex_unlock(&gateway->mutex);
        if (!taken) {
            (void)mr_wake_wait(&gateway->turns.free, -1);
        }
    }
    return taken;
}

bool mr_turn_reload(struct gateway *gateway)
{
    mr_mutex_lock(&gateway->mutex);
    bool taken = !gateway->turns.taken;
    gateway->turns.taken = true;
    gateway->turns.reload_waits = !taken;
    mr_mutex_unlock(&gateway->mutex);
    return taken;
}

void mr_turn_over(struct gateway *gateway)
{
    mr_mutex_lock(&gateway->mutex);
    gateway->turns.taken = false;
    mr_mutex_unlock(&gateway->mutex);
    mr_wake_ring(&gateway->turns.free);
    mr_wake_ring(&gateway->wake);
}

void mr_turns_end(struct gateway *gateway)
{
    atomic_store(&gateway->stopping, true);
    mr_wake_ring(&gateway->turns.free);
}
