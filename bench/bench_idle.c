/* bench_idle.c - what one idle connection costs the server in memory, and all of them in CPU.
 *
 * DESIGN
 *
 * Opens connections that CONNECT and then say nothing, and reads the server's
 * resident memory (Pss of smaps_rollup, so that shared pages are not counted) at
 * two counts.  The slope between them is the cost of one; what the server
 * needs anyway falls out.  Kernel memory (sockets, epoll) is not in it: a floor
 * server measured the same way has the same.
 *
 * Between the last CONNACK and the reading the server gets time to settle: the
 * value is read until three readings in a row agree.  Then nothing happens for --hold
 * seconds, and the server's CPU time of these is reported.
 *
 * With --tls the handshake is done and the client's half of it is thrown away while the socket
 * stays: 15,000 clients then need no more memory than plain ones.
 */
#include "bench_tls_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { READINGS_ALIKE = 3, READINGS_MAX = 50, ALIKE_BYTES = 64 * 1024 };

static uint64_t idle_memory_bytes(uint64_t pid)
{
    char path[64];
    char line[128];
    uint64_t kib = 0;

    (void)snprintf(path, sizeof(path), "/proc/%llu/smaps_rollup", (unsigned long long)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        bench_fail("cannot read %s: %s", path, bench_cause());
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "Pss:", 4) == 0) {
            kib = strtoull(line + 4, NULL, 10);
        }
    }
    (void)fclose(file);
    return kib * 1024;
}

/* The memory once it does not change any more. */
static uint64_t idle_settled_bytes(uint64_t pid)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = 100000000};
    uint64_t last = idle_memory_bytes(pid);
    unsigned alike = 0;

    for (unsigned i = 0; i < READINGS_MAX && alike < READINGS_ALIKE; i++) {
        (void)nanosleep(&pause, NULL);
        uint64_t now = idle_memory_bytes(pid);
        uint64_t change = now > last ? now - last : last - now;
        alike = change <= ALIKE_BYTES ? alike + 1 : 0;
        last = now;
    }
    return last;
}

/* Handshake, CONNECT and its answer; the socket stays open. */
static void idle_connect_tls(SSL_CTX *context, uint16_t port, const char *id)
{
    uint8_t packet[64];
    uint8_t answer[4];
    size_t len = bench_mqtt_connect_packet(packet, sizeof(packet), id);
    int fd = bench_mqtt_dial(port);
    SSL *ssl = bench_tls_over(context, fd);
    int got = SSL_do_handshake(ssl); /* the socket blocks */

    if (got == 1 && SSL_write(ssl, packet, (int)len) == (int)len) {
        got = SSL_read(ssl, answer, sizeof(answer));
    }
    if (got != (int)sizeof(answer)) {
        (void)bench_tls_again(ssl, got);
        bench_fail("client '%s' got no whole answer", id);
    }
    SSL_free(ssl);
}

/* On-CPU milliseconds of the server in a second in which nothing happens. */
static double idle_cpu_ms(uint64_t pid, uint64_t seconds)
{
    const struct timespec pause = {.tv_sec = (time_t)seconds};
    uint64_t before_ns = bench_process_cpu_ns(pid);

    (void)nanosleep(&pause, NULL);
    return (double)(bench_process_cpu_ns(pid) - before_ns) / 1e6 / (double)seconds;
}

int main(int argc, char **argv)
{
    uint64_t port = 0;
    uint64_t pid = 0;
    uint64_t few = 2000;
    uint64_t many = 15000;
    uint64_t hold_s = 0;
    bool tls = false;
    const struct bench_option table[] = {
        {"port", BENCH_U64, &port, "TCP port of the server on 127.0.0.1"},
        {"server-pid", BENCH_U64, &pid, "process whose memory is read"},
        {"few", BENCH_U64, &few, "connections at the first reading"},
        {"many", BENCH_U64, &many, "connections at the second"},
        {"hold", BENCH_U64, &hold_s, "seconds of silence in which its CPU is measured"},
        {"tls", BENCH_FLAG, &tls, "with TLS"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };
    uint64_t few_bytes = 0;

    bench_options(argc, argv, "memory of idle connections", table);
    if (port == 0 || port > UINT16_MAX || pid == 0 || few == 0 || many <= few) {
        bench_fail("--port and --server-pid are needed, and --many greater than --few");
    }
    bench_descriptors(many + 16);
    SSL_CTX *context = tls ? bench_tls_context() : NULL;
    for (uint64_t i = 0; i < many; i++) {
        char id[32];

        if (i == few) {
            few_bytes = idle_settled_bytes(pid);
        }
        (void)bench_client_id(id, sizeof(id), i);
        if (tls) {
            idle_connect_tls(context, (uint16_t)port, id);
        } else {
            (void)bench_mqtt_connect((uint16_t)port, id);
        }
        /* Held until we end. */
    }
    uint64_t many_bytes = idle_settled_bytes(pid);
    double cpu_ms = hold_s == 0 ? 0 : idle_cpu_ms(pid, hold_s);

    struct bench_json json = bench_json_open("idle");
    bench_json_u64(&json, "few", few);
    bench_json_u64(&json, "many", many);
    bench_json_u64(&json, "few_bytes", few_bytes);
    bench_json_u64(&json, "many_bytes", many_bytes);
    bench_json_number(&json, "bytes_per_connection",
                      ((double)many_bytes - (double)few_bytes) / (double)(many - few));
    if (hold_s > 0) {
        bench_json_number(&json, "cpu_ms_per_s", cpu_ms);
    }
    bench_json_close(&json);
    SSL_CTX_free(context);
    return 0;
}
