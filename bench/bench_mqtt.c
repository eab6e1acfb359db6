/* bench_mqtt.c - as much MQTT 3.1.1 as a publisher needs; see bench.h.
 *
 * Rejected: src/codec.  A generator that shares the encoder with the gateway would
 * be blind to the mistakes both make.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

int bench_mqtt_dial(uint16_t port)
{
    const int on = 1;
    struct sockaddr_in target = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        bench_fail("no socket: %s", bench_cause());
    }
    if (connect(fd, (const struct sockaddr *)&target, sizeof(target)) != 0) {
        bench_fail("cannot connect to 127.0.0.1:%u: %s; is the server running?", port,
                   bench_cause());
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

size_t bench_mqtt_connect_packet(uint8_t *at, size_t size, const char *client_id)
{
    /* Protocol MQTT, level 4, clean session, no keep-alive (sections 3.1.2.1 to 3.1.2.10). */
    static const uint8_t variable[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0};
    const size_t id_len = strlen(client_id);
    size_t len = 2;

    mr_assert(2 + sizeof(variable) + 2 + id_len <= size && id_len < 100);
    memcpy(at + len, variable, sizeof(variable));
    len += sizeof(variable);
    mr_put_be16(at + len, (uint16_t)id_len);
    memcpy(at + len + 2, client_id, id_len);
    len += 2 + id_len;
    at[0] = 0x10;
    at[1] = (uint8_t)(len - 2);
    return len;
}

int bench_mqtt_connect(uint16_t port, const char *client_id)
{
    static const uint8_t accepted[] = {0x20, 2, 0, 0};
    uint8_t packet[128];
    uint8_t answer[4];
    size_t len = bench_mqtt_connect_packet(packet, sizeof(packet), client_id);
    int fd = bench_mqtt_dial(port);

    if (write(fd, packet, len) != (ssize_t)len ||
        recv(fd, answer, sizeof(answer), MSG_WAITALL) != (ssize_t)sizeof(answer)) {
        bench_fail("client '%s' got no CONNACK: %s", client_id, bench_cause());
    }
    if (memcmp(answer, accepted, sizeof(accepted)) != 0) {
        bench_fail("client '%s' was refused with return code %u", client_id, answer[3]);
    }
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

size_t bench_mqtt_publish(uint8_t *at, size_t size, const char *topic, size_t payload_bytes,
                          size_t *id_at, size_t *payload_at)
{
    const size_t topic_len = strlen(topic);
    size_t remaining = 2 + topic_len + 2 + payload_bytes;
    size_t len = 0;

    mr_assert(remaining + 5 <= size);
    at[len++] = 0x32; /* PUBLISH, QoS 1 */
    do {              /* Remaining length, section 2.2.3. */
        at[len++] = (uint8_t)(remaining % 128 + (remaining >= 128 ? 128 : 0));
        remaining /= 128;
    } while (remaining > 0);
    mr_put_be16(at + len, (uint16_t)topic_len);
    memcpy(at + len + 2, topic, topic_len);
    len += 2 + topic_len;
    *id_at = len;
    mr_put_be16(at + len, 0);
    len += 2;
    *payload_at = len;
    memset(at + len, 0, payload_bytes);
    return len + payload_bytes;
}

static bool mqtt_ack_take(struct bench_acks *acks, const uint8_t *at)
{
    acks->id = bench_id_next(acks->id);
    acks->acked += 1;
    return at[0] == 0x40 && at[1] == 2 && mr_get_be16(at + 2) == acks->id;
}

bool bench_acks_take(struct bench_acks *acks, const uint8_t *bytes, size_t len)
{
    while (acks->part_len != 0 && len != 0) {
        acks->part[acks->part_len++] = *bytes++;
        len -= 1;
        if (acks->part_len == sizeof(acks->part)) {
            acks->part_len = 0;
            if (!mqtt_ack_take(acks, acks->part)) {
                return false;
            }
        }
    }
    for (; len >= sizeof(acks->part); len -= sizeof(acks->part)) {
        if (!mqtt_ack_take(acks, bytes)) {
            return false;
        }
        bytes += sizeof(acks->part);
    }
    memcpy(acks->part + acks->part_len, bytes, len);
    acks->part_len += (uint32_t)len;
    return true;
}
