/* turns.c - an operator's command and a reload both work on bridges: one after the other.
 *
 * DESIGN
 *
 * A command may wait for as long as a disk is full, and needs its bridge all that time; a reload
 * takes bridges away.  So who works on them takes the turn first.  The main thread must see
 * signals meanwhile, so it never waits for the turn: a reload that cannot have it now is made
 * when the command has ended, which rings the main thread.  No other command begins before.
 *
 * Who only asks a bridge for something needs it to stay for a moment.  That is a look: beside
 * commands, not beside a reload.  While a reload waits for a command looks go on; once it waits
 * for a look alone no other begins, so that it has its turn, however many ask.
 *
 * At the end there are no turns any more: who waits for one, or for a look, is refused.
 *
 * Rejected: a mutex.  The main thread would wait for the disk with it, and SIGTERM for the main
 * thread.
 */
#include "app/gateway_internal.h"

enum mr_err mr_turns_open(struct gateway *gateway, struct mr_error *why)
{
    enum mr_err err = mr_wake_open(&gateway->turns.command, why);

    if (err != MR_OK) {
        return err;
    }
    err = mr_wake_open(&gateway->turns.look, why);
    if (err != MR_OK) {
        mr_wake_close(&gateway->turns.command);
    }
    return err;
}

void mr_turns_close(struct gateway *gateway)
{
    mr_wake_close(&gateway->turns.command);
    mr_wake_close(&gateway->turns.look);
}

static void ring_all(struct gateway *gateway)
{
    mr_wake_ring(&gateway->turns.command);
    mr_wake_ring(&gateway->turns.look);
    mr_wake_ring(&gateway->wake);
}

bool mr_turn_command(struct gateway *gateway)
{
    bool taken = false;

    while (!taken && !atomic_load(&gateway->stopping)) {
        mr_mutex_lock(&gateway->mutex);
        taken = gateway->turns.of == TURN_OF_NOBODY && !gateway->turns.reload_waits;
        gateway->turns.of = taken ? TURN_OF_COMMAND : gateway->turns.of;
        mr_mutex_unlock(&gateway->mutex);
        if (!taken) {
            (void)mr_wake_wait(&gateway->turns.command, -1);
        }
    }
    return taken;
}

bool mr_turn_look(struct gateway *gateway)
{
    bool looks = false;

    while (!looks && !atomic_load(&gateway->stopping)) {
        mr_mutex_lock(&gateway->mutex);
        looks = gateway->turns.of == TURN_OF_COMMAND ||
                (gateway->turns.of == TURN_OF_NOBODY && !gateway->turns.reload_waits);
        gateway->turns.looks = looks;
        mr_mutex_unlock(&gateway->mutex);
        if (!looks) {
            (void)mr_wake_wait(&gateway->turns.look, -1);
        }
    }
    return looks;
}

bool mr_turn_reload(struct gateway *gateway)
{
    mr_mutex_lock(&gateway->mutex);
    bool taken = gateway->turns.of == TURN_OF_NOBODY && !gateway->turns.looks;
    gateway->turns.of = taken ? TURN_OF_RELOAD : gateway->turns.of;
    gateway->turns.reload_waits = !taken;
    mr_mutex_unlock(&gateway->mutex);
    return taken;
}

void mr_turn_over(struct gateway *gateway)
{
    mr_mutex_lock(&gateway->mutex);
    gateway->turns.of = TURN_OF_NOBODY;
    mr_mutex_unlock(&gateway->mutex);
    ring_all(gateway);
}

void mr_turn_looked(struct gateway *gateway)
{
    mr_mutex_lock(&gateway->mutex);
    gateway->turns.looks = false;
    mr_mutex_unlock(&gateway->mutex);
    mr_wake_ring(&gateway->wake);
}

void mr_turns_end(struct gateway *gateway)
{
    atomic_store(&gateway->stopping, true);
    ring_all(gateway);
}
