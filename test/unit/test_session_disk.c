/* test_session_disk.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a session store whose disk fails for a while costs nobody a message: what is owed and
 *         has left memory comes when the store can be read, and nothing is settled before.  A
 *         clean stop does not wait for such a disk: the journal has what the store lacks.
 * Method: a real broker, journal and LMDB; writes to the store's file fail while a switch says
 *         so, the last one of a transaction too, by which LMDB gives up its environment.
 */
#include "broker_peer.h"
#include "fd_path.h"

#include <errno.h>
#include <sys/syscall.h>

enum { MESSAGES = 12 };

static _Atomic bool store_fails;
static _Atomic uint32_t store_writes;

/* ---- the disk: LMDB finds these before those of the C library ---- */

static bool is_store(int fd)
{
    char name[FD_PATH_BYTES];

    fd_path(fd, name);
    return strlen(name) > 8 && strcmp(name + strlen(name) - 8, "data.mdb") == 0;
}

static bool write_fails(int fd)
{
    if (!is_store(fd)) {
        return false;
    }
    atomic_fetch_add(&store_writes, 1);
    return atomic_load(&store_fails);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (write_fails(fd)) {
        /* Data go through and the meta page does not, of which there are two. */
        if (at < 8192) {
            errno = EIO;
            return -1;
        }
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

/* ---- the test ---- */

static void tell(struct peer *pub, int i)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%d", i);
    peer_publish(pub, "d", text, 1, 1);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

/* The store has been written since `before`, or that was tried. */
static void wait_for_write(struct peer *pub, uint32_t before)
{
    int64_t deadline = kit_deadline();

    while (atomic_load(&store_writes) == before) {
        peer_quiet(pub);
        kit_patience(deadline, "a checkpoint");
    }
}

static void expect_all(struct peer *sub, int count)
{
    struct mr_mqtt_publish got;
    char text[16];

    for (int i = 0; i < count; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        peer_expect_publish(sub, "d", text, 1, &got);
    }
    peer_quiet(sub);
}

static void test_disk_that_fails_for_a_while(void)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("d"), .qos = 1};
    struct kit kit;
    struct peer sub;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1});
    peer_join_kept(&sub, &kit, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_close(&sub);
    peer_join(&pub, &kit, "pub", 5);
    for (int i = 0; i < MESSAGES; i++) {
        uint32_t before = atomic_load(&store_writes);
        tell(&pub, i);
        wait_for_write(&pub, before); /* those before it are nowhere else now */
    }
    atomic_store(&store_fails, true);
    for (int i = MESSAGES; i < MESSAGES + 3; i++) {
        tell(&pub, i);
    }
    for (int i = 0; i < 2; i++) { /* the second time LMDB refuses, unless it was opened again */
        wait_for_write(&pub, atomic_load(&store_writes));
    }
    peer_join_kept(&sub, &kit, true);
    expect_all(&sub, MESSAGES + 3);
    peer_close(&sub);
    atomic_store(&store_fails, false);
    wait_for_write(&pub, atomic_load(&store_writes));
    tell(&pub, MESSAGES + 3);
    peer_close(&pub);
    kit_crash(&kit);
    peer_join_kept(&sub, &kit, true);
    expect_all(&sub, MESSAGES + 4);
    peer_close(&sub);
    kit_close(&kit);
}

/* The first that the store hears of what there is, is at the stop, and then its disk fails. */
static void test_stop_with_a_disk_that_fails(void)
{
    enum { SECONDS_MOST = 2 * KIT_PATIENCE_S }; /* of a stop that may take 5 s */
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("d"), .qos = 1};
    struct kit kit;
    struct peer sub;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 3600000});
    peer_join_kept(&sub, &kit, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_close(&sub);
    peer_join(&pub, &kit, "pub", 5);
    for (int i = 0; i < MESSAGES; i++) {
        tell(&pub, i);
    }
    peer_close(&pub);
    uint32_t before = atomic_load(&store_writes);
    atomic_store(&store_fails, true);
    (void)alarm(SECONDS_MOST);
    kit_end(&kit, 5000000000);
    (void)alarm(0);
    mr_assert(atomic_load(&store_writes) != before);
    atomic_store(&store_fails, false);
    kit_begin(&kit);
    peer_join_kept(&sub, &kit, true);
    expect_all(&sub, MESSAGES);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_disk_that_fails_for_a_while();
    test_stop_with_a_disk_that_fails();
    return 0;
}
