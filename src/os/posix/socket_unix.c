/* socket_unix.c - listeners in the file system; see loop.h for the contract.
 *
 * A socket file outlives whoever made it, so a gateway that was killed leaves one behind and
 * bind() refuses its name.  Whether somebody listens there is found out by calling: nobody
 * answers at a stale one.
 */
#include "os/posix/posix_internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MODE_DEFAULT = 0660 };

static const char *unix_hint(int errnum)
{
    switch (errnum) {
    case EADDRINUSE:
        return "; something else has this name: another gateway that runs, or a file that is no "
               "socket; `ss -lxp` shows who listens";
    case EACCES:
    case EPERM:
        return "; the gateway's user must be able to write the folder";
    case ENOENT:
    case ENOTDIR:
        return "; make the folder first (RuntimeDirectory= of systemd does)";
    case EROFS:
        return "; choose a folder below /run";
    default:
        return "";
    }
}

/* Take away the socket file of a gateway that is no more. */
static bool stale_remove(const struct sockaddr_un *name)
{
    struct stat found;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return false;
    }
    bool nobody = connect(fd, (const struct sockaddr *)name, sizeof(*name)) != 0 &&
                  errno == ECONNREFUSED && lstat(name->sun_path, &found) == 0 &&
                  S_ISSOCK(found.st_mode);
    (void)close(fd);
    return nobody && unlink(name->sun_path) == 0;
}

/* An errno, 0 if it worked.  Nobody can connect before listen(), so not before chmod(). */
static int unix_listen_on(int fd, const struct sockaddr_un *name, uint32_t mode, int backlog)
{
    const struct sockaddr *address = (const struct sockaddr *)name;

    if (bind(fd, address, sizeof(*name)) != 0) {
        int errnum = errno;
        if (errnum != EADDRINUSE || !stale_remove(name)) {
            return errnum;
        }
        if (bind(fd, address, sizeof(*name)) != 0) {
            return errno;
        }
    }
    if (chmod(name->sun_path, mode == 0 ? MODE_DEFAULT : (mode_t)mode) != 0 ||
        listen(fd, backlog) != 0) {
        int errnum = errno;
        (void)unlink(name->sun_path);
        return errnum;
    }
    return 0;
}

enum mr_err posix_unix_listen(const char *address, uint32_t mode, int backlog, int *fd,
                              struct mr_error *why)
{
    const char *path = posix_unix_path(address);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(name.sun_path)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "'%s' cannot be a Unix socket: its path must have 1 to %zu characters",
                            address, sizeof(name.sun_path) - 1);
    }
    memcpy(name.sun_path, path, len);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int errnum = listener < 0 ? errno : unix_listen_on(listener, &name, mode, backlog);
    if (errnum != 0) {
        mr_socket_close(listener);
        return mr_error_set(why, MR_ERR_CONFIG, "cannot listen on %s: %s%s", address,
                            posix_cause(errnum), unix_hint(errnum));
    }
    *fd = listener;
    return MR_OK;
}

void posix_unix_peer(int fd, struct mr_address *out)
{
    struct ucred who = {0};
    socklen_t len = sizeof(who);

    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    (void)snprintf(out->text, sizeof(out->text), "unix/%u:%d", who.uid, who.pid);
}

void mr_socket_unlink(const char *address)
{
    const char *path = posix_unix_path(address);

    if (path != NULL) {
        (void)unlink(path); /* whoever has taken it away already is right */
    }
}
