/* login_service.h - a service that says who may come in, as `auth.http` asks it.
 *
 *     CONNECT ─▶ broker ─▶ POST {"username": "ann", …} ─▶ what service_says[] has for ann
 *
 * One question a connection.  Who has no line there is let in, and nothing more is said of it.
 *
 * Thread: one of its own.   Memory: none.   Time: as long as it is asked.
 */
#ifndef MR_TEST_LOGIN_SERVICE_H
#define MR_TEST_LOGIN_SERVICE_H

#include "broker_kit.h"

#include "os/thread.h"

/* Members of the answer beside its "result"; the test writes them, `user` NULL ends them. */
struct service_line {
    const char *user;
    const char *members; /* "\"acl\": …, \"expire_at\": …" */
};

struct login_service {
    const struct service_line *lines;
    struct mr_thread *thread;
    struct mr_loop *loop;
    struct mr_wake wake;
    char url[160];
    int listener;
};

static inline const char *service_members(const struct login_service *service, const char *question)
{
    char named[64];

    for (const struct service_line *line = service->lines; line->user != NULL; line++) {
        (void)snprintf(named, sizeof(named), "\"username\":\"%s\"", line->user);
        if (strstr(question, named) != NULL) {
            return line->members;
        }
    }
    return "\"ok\": true";
}

/* All of the question: a JSON object behind the header. */
static inline void service_hear(const struct login_service *service, int fd, char *text,
                                size_t size)
{
    int64_t deadline = kit_deadline();
    struct mr_ready ready;
    const char *body = NULL;
    size_t len = 0;
    size_t got = 0;

    mr_assert(mr_loop_add(service->loop, fd, MR_READY_READ, 2) == MR_OK);
    while (body == NULL || text[len - 1] != '}') {
        (void)mr_loop_wait(service->loop, &ready, 1, 1000000000, NULL, NULL);
        if (mr_socket_read(fd, text + len, size - len - 1, &got) == MR_OK) {
            mr_assert(got != 0);
            len += got;
            text[len] = 0;
            body = strstr(text, "\r\n\r\n");
        }
        kit_patience(deadline, "a question");
    }
    mr_loop_remove(service->loop, fd);
}

static inline void service_answer(const struct login_service *service, int fd)
{
    static char question[16384];
    char body[2048];
    char all[4096];
    size_t sent = 0;

    service_hear(service, fd, question, sizeof(question));
    (void)snprintf(body, sizeof(body), "{\"result\": \"allow\", %s}",
                   service_members(service, question));
    int len = snprintf(all, sizeof(all),
                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                       strlen(body), body);
    mr_assert(mr_socket_write(fd, all, (size_t)len, &sent) == MR_OK && sent == (size_t)len);
    mr_socket_close(fd);
}

static inline void service_run(void *arg)
{
    const struct login_service *service = arg;
    bool stops = false;

    mr_assert(mr_loop_add(service->loop, service->listener, MR_READY_READ, 1) == MR_OK);
    while (!stops) {
        struct mr_ready ready;
        int fd = -1;
        (void)mr_loop_wait(service->loop, &ready, 1, -1, (struct mr_wake *)&service->wake, &stops);
        while (mr_socket_accept(service->listener, &fd, NULL) == MR_OK) {
            service_answer(service, fd);
        }
    }
    mr_loop_remove(service->loop, service->listener);
}

/* `lines` outlive it.  Its address is in service->url. */
static inline void service_open(struct login_service *service, const struct service_line *lines)
{
    struct mr_address address;
    struct mr_error why = {.text = ""};

    *service = (struct login_service){.lines = lines};
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &service->listener,
                               &address, &why) == MR_OK);
    (void)snprintf(service->url, sizeof(service->url), "http://%s/", address.text);
    mr_assert(mr_loop_open(&service->loop, &why) == MR_OK);
    mr_assert(mr_wake_open(&service->wake, &why) == MR_OK);
    mr_assert(mr_thread_start(&service->thread, "service", service_run, service, &why) == MR_OK);
}

static inline void service_close(struct login_service *service)
{
    mr_wake_ring(&service->wake);
    mr_thread_join(service->thread);
    mr_wake_close(&service->wake);
    mr_loop_close(service->loop);
    mr_socket_close(service->listener);
}

#endif
