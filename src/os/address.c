/* address.c - addresses as text and as bytes; for os/posix and os/sim alike. */
#include "os/loop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

void mr_address_of(const uint8_t *bytes, size_t len, uint16_t port, struct mr_address *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char host[INET6_ADDRSTRLEN] = "?";

    mr_assert(len == 4 || len == 16);
    if (len == 16 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        bytes += 12; /* a v4 client of a v6 listener is known to people by its v4 address */
        len = 4;
    }
    (void)inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, host, sizeof(host));
    (void)snprintf(out->text, sizeof(out->text), len == 4 ? "%s:%u" : "[%s]:%u", host, port);
}

bool mr_address_parse(struct mr_span text, size_t len, uint8_t *into)
{
    char host[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof(host) || memchr(text.at, 0, text.len) != NULL) {
        return false;
    }
    memcpy(host, text.at, text.len);
    host[text.len] = 0;
    return inet_pton(len == 4 ? AF_INET : AF_INET6, host, into) == 1;
}
