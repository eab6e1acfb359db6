#include "admin/admin.h"

#include "base/metric.h"
#include "os/loop.h"

#include <microhttpd.h>

enum { MISDIRECTED = 421 }; /* RFC 9110 section 15.5.20 */

static const char api_prefix[] = "/api/";

struct mr_admin {
    struct MHD_Daemon *daemon;
    struct mr_admin_options options;
    struct mr_address bound;
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

static void page_api(struct mr_admin *admin, const struct mr_admin_request *request,
                     struct page *page)
{
    const char *refused = api_refused(admin, request, &page->status);

    page->content_type = "application/json";
    if (refused != NULL) {
        mr_text_fmt(&page->text, "{\"error\":\"%s\"}\n", refused);
        return;
    }
    page->status = (unsigned)admin->options.api(admin->options.arg, request, &page->text);
    page->allow = request->is_post ? "GET, HEAD" : "POST";
    if (page->text.truncated) {
        page->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        page->text.len = 0;
        page->text.truncated = false;
        mr_text_add(&page->text, "{\"error\":\"the answer is too large; ask for less\"}\n");
    }
}

static void page_fill(struct mr_admin *admin, struct MHD_Connection *connection, const char *url,
                      const char *method, struct page *page)
{
    struct mr_span path = mr_span_of(url);
    bool is_get =
        strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    bool is_api = strncmp(url, api_prefix, sizeof(api_prefix) - 1) == 0;

    page->status = MHD_HTTP_OK;
    page->content_type = "text/plain; charset=utf-8";
    page->allow = "GET, HEAD";
    if (is_api && (is_get || strcmp(method, MHD_HTTP_METHOD_POST) == 0)) {
        struct mr_admin_request request = {
            .connection = connection,
            .path = url + sizeof(api_prefix) - 1,
            .is_post = !is_get,
        };
        page_api(admin, &request, page);
    } else if (!is_get) {
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

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **request)
{
    struct mr_admin *admin = arg;
    struct page page;

    (void)version;
    (void)upload;
    if (*request == NULL) { /* first call: headers only; the body, if any, follows */
        *request = admin;
        return MHD_YES;
    }
    if (*upload_len > 0) { /* a body is read and dropped; its bounds are the library's */
        *upload_len = 0;
        return MHD_YES;
    }

    char *buffer = mr_alloc(MR_ADMIN_PAGE_BYTES);
    page.text = mr_text_over(buffer, MR_ADMIN_PAGE_BYTES);
    page_fill(admin, connection, url, method, &page);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(page.text.len, buffer, MHD_RESPMEM_MUST_COPY);
    mr_free(buffer);
    if (response == NULL) {
        return MHD_NO;
    }

    enum MHD_Result result =
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page.content_type);
    if (result == MHD_YES && page.status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, page.allow);
    }
    if (result == MHD_YES) {
        result = MHD_queue_response(connection, page.status, response);
    }
    MHD_destroy_response(response);
    return result;
}

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
    /* Limits so that a forgotten or hostile client cannot hold the thread. */
    admin->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, admin, MHD_OPTION_LISTEN_SOCKET,
        fd, MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_CONNECTION_LIMIT, 64u, MHD_OPTION_END);
    if (admin->daemon == NULL) {
        mr_socket_close(fd);
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
    MHD_stop_daemon(admin->daemon); /* closes the listening socket too */
    mr_free(admin);
}
