/* bench_produce.c - see bench_produce.h. */
#include "bench_produce.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum {
    PRODUCE = 0,
    PRODUCE_VERSION = 7,
    ANSWER_MAX = 8192,
    ANSWER_PART_BYTES = 30, /* partition, error, three numbers */
    TIMEOUT_MS = 30000,
};

int bench_produce_connect(const char *servers)
{
    char host[128];
    const char *colon = strrchr(servers, ':');
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const int on = 1;

    if (colon == NULL || (size_t)(colon - servers) >= sizeof(host)) {
        bench_fail("--servers is host:port");
    }
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - servers), servers);
    if (getaddrinfo(host, colon + 1, &wanted, &found) != 0) {
        bench_fail("no address of '%s'", host);
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        bench_fail("cannot connect to %s: %s", servers, bench_cause());
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    freeaddrinfo(found);
    return fd;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t len = strlen(text);

    mr_put_be16(at, (uint16_t)len);
    memcpy(at + 2, text, len);
    return at + 2 + len;
}

size_t bench_produce_head(uint8_t *at, const char *topic, uint32_t parts, size_t batches)
{
    uint8_t *const begin = at;

    at += 4; /* the length comes last */
    mr_put_be16(at, PRODUCE);
    mr_put_be16(at + 2, PRODUCE_VERSION);
    mr_put_be32(at + 4, 0); /* correlation id: answers come in order */
    at = put_text(at + 8, "millrace-bench");
    mr_put_be16(at, UINT16_MAX);     /* no transaction */
    mr_put_be16(at + 2, UINT16_MAX); /* acks = -1: all */
    mr_put_be32(at + 4, TIMEOUT_MS);
    mr_put_be32(at + 8, 1); /* topics */
    at = put_text(at + 12, topic);
    mr_put_be32(at, parts);
    at += 4;
    size_t len = (size_t)(at - begin);
    mr_put_be32(begin, (uint32_t)(len - 4 + batches));
    return len;
}

void bench_produce_part(uint8_t *at, uint32_t partition, size_t batch_bytes)
{
    mr_put_be32(at, partition);
    mr_put_be32(at + 4, (uint32_t)batch_bytes);
}

void bench_produce_send(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    while (len != 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            bench_fail("the broker does not take it: %s", bench_cause());
        }
        at += sent < 0 ? 0 : sent;
        len -= sent < 0 ? 0 : (size_t)sent;
    }
}

static void receive(int fd, uint8_t *into, size_t len)
{
    while (len != 0) {
        ssize_t got = recv(fd, into, len, MSG_WAITALL);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            bench_fail("the broker ended the connection: %s", got < 0 ? bench_cause() : "end");
        }
        into += got < 0 ? 0 : got;
        len -= got < 0 ? 0 : (size_t)got;
    }
}

uint32_t bench_produce_answer(int fd)
{
    uint8_t answer[ANSWER_MAX];

    receive(fd, answer, 4);
    size_t len = mr_get_be32(answer);
    if (len > sizeof(answer) || len < 16) {
        bench_fail("an answer of %zu bytes", len);
    }
    receive(fd, answer, len);
    const uint8_t *at = answer + 8; /* correlation id, how many topics */
    at += 2 + mr_get_be16(at);      /* its name */
    if (at + 4 > answer + len) {
        bench_fail("an answer that ends in the topic's name");
    }
    uint32_t parts = mr_get_be32(at);
    at += 4;
    if (parts > (size_t)(answer + len - at) / ANSWER_PART_BYTES) {
        bench_fail("an answer with less than its %u partitions", parts);
    }
    for (uint32_t i = 0; i < parts; i++, at += ANSWER_PART_BYTES) {
        if (mr_get_be16(at + 4) != 0) {
            bench_fail("partition %u: Kafka's error %u", mr_get_be32(at), mr_get_be16(at + 4));
        }
    }
    return parts;
}
