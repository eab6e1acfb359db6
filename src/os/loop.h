/* loop.h - wait for many sockets at once, and talk to them.
 *
 * One loop per shard thread.  The loop hands out what happened as an array of
 * events; it calls nothing, so the owner decides the order of work (acks before
 * reads, reads before accepts).
 *
 * What a turn has to send leaves in one piece (mr_loop_send), so that the kernel can be given all
 * of it at once.
 *
 * Sockets are non-blocking descriptors.  Two implementations: os/posix (epoll)
 * and os/sim (in-memory streams with delay, split, loss of connection).
 *
 * Thread: a loop and its sockets belong to one thread; wake (thread.h) is how
 *         others reach it.
 * Memory: 16 bytes an event; the kernel's per socket; 24 KiB of the kernel's for io_uring.
 * Time:   waits are relative, nanoseconds.
 */
#ifndef MR_OS_LOOP_H
#define MR_OS_LOOP_H

#include "base/span.h"
#include "os/thread.h"

struct mr_loop;

enum {
    MR_READY_READ = 1,  /* bytes, end of stream, or a connection to accept */
    MR_READY_WRITE = 2, /* room in the send buffer again */
    MR_READY_GONE = 4,  /* reset or error: close it */
    MR_READY_EDGE = 8,  /* for add and change only: see mr_loop_add() */
    MR_READY_END = 16,  /* with READ: the peer has closed; it comes after what is unread */
};

struct mr_ready {
    uint64_t tag;  /* as given to add() */
    uint32_t what; /* MR_READY_* */
};

enum mr_err mr_loop_open(struct mr_loop **out, struct mr_error *why) MR_MUST_USE;
void mr_loop_close(struct mr_loop *loop);

/* Watch `fd`, level-triggered, for `what`; `tag` comes back with each event.
 * MR_ERR_FULL: the kernel's limits (watches, memory).  The tag UINT64_MAX is
 * the loop's own.  `what` may be 0: then only MR_READY_GONE is reported.
 *
 * With MR_READY_EDGE what has been reported may not be reported again until
 * something new happens.  Whoever did not empty the socket (a read that gave all
 * it was asked for, or MR_READY_END) calls change(), which reports anew.  It saves
 * the kernel a second look at every socket of a turn.
 */
enum mr_err mr_loop_add(struct mr_loop *loop, int fd, uint32_t what, uint64_t tag) MR_MUST_USE;
void mr_loop_change(struct mr_loop *loop, int fd, uint32_t what, uint64_t tag);
void mr_loop_remove(struct mr_loop *loop, int fd);

/* Up to `max` (and at most 256) events, waiting at most `timeout_ns` (0: not at
 * all, -1: for ever).  `wake`, if not NULL, ends the wait too; it is emptied,
 * and *woken says that it rang.  Pass the same wake each time: it is registered
 * once, and must stay open as long as the loop is waited on.  `woken` may be
 * NULL if `wake` is.  May return 0 before the time is over (a signal).
 */
size_t mr_loop_wait(struct mr_loop *loop, struct mr_ready *events, size_t max, int64_t timeout_ns,
                    struct mr_wake *wake, bool *woken);

/* ---- sockets ---- */

struct mr_address {
    char text[128]; /* "127.0.0.1:1883", "[::1]:1883", "unix:/run/x", of a peer "unix/UID:PID" */
};

/* The text of an address of 4 or 16 bytes, in network order; a v4 address in v6 as v4. */
void mr_address_of(const uint8_t *bytes, size_t len, uint16_t port, struct mr_address *out);

/* The `len` (4 or 16) bytes of a numeric address.  False: it is none. */
bool mr_address_parse(struct mr_span text, size_t len, uint8_t *into) MR_MUST_USE;

struct mr_listen_options {
    bool reuse_port;      /* several shards accept on the same address */
    int backlog;          /* connections that may wait for accept; 0: 4096 */
    uint32_t keepalive_s; /* of silence, then the kernel asks whether the peer lives; 0: its own */
    uint32_t mode;        /* of a Unix socket's file; 0: 0660 */
};

/* Listen on `address` ("host:port", "[v6]:port"; port 0 = any free one, then *bound says
 * which).  "[::]:port" takes v4 connections too.  "unix:/path" is a socket in the file
 * system; one that nobody listens on any more is replaced.  MR_ERR_CONFIG with a sentence: in
 * use, not permitted, no such host.
 */
enum mr_err mr_socket_listen(const char *address, const struct mr_listen_options *options, int *fd,
                             struct mr_address *bound, struct mr_error *why) MR_MUST_USE;

bool mr_address_is_unix(const char *address);

/* Another descriptor of the same listener, for another loop. */
enum mr_err mr_socket_share(int listener, int *fd, struct mr_error *why) MR_MUST_USE;

/* Remove the file of a Unix socket that is not listened on any more; nothing for others. */
void mr_socket_unlink(const char *address);

/* Accept one connection (non-blocking, TCP_NODELAY).  MR_ERR_AGAIN: none now;
 * MR_ERR_FULL: out of descriptors or memory, try later.  `peer` may be NULL.
 */
enum mr_err mr_socket_accept(int listener, int *fd, struct mr_address *peer) MR_MUST_USE;

/* Begin to connect; MR_READY_WRITE says when, mr_socket_connected() how. */
enum mr_err mr_socket_connect(const char *address, int *fd, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_socket_connected(int fd, struct mr_error *why) MR_MUST_USE;

/* `len` > 0.  *got == 0 with MR_OK: the peer closed.  MR_ERR_AGAIN: nothing now.
 * MR_ERR_IO: the connection is broken.
 */
enum mr_err mr_socket_read(int fd, void *into, size_t len, size_t *got) MR_MUST_USE;

/* The same, and the bytes stay where they are. */
enum mr_err mr_socket_peek(int fd, void *into, size_t len, size_t *got) MR_MUST_USE;

/* Sends as much as fits: *sent may be less than `len`, and is 0 with MR_OK when
 * there is no room at all; wait for MR_READY_WRITE.  MR_ERR_IO: broken.
 */
enum mr_err mr_socket_write(int fd, const void *from, size_t len, size_t *sent) MR_MUST_USE;

/* Bytes for one socket, and what became of them. */
struct mr_send {
    const void *at;
    int fd;
    uint32_t len;    /* > 0 */
    uint32_t sent;   /* set: less than `len` if there was no room for more */
    enum mr_err err; /* set: MR_ERR_IO, the connection is broken */
};

/* mr_socket_write() for each of them, in their order; nothing of it is still to come when it
 * returns.  A socket that has little room takes the beginning of what it is given, so each
 * belongs in one place only.
 */
void mr_loop_send(struct mr_loop *loop, struct mr_send *sends, size_t count);

/* Whether an owner asks for the following; what configuration says. */
enum mr_loop_choice { MR_LOOP_EPOLL, MR_LOOP_AUTO, MR_LOOP_IO_URING };

/* From now on give the kernel all of them in one call, by io_uring; the result is the same.
 * CONFIG: this kernel has none, or does not let us; `why` says which, and each send remains a
 * call.
 */
enum mr_err mr_loop_batch_sends(struct mr_loop *loop, struct mr_error *why) MR_MUST_USE;

/* End our direction, so that the peer still gets what was sent. */
void mr_socket_shutdown(int fd);
void mr_socket_close(int fd);

#endif
