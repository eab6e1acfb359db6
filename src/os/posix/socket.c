/* socket.c - TCP sockets; see loop.h for the contract. */
#include "os/loop.h"
#include "os/posix/posix_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG_DEFAULT = 4096, /* a whole site reconnects at once after a power cut */
    HOST_MAX = 254,         /* a DNS name and its NUL */
    PORT_MAX = 6,           /* five digits and a NUL */
    KEEPALIVE_PROBES = 5,   /* without an answer: half the idle time again */
};

struct host_port {
    char host[HOST_MAX];
    char port[PORT_MAX];
};

/* "host:port", "[v6]:port".  False: it is neither. */
static bool address_split(const char *address, struct host_port *out)
{
    const char *host = address;
    const char *colon = strrchr(address, ':');

    if (colon == NULL) {
        return false;
    }
    size_t host_len = (size_t)(colon - address);
    if (address[0] == '[') {
        if (host_len < 3 || address[host_len - 1] != ']') {
            return false;
        }
        host += 1;
        host_len -= 2;
    } else if (memchr(host, ':', host_len) != NULL) {
        return false; /* a v6 address without brackets: where does the port begin? */
    }

    const char *port = colon + 1;
    size_t port_len = strlen(port);
    if (host_len == 0 || host_len >= HOST_MAX || port_len == 0 || port_len >= PORT_MAX ||
        strspn(port, "0123456789") != port_len) {
        return false;
    }
    memcpy(out->host, host, host_len);
    out->host[host_len] = '\0';
    memcpy(out->port, port, port_len + 1);
    return true;
}

/* Resolve; on MR_OK the caller frees *out with freeaddrinfo(). */
static enum mr_err address_resolve(const char *address, int flags, struct addrinfo **out,
                                   struct mr_error *why)
{
    struct host_port parts;
    struct addrinfo hints = {
        .ai_flags = flags | AI_NUMERICSERV,
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
    };

    if (!address_split(address, &parts)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "'%s' is no address; write host:port, for example 0.0.0.0:1883 or "
                            "[::1]:1883, or unix:/path",
                            address);
    }
    if (strlen(parts.port) == 5 && strcmp(parts.port, "65535") > 0) {
        return mr_error_set(why, MR_ERR_CONFIG, "'%s': the highest port is 65535", address);
    }
    int failed = getaddrinfo(parts.host, parts.port, &hints, out);
    if (failed != 0) {
        return mr_error_set(why, failed == EAI_AGAIN ? MR_ERR_AGAIN : MR_ERR_CONFIG,
                            "cannot find the address of '%s': %s; check the name, or give the "
                            "number",
                            parts.host,
                            failed == EAI_SYSTEM ? posix_cause(errno) : gai_strerror(failed));
    }
    return MR_OK;
}

static void address_format(const struct sockaddr_storage *from, struct mr_address *out)
{
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)from;
        mr_address_of((const uint8_t *)&v4->sin_addr, 4, ntohs(v4->sin_port), out);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)from;
        mr_address_of((const uint8_t *)&v6->sin6_addr, 16, ntohs(v6->sin6_port), out);
    } else {
        (void)snprintf(out->text, sizeof(out->text), "?");
    }
}

/* What to do about a failed listen, by its cause. */
static const char *listen_hint(int errnum)
{
    switch (errnum) {
    case EADDRINUSE:
        return "; is another broker running? `ss -ltnp` shows who has it";
    case EACCES:
        return "; ports below 1024 need CAP_NET_BIND_SERVICE";
    case EADDRNOTAVAIL:
        return "; this machine has no such address, `ip address` lists them";
    case EAFNOSUPPORT:
        return "; this machine has no IPv6, bind to a v4 address such as 0.0.0.0";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files (ulimit -n)";
    default:
        return "";
    }
}

static int backlog_of(const struct mr_listen_options *options)
{
    return options->backlog > 0 ? options->backlog : BACKLOG_DEFAULT;
}

static bool socket_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

static void socket_no_delay(int fd)
{
    /* An acknowledgement is small and must not wait for the peer's next ACK. */
    (void)socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* A device that loses its power says nothing, and with MQTT's keep alive 0 only the
 * kernel can find out.
 */
static void socket_probe_idle(int fd, uint32_t keepalive_s)
{
    (void)socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (keepalive_s != 0) {
        int interval_s = (int)keepalive_s / (2 * KEEPALIVE_PROBES);
        (void)socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)keepalive_s);
        (void)socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s > 0 ? interval_s : 1);
        (void)socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    }
}

/* Bind and listen; an errno, 0 if it worked.  What is set here the accepted ones inherit. */
static int socket_listen_on(int fd, const struct addrinfo *target,
                            const struct mr_listen_options *options)
{
    socket_no_delay(fd);
    socket_probe_idle(fd, options->keepalive_s);
    if (target->ai_family == AF_INET6) {
        /* [::] means everybody, whatever net.ipv6.bindv6only says. */
        (void)socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    /* REUSEADDR: a restart must not wait for connections in TIME_WAIT. */
    if (!socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) ||
        (options->reuse_port && !socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1)) ||
        bind(fd, target->ai_addr, target->ai_addrlen) != 0 ||
        listen(fd, backlog_of(options)) != 0) {
        return errno;
    }
    return 0;
}

const char *posix_unix_path(const char *address)
{
    return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

bool mr_address_is_unix(const char *address)
{
    return posix_unix_path(address) != NULL;
}

enum mr_err mr_socket_listen(const char *address, const struct mr_listen_options *options, int *fd,
                             struct mr_address *bound, struct mr_error *why)
{
    struct addrinfo *target = NULL;

    if (mr_address_is_unix(address)) {
        if (bound != NULL && bound->text != address) {
            (void)snprintf(bound->text, sizeof(bound->text), "%s", address);
        }
        return posix_unix_listen(address, options->mode, backlog_of(options), fd, why);
    }
    if (address_resolve(address, AI_PASSIVE, &target, why) != MR_OK) {
        return MR_ERR_CONFIG; /* a listener's own name must resolve now, not later */
    }
    mr_assert(target != NULL);
    int listener = socket(target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int errnum = listener < 0 ? errno : socket_listen_on(listener, target, options);
    freeaddrinfo(target);
    if (errnum != 0) {
        mr_socket_close(listener);
        return mr_error_set(why, MR_ERR_CONFIG, "cannot listen on %s: %s%s", address,
                            posix_cause(errnum), listen_hint(errnum));
    }

    if (bound != NULL) {
        struct sockaddr_storage name = {0};
        socklen_t name_len = sizeof(name);
        (void)getsockname(listener, (struct sockaddr *)&name, &name_len);
        address_format(&name, bound);
    }
    *fd = listener;
    return MR_OK;
}

enum mr_err mr_socket_share(int listener, int *fd, struct mr_error *why)
{
    int same = fcntl(listener, F_DUPFD_CLOEXEC, 0);

    if (same < 0) {
        return mr_error_set(why, MR_ERR_CONFIG, "cannot share a listener: %s%s", posix_cause(errno),
                            listen_hint(errno));
    }
    *fd = same;
    return MR_OK;
}

enum mr_err mr_socket_accept(int listener, int *fd, struct mr_address *peer)
{
    struct sockaddr_storage name = {0};

    for (;;) {
        socklen_t name_len = sizeof(name);
        int accepted =
            accept4(listener, (struct sockaddr *)&name, &name_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            if (peer != NULL && name.ss_family == AF_UNIX) {
                posix_unix_peer(accepted, peer);
            } else if (peer != NULL) {
                address_format(&name, peer);
            }
            *fd = accepted;
            return MR_OK;
        }

        switch (errno) {
        case EAGAIN:
            return MR_ERR_AGAIN;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return MR_ERR_FULL;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
        case EFAULT:
            return MR_ERR_IO;
        default:
            /* Linux hands a waiting connection's own error over here (accept(2),
             * "Error handling"); that connection is gone, the next one may be well.
             */
            break;
        }
    }
}

enum mr_err mr_socket_connect(const char *address, int *fd, struct mr_error *why)
{
    struct addrinfo *target = NULL;
    enum mr_err err = address_resolve(address, 0, &target, why);

    if (err != MR_OK) {
        return err;
    }
    mr_assert(target != NULL);
    int opened = socket(target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int errnum = opened < 0 ? errno : 0;
    if (opened >= 0) {
        socket_no_delay(opened);
        if (connect(opened, target->ai_addr, target->ai_addrlen) != 0 && errno != EINPROGRESS) {
            errnum = errno;
        }
    }
    freeaddrinfo(target);
    if (errnum != 0) {
        bool ours = errnum == EMFILE || errnum == ENFILE;
        mr_socket_close(opened);
        return mr_error_set(why, ours ? MR_ERR_FULL : MR_ERR_AGAIN, "cannot connect to %s: %s",
                            address, posix_cause(errnum));
    }
    *fd = opened;
    return MR_OK;
}

enum mr_err mr_socket_connected(int fd, struct mr_error *why)
{
    int errnum = 0;
    socklen_t len = sizeof(errnum);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &errnum, &len) != 0) {
        errnum = errno;
    }
    if (errnum != 0) {
        return mr_error_set(why, MR_ERR_AGAIN, "cannot connect: %s", posix_cause(errnum));
    }
    return MR_OK;
}

static enum mr_err socket_receive(int fd, void *into, size_t len, int flags, size_t *got)
{
    for (;;) {
        ssize_t done = recv(fd, into, len, flags);
        if (done >= 0) {
            *got = (size_t)done;
            return MR_OK;
        }
        *got = 0;
        if (errno == EAGAIN) {
            return MR_ERR_AGAIN;
        }
        if (errno != EINTR) {
            return MR_ERR_IO;
        }
    }
}

enum mr_err mr_socket_read(int fd, void *into, size_t len, size_t *got)
{
    return socket_receive(fd, into, len, 0, got);
}

enum mr_err mr_socket_peek(int fd, void *into, size_t len, size_t *got)
{
    return socket_receive(fd, into, len, MSG_PEEK, got);
}

enum mr_err mr_socket_write(int fd, const void *from, size_t len, size_t *sent)
{
    for (;;) {
        ssize_t done = send(fd, from, len, MSG_NOSIGNAL);
        if (done >= 0) {
            *sent = (size_t)done;
            return MR_OK;
        }
        *sent = 0;
        if (errno == EAGAIN) {
            return MR_OK;
        }
        if (errno != EINTR) {
            return MR_ERR_IO;
        }
    }
}

void mr_socket_shutdown(int fd)
{
    (void)shutdown(fd, SHUT_WR); /* a peer that is gone already is fine */
}

void mr_socket_close(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}
