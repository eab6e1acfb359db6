/* admin.c - see admin.h.
 *
 * DESIGN
 *
 * A request that may have to wait is suspended (the library looks at its connection no more)
 * and put into a queue.  Its thread takes it, fills its page and resumes it; then the
 * library calls on_request() once more, which finds the page and sends it.
 *
 * At the end these threads answer all that wait, and they have a moment in which their
 * answers leave, so that whoever waits hears what became of his command.
 *
 * Rejected: a thread per connection, or a pool of them.  The pages that look at counters are
 * written for one thread, commands for one at a time, and a pool gives a connection to a thread
 * that may be waiting already.
 */
#include "admin/admin.h"

#include "base/metric.h"
#include "os/clock.h"
#include "os/loop.h"
#include "os/thread.h"

#include <microhttpd.h>

enum { MISDIRECTED = 421 }; /* RFC 9110 section 15.5.20 */

static const char api_prefix[] = "/api/";
static const int64_t leave_patience_ns = INT64_C(1000000000); /* loopback: it is there at once */

enum { QUEUES = MR_ADMIN_ROOM }; /* one for each wait but none */

static const char *const queue_threads[QUEUES] = {"clerk", "operator"};

/* Those that wait. */
struct queue {
    struct mr_admin *admin;
    struct mr_thread *thread;
    struct mr_wake wake;    /* of the thread; of main once that has ended */
    struct mr_mutex mutex;  /* of what follows */
    struct exchange *first; /* not taken yet */
    struct exchange **last; /* its end */
    uint32_t count;         /* put, and their answers have not left */
    bool ending;
};

struct mr_admin {
    struct MHD_Daemon *daemon;
    struct mr_admin_options options;
    struct mr_address bound;
    struct queue queues[QUEUES];
};

struct mr_admin_request {
    struct MHD_Connection *connection;
    const char *path;
    bool is_post;
};

struct page {
    struct mr_text text;
    const char *content_type;
    const char *allow; /* of 405 */
    unsigned status;
};

/* A request from its headers on until its answer has left. */
struct exchange {
    struct mr_admin_request request;
    struct page page;
    struct queue *queue;   /* that it was put into; its page is there when it comes back */
    struct exchange *next; /* in the queue */
};

const char *mr_admin_path(const struct mr_admin_request *request)
{
    return request->path;
}

bool mr_admin_is_post(const struct mr_admin_request *request)
{
    return request->is_post;
}

const char *mr_admin_argument(const struct mr_admin_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

static const char *header_of(const struct mr_admin_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

/* ---- who may ask ---- */

/* "127.0.0.1:8080", "localhost", "[::1]:8080": this machine by its own name. */
static bool host_is_ours(const char *host)
{
    static const char *const names[] = {"localhost", "[::1]"};

    if (strncmp(host, "127.", 4) == 0) { /* digits and dots only: no 127.example.org */
        return strspn(host, "0123456789.") == strcspn(host, ":");
    }
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        size_t name_len = strlen(names[i]);
        if (strncmp(host, names[i], name_len) == 0 &&
            (host[name_len] == '\0' || host[name_len] == ':')) {
            return true;
        }
    }
    return false;
}

/* NULL: it may; else the sentence why not, and *status. */
static const char *api_refused(const struct mr_admin *admin, const struct mr_admin_request *request,
                               unsigned *status)
{
    static const char scheme[] = "http://";
    const char *host = header_of(request, MHD_HTTP_HEADER_HOST);
    const char *origin = header_of(request, "Origin");
    const char *wanted = header_of(request, "X-Millrace");

    *status = MHD_HTTP_FORBIDDEN;
    if (host == NULL || !host_is_ours(host)) {
        return "the Host of the request is not this machine; use its loopback address";
    }
    if (origin != NULL && (strncmp(origin, scheme, sizeof(scheme) - 1) != 0 ||
                           strcmp(origin + sizeof(scheme) - 1, host) != 0)) {
        return "pages of another origin are not answered";
    }
    if (request->is_post && wanted == NULL) {
        return "a POST needs the header 'X-Millrace: 1'";
    }
    if (wanted != NULL && strcmp(wanted, "1") != 0 &&
        strcmp(wanted, admin->options.identity) != 0) {
        *status = MISDIRECTED;
        return "this is another gateway than the one that was meant";
    }
    return NULL;
}

/* ---- pages ---- */

static void page_metrics(struct mr_admin *admin, struct page *page)
{
    admin->options.refresh(admin->options.arg);
    page->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (mr_metric_render(&page->text) != MR_OK) {
        page->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

static void page_checks(struct mr_admin *admin, struct page *page,
                        bool (*check)(void *arg, struct mr_text *text))
{
    page->content_type = "application/json";
    if (!check(admin->options.arg, &page->text)) {
        page->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    }
}

static void page_error(struct page *page, unsigned status, const char *sentence)
{
    page->status = status;
    page->text.len = 0;
    page->text.truncated = false;
    mr_text_fmt(&page->text, "{\"error\":\"%s\"}\n", sentence);
}

static void page_open(struct page *page)
{
    page->text = mr_text_over(mr_alloc(MR_ADMIN_PAGE_BYTES), MR_ADMIN_PAGE_BYTES);
    page->status = MHD_HTTP_OK;
    page->content_type = "text/plain; charset=utf-8";
    page->allow = "GET, HEAD";
}

/* By each of the threads. */
static void page_api(struct mr_admin *admin, struct exchange *exchange)
{
    struct page *page = &exchange->page;

    page->status =
        (unsigned)admin->options.api(admin->options.arg, &exchange->request, &page->text);
    page->allow = exchange->request.is_post ? "GET, HEAD" : "POST";
    if (page->text.truncated) {
        page_error(page, MHD_HTTP_INTERNAL_SERVER_ERROR, "the answer is too large; ask for less");
    }
}

/* ---- those that wait ---- */

/* NULL: it stands in the queue, and its connection rests; else the sentence why not. */
static const char *queue_put(struct queue *queue, struct exchange *exchange)
{
    const char *refused = NULL;

    mr_mutex_lock(&queue->mutex);
    if (queue->ending) {
        refused = "the gateway is ending";
    } else if (queue->count == MR_ADMIN_QUEUE_MAX) {
        refused = "so many requests wait already that this one was not taken; try again later";
    } else {
        MHD_suspend_connection(exchange->request.connection);
        exchange->queue = queue;
        queue->count += 1;
        *queue->last = exchange;
        queue->last = &exchange->next;
    }
    mr_mutex_unlock(&queue->mutex);
    mr_wake_ring(&queue->wake);
    return refused;
}

/* NULL: none waits. */
static struct exchange *queue_take(struct queue *queue, bool *ending)
{
    mr_mutex_lock(&queue->mutex);
    struct exchange *exchange = queue->first;
    if (exchange != NULL) {
        queue->first = exchange->next;
        queue->last = queue->first == NULL ? &queue->first : queue->last;
    }
    *ending = queue->ending;
    mr_mutex_unlock(&queue->mutex);
    return exchange;
}

/* The answer of one that waited has left, or its client has. */
static void queue_leave(struct queue *queue)
{
    mr_mutex_lock(&queue->mutex);
    queue->count -= 1;
    mr_mutex_unlock(&queue->mutex);
    mr_wake_ring(&queue->wake);
}

static bool queue_is_empty(struct queue *queue)
{
    mr_mutex_lock(&queue->mutex);
    bool empty = queue->count == 0;
    mr_mutex_unlock(&queue->mutex);
    return empty;
}

/* Clerk, operator thread. */
static void queue_serve(void *arg)
{
    struct queue *queue = arg;
    bool ending = false;

    for (;;) {
        struct exchange *exchange = queue_take(queue, &ending);
        if (exchange != NULL) {
            page_open(&exchange->page);
            exchange->page.content_type = "application/json";
            if (ending) {
                page_error(&exchange->page, MHD_HTTP_SERVICE_UNAVAILABLE, "the gateway is ending");
            } else {
                page_api(queue->admin, exchange);
            }
            MHD_resume_connection(exchange->request.connection);
        } else if (ending) {
            return;
        } else {
            (void)mr_wake_wait(&queue->wake, -1);
        }
    }
}

static enum mr_err queue_start(struct queue *queue, struct mr_admin *admin, const char *name,
                               struct mr_error *why)
{
    enum mr_err err = mr_wake_open(&queue->wake, why);

    if (err != MR_OK) {
        return err;
    }
    mr_mutex_init(&queue->mutex);
    queue->admin = admin;
    queue->last = &queue->first;
    err = mr_thread_start(&queue->thread, name, queue_serve, queue, why);
    if (err != MR_OK) {
        mr_mutex_fini(&queue->mutex);
        mr_wake_close(&queue->wake);
    }
    return err;
}

/* All that wait are answered, and none waits any more. */
static void queue_end(struct queue *queue)
{
    mr_mutex_lock(&queue->mutex);
    queue->ending = true;
    mr_mutex_unlock(&queue->mutex);
    mr_wake_ring(&queue->wake);
    mr_thread_join(queue->thread);
    int64_t until_ns = mr_clock_mono_ns() + leave_patience_ns;
    int64_t left_ns = leave_patience_ns;
    while (!queue_is_empty(queue) && left_ns > 0) {
        (void)mr_wake_wait(&queue->wake, left_ns);
        left_ns = until_ns - mr_clock_mono_ns();
    }
}

/* The library has ended, and knows none of their exchanges any more. */
static void queues_free(struct queue *queues, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        mr_wake_close(&queues[i].wake);
        mr_mutex_fini(&queues[i].mutex);
    }
}

static void queues_end(struct queue *queues, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        queue_end(&queues[i]);
    }
}

static enum mr_err queues_start(struct mr_admin *admin, struct mr_error *why)
{
    enum mr_err err = MR_OK;
    uint32_t started = 0;

    while (started < QUEUES && err == MR_OK) {
        err = queue_start(&admin->queues[started], admin, queue_threads[started], why);
        started += err == MR_OK ? 1 : 0;
    }
    if (err != MR_OK) {
        queues_end(admin->queues, started);
        queues_free(admin->queues, started);
    }
    return err;
}

/* ---- requests ---- */

/* The page of something below /api/; false: it comes later. */
static bool answer_api(struct mr_admin *admin, struct exchange *exchange)
{
    const struct mr_admin_request *request = &exchange->request;
    struct page *page = &exchange->page;
    unsigned status = 0;
    const char *refused = api_refused(admin, request, &status);
    enum mr_admin_wait wait =
        refused == NULL ? admin->options.waits(admin->options.arg, request) : MR_ADMIN_NOTHING;

    if (wait != MR_ADMIN_NOTHING) {
        refused = queue_put(&admin->queues[wait - 1], exchange);
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
        if (refused == NULL) {
            return false; /* another thread's now */
        }
    }
    page_open(page);
    page->content_type = "application/json";
    if (refused != NULL) {
        page_error(page, status, refused);
    } else {
        page_api(admin, exchange);
    }
    return true;
}

/* The page of any other url. */
static void answer_plain(struct mr_admin *admin, const char *url, bool is_get, struct page *page)
{
    struct mr_span path = mr_span_of(url);

    page_open(page);
    if (!is_get) {
        page->status = MHD_HTTP_METHOD_NOT_ALLOWED;
        mr_text_add(&page->text, "only GET and HEAD are answered here\n");
    } else if (mr_span_is(path, "/metrics")) {
        page_metrics(admin, page);
    } else if (mr_span_is(path, "/healthz")) {
        page_checks(admin, page, admin->options.health);
    } else if (mr_span_is(path, "/readyz")) {
        page_checks(admin, page, admin->options.ready);
    } else {
        page->status = MHD_HTTP_NOT_FOUND;
        mr_text_add(&page->text,
                    "not here; there are /healthz, /readyz, /metrics and /api/v1/status\n");
    }
}

/* False: the page comes later. */
static bool answer(struct mr_admin *admin, struct exchange *exchange, const char *url,
                   const char *method)
{
    bool is_get =
        strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    bool is_api = strncmp(url, api_prefix, sizeof(api_prefix) - 1) == 0;

    if (is_api && (is_get || strcmp(method, MHD_HTTP_METHOD_POST) == 0)) {
        exchange->request.path = url + sizeof(api_prefix) - 1;
        exchange->request.is_post = !is_get;
        return answer_api(admin, exchange);
    }
    answer_plain(admin, url, is_get, &exchange->page);
    return true;
}

static enum MHD_Result send_page(struct MHD_Connection *connection, struct page *page)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(page->text.len, page->text.at, MHD_RESPMEM_MUST_COPY);

    mr_free(page->text.at);
    page->text.at = NULL;
    if (response == NULL) {
        return MHD_NO;
    }
    enum MHD_Result result =
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page->content_type);
    if (result == MHD_YES && page->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, page->allow);
    }
    if (result == MHD_YES) {
        result = MHD_queue_response(connection, page->status, response);
    }
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **context)
{
    struct mr_admin *admin = arg;
    struct exchange *exchange = *context;

    (void)version;
    (void)upload;
    if (exchange == NULL) { /* first call: headers only; the body, if any, follows */
        exchange = mr_alloc(sizeof(*exchange));
        exchange->request.connection = connection;
        *context = exchange;
        return MHD_YES;
    }
    if (*upload_len > 0) { /* a body is read and dropped; its bounds are the library's */
        *upload_len = 0;
        return MHD_YES;
    }
    if (exchange->queue == NULL && !answer(admin, exchange, url, method)) {
        return MHD_YES; /* this is called again when the page is there */
    }
    return send_page(connection, &exchange->page);
}

/* The answer has left, or the connection has ended before. */
static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode how)
{
    struct exchange *exchange = *context;

    (void)arg;
    (void)connection;
    (void)how;
    if (exchange == NULL) {
        return;
    }
    *context = NULL;
    if (exchange->queue != NULL) {
        queue_leave(exchange->queue);
    }
    mr_free(exchange->page.text.at);
    mr_free(exchange);
}

/* ---- start, stop ---- */

enum mr_err mr_admin_start(struct mr_admin **out, const struct mr_admin_options *options,
                           struct mr_error *why)
{
    struct mr_admin *admin = mr_alloc(sizeof(*admin));
    struct mr_listen_options listen = {.reuse_port = false, .backlog = 64};
    int fd = -1;

    admin->options = *options;
    enum mr_err err = mr_socket_listen(options->bind, &listen, &fd, &admin->bound, why);
    if (err != MR_OK) {
        mr_free(admin);
        return err;
    }
    err = queues_start(admin, why);
    if (err != MR_OK) {
        mr_socket_close(fd);
        mr_free(admin);
        return err;
    }
    /* Limits so that a forgotten or hostile client cannot hold the thread. */
    admin->daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                         on_request, admin, MHD_OPTION_LISTEN_SOCKET, fd,
                         MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_CONNECTION_LIMIT, 64u,
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, admin, MHD_OPTION_END);
    if (admin->daemon == NULL) {
        mr_socket_close(fd);
        queues_end(admin->queues, QUEUES);
        queues_free(admin->queues, QUEUES);
        mr_free(admin);
        return mr_error_set(why, MR_ERR_CONFIG,
                            "admin: the HTTP server on %s did not start; check the limits on "
                            "threads and descriptors",
                            options->bind);
    }
    *out = admin;
    return MR_OK;
}

const char *mr_admin_address(const struct mr_admin *admin)
{
    return admin->bound.text;
}

void mr_admin_stop(struct mr_admin *admin)
{
    if (admin == NULL) {
        return;
    }
    queues_end(admin->queues, QUEUES);
    MHD_stop_daemon(admin->daemon); /* closes the listening socket too */
    queues_free(admin->queues, QUEUES);
    mr_free(admin);
}
