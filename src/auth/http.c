/* http.c - see http.h for the contract.
 *
 * DESIGN
 *
 * One thread drives all requests by curl's multi interface; as many are open as `max_requests`
 * says, the rest wait in order of arrival.  Connections to the service stay open between
 * requests.  A service that is down is told in the log once, and once when it is back.
 *
 * Rejected: asking from the workers that hash.  A service that hangs would stop passwords, too.
 */
#include "auth/http.h"

#include "auth/grant.h"
#include "auth/passhash.h"
#include "base/bytes.h"
#include "base/log.h"
#include "codec/json.h"
#include "os/clock.h"
#include "os/file.h"

#include <curl/curl.h>

enum {
    ANSWER_MAX = 64 << 10,
    QUESTION_TEXT_MAX = 8192, /* bytes of names and password; who sends more is denied */
    QUESTION_MAX = 6 * QUESTION_TEXT_MAX + 1024,
    WAITING_MAX = 65536,
    WAIT_TIMEOUTS = 4, /* who has waited for so many timeouts is told that it is down */
    POLL_MS = 1000,
};

/* A request that is open. */
struct job {
    struct http *http;
    struct mr_auth_request *request; /* NULL: free */
    CURL *curl;
    char cause[CURL_ERROR_SIZE];
    size_t answer_len;
    char *answer;   /* ANSWER_MAX */
    char *question; /* QUESTION_MAX */
};

struct http {
    const struct mr_http_conf *conf;
    http_on_answer *on_answer;
    void *arg;
    CURLM *multi;
    struct curl_slist *headers;
    struct job *jobs;
    uint32_t job_count;
    uint32_t open;
    struct mr_thread *thread;
    _Atomic bool stop;
    bool down; /* as of the last answer */

    struct mr_mutex mutex; /* over all that follows */
    struct mr_auth_request *first;
    struct mr_auth_request *last;
    uint32_t waiting;
};

/* ---- configuration ---- */

static const char *url_fault(const char *url)
{
    bool plain = strncmp(url, "http://", 7) == 0;

    if (!plain && strncmp(url, "https://", 8) != 0) {
        return "it does not begin with http:// or https://";
    }
    const char *host = url + (plain ? 7 : 8);
    size_t host_len = strcspn(host, "/?#");
    if (host_len == 0) {
        return "it has no host";
    }
    return memchr(host, '@', host_len) == NULL
               ? NULL
               : "it has a user part, which would be seen in logs; give `authorization`";
}

enum mr_err http_conf_check(const struct mr_http_conf *conf, struct mr_error *why)
{
    const char *const paths[] = {conf->cacertfile, conf->certfile, conf->keyfile};
    const char *fault = url_fault(conf->url);

    if (fault != NULL) {
        return mr_error_set(why, MR_ERR_CONFIG, "auth.http.url: %s", fault);
    }
    if ((conf->certfile == NULL) != (conf->keyfile == NULL)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "auth.http: a client certificate needs `certfile` and `keyfile`");
    }
    for (size_t i = 0; i < 3; i++) {
        if (paths[i] != NULL && !mr_path_exists(paths[i])) {
            return mr_error_set(why, MR_ERR_CONFIG, "auth.http: %s: no such file", paths[i]);
        }
    }
    return MR_OK;
}

/* ---- the question ---- */

/* "10.0.0.7" of "10.0.0.7:51812", "2001:db8::1" of "[2001:db8::1]:51812". */
static struct mr_span host_of(const char *peer)
{
    const char *colon = strrchr(peer, ':');
    struct mr_span host = mr_span_of(peer);

    host.len = colon == NULL ? host.len : (size_t)(colon - peer);
    if (host.len >= 2 && peer[0] == '[') {
        host.at += 1;
        host.len -= 2;
    }
    return host;
}

static void member_add(struct mr_text *text, const char *name, struct mr_span value)
{
    mr_text_fmt(text, "%s\"%s\":", text->len == 1 ? "" : ",", name);
    mr_json_add_string(text, value);
}

/* False: it is too long, or no text; nobody has such a password. */
static bool question_write(struct job *job)
{
    const struct mr_auth_request *request = job->request;
    struct mr_text text = mr_text_over(job->question, QUESTION_MAX);

    if (request->client_id.len + request->user.len + request->password.len > QUESTION_TEXT_MAX ||
        (request->password.len != 0 && !mr_utf8_valid(request->password))) {
        return false;
    }
    mr_text_add(&text, "{");
    member_add(&text, "clientid", request->client_id);
    if (request->has_user) {
        member_add(&text, "username", request->user);
    }
    if (request->has_password) {
        member_add(&text, "password", request->password);
    }
    member_add(&text, "peerhost", host_of(request->peer));
    member_add(&text, "peername", mr_span_of(request->peer));
    member_add(&text, "listener", mr_span_of(request->listener));
    member_add(&text, "protocol", mr_span_of("mqtt"));
    mr_text_add(&text, "}");
    return !text.truncated;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg)
{
    struct job *job = arg;
    size_t len = size * count;
    bool fits = mr_append(job->answer, ANSWER_MAX, &job->answer_len, bytes, len);

    return fits ? len : 0; /* then curl ends the request */
}

/* ---- one request ---- */

static void job_shape(struct job *job)
{
    const struct mr_http_conf *conf = job->http->conf;
    CURL *curl = job->curl;

    curl_easy_setopt(curl, CURLOPT_URL, conf->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the environment does not choose who sees it */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(conf->request_timeout_us / 1000));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, job->http->headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "millrace/" MR_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, job);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, job);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, job->cause);
    if (conf->cacertfile != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, conf->cacertfile);
    }
    if (conf->certfile != NULL) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, conf->certfile);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, conf->keyfile);
    }
}

static struct job *job_free_one(struct http *http)
{
    for (uint32_t i = 0; i < http->job_count; i++) {
        if (http->jobs[i].request == NULL) {
            return &http->jobs[i];
        }
    }
    return NULL;
}

static void job_begin(struct http *http, struct mr_auth_request *request)
{
    struct job *job = job_free_one(http);

    mr_assert(job != NULL);
    job->http = http;
    job->request = request;
    job->answer_len = 0;
    job->cause[0] = 0;
    if (job->curl == NULL) {
        job->curl = curl_easy_init();
        mr_assert(job->curl != NULL);
        job->answer = mr_alloc(ANSWER_MAX);
        job->question = mr_alloc(QUESTION_MAX);
        job_shape(job);
    }
    if (!question_write(job)) {
        job->request = NULL;
        http->on_answer(http->arg, request, HTTP_DENY);
        return;
    }
    curl_easy_setopt(job->curl, CURLOPT_POSTFIELDS, job->question);
    curl_easy_setopt(job->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(job->question));
    CURLMcode code = curl_multi_add_handle(http->multi, job->curl);
    mr_assert(code == CURLM_OK);
    http->open += 1;
}

/* The address without what may be secret in it. */
static struct mr_span url_shown(const struct http *http)
{
    return mr_span_make(http->conf->url, strcspn(http->conf->url, "?#"));
}

static void down_note(struct http *http, bool down, const char *cause)
{
    struct mr_span url = url_shown(http);

    if (down && !http->down) {
        mr_log(MR_LOG_WARN, "auth",
               "%.*s: %s; whoever it would have to admit is refused until it answers again",
               (int)url.len, (const char *)url.at, cause);
    } else if (!down && http->down) {
        mr_log(MR_LOG_INFO, "auth", "%.*s answers again", (int)url.len, (const char *)url.at);
    }
    http->down = down;
}

/* What came, judged. */
static enum http_answer job_judge(struct job *job, CURLcode result, struct mr_auth_grant **grant)
{
    static struct mr_log_limit limit;
    struct http *http = job->http;
    char cause[64];
    struct mr_text text = mr_text_over(cause, sizeof(cause));
    enum http_answer answer = HTTP_DOWN;
    uint64_t held = 0;
    long status = 0;

    if (result != CURLE_OK) {
        down_note(http, true, job->cause[0] != 0 ? job->cause : curl_easy_strerror(result));
        return HTTP_DOWN;
    }
    curl_easy_getinfo(job->curl, CURLINFO_RESPONSE_CODE, &status);
    mr_text_fmt(&text, "it answers with HTTP status %ld", status);
    if (status == 204) {
        answer = HTTP_ALLOW;
    } else if (status == 200) {
        answer = http_body_read(mr_span_make(job->answer, job->answer_len), grant);
        mr_text_add(&text, " and no `result`");
    } else if (status >= 400 && status <= 499) {
        answer = HTTP_IGNORE;
        if (mr_log_allowed(&limit, 60000000, &held)) {
            struct mr_span url = url_shown(http);
            mr_log(MR_LOG_INFO, "auth",
                   "%.*s: %s, which is taken for `ignore`; is it the right "
                   "address?",
                   (int)url.len, (const char *)url.at, cause);
        }
    }
    down_note(http, answer == HTTP_DOWN, cause);
    return answer;
}

static void job_end(struct job *job, CURLcode result)
{
    struct http *http = job->http;
    struct mr_auth_request *request = job->request;
    enum http_answer answer = job_judge(job, result, &request->grant);

    curl_multi_remove_handle(http->multi, job->curl);
    mr_secret_wipe(job->question, QUESTION_MAX);
    job->request = NULL;
    http->open -= 1;
    http->on_answer(http->arg, request, answer);
}

/* ---- the thread ---- */

static struct mr_auth_request *waiting_take(struct http *http)
{
    mr_mutex_lock(&http->mutex);
    struct mr_auth_request *request = http->first;
    if (request != NULL) {
        http->first = request->next;
        http->last = http->first == NULL ? NULL : http->last;
        http->waiting -= 1;
    }
    mr_mutex_unlock(&http->mutex);
    return request;
}

static void jobs_begin(struct http *http)
{
    int64_t patience_ns = (int64_t)http->conf->request_timeout_us * 1000 * WAIT_TIMEOUTS;

    while (http->open < http->job_count) {
        struct mr_auth_request *request = waiting_take(http);
        if (request == NULL) {
            return;
        }
        if (atomic_load(&request->cancel) || mr_clock_mono_ns() - request->asked_ns > patience_ns) {
            http->on_answer(http->arg, request, HTTP_DOWN);
        } else {
            job_begin(http, request);
        }
    }
}

static void http_run(void *arg)
{
    struct http *http = arg;

    while (!atomic_load(&http->stop)) {
        int running = 0;
        int left = 0;
        CURLMsg *message = NULL;

        jobs_begin(http);
        (void)curl_multi_perform(http->multi, &running);
        bool ended = false;
        while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
            struct job *job = NULL;
            CURLcode result = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &job);
            job_end(job, result);
            ended = true;
        }
        if (!ended) {
            (void)curl_multi_poll(http->multi, NULL, 0, POLL_MS, NULL);
        }
    }
}

/* ---- life cycle ---- */

enum mr_err http_open(struct http **out, const struct mr_http_conf *conf, http_on_answer *on_answer,
                      void *arg, struct mr_error *why)
{
    enum mr_err err = http_conf_check(conf, why);

    *out = NULL;
    if (err != MR_OK) {
        return err;
    }
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT); /* counted; safe from any thread */
    mr_assert(code == CURLE_OK);
    struct http *http = mr_alloc(sizeof(*http));
    http->conf = conf;
    http->on_answer = on_answer;
    http->arg = arg;
    http->job_count = (uint32_t)conf->max_requests;
    http->jobs = mr_alloc(http->job_count * sizeof(*http->jobs));
    http->multi = curl_multi_init();
    mr_assert(http->multi != NULL);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)http->job_count);
    http->headers = curl_slist_append(http->headers, "Content-Type: application/json");
    if (conf->authorization != NULL) {
        char *header = mr_alloc(strlen(conf->authorization) + 32);
        struct mr_text text = mr_text_over(header, strlen(conf->authorization) + 32);
        mr_text_fmt(&text, "Authorization: %s", conf->authorization);
        http->headers = curl_slist_append(http->headers, header);
        mr_secret_wipe(header, text.len);
        mr_free(header);
    }
    mr_mutex_init(&http->mutex);
    err = mr_thread_start(&http->thread, "auth-http", http_run, http, why);
    if (err != MR_OK) {
        http_close(http);
        return err;
    }
    *out = http;
    return MR_OK;
}

enum mr_err http_ask(struct http *http, struct mr_auth_request *request)
{
    bool full = false;

    request->next = NULL;
    request->asked_ns = mr_clock_mono_ns();
    mr_mutex_lock(&http->mutex);
    full = http->waiting >= WAITING_MAX || atomic_load(&http->stop);
    if (!full && http->last != NULL) {
        http->last->next = request;
    } else if (!full) {
        http->first = request;
    }
    if (!full) {
        http->last = request;
        http->waiting += 1;
    }
    mr_mutex_unlock(&http->mutex);
    if (full) {
        return MR_ERR_FULL;
    }
    curl_multi_wakeup(http->multi);
    return MR_OK;
}

void http_stop(struct http *http)
{
    struct mr_auth_request *request = NULL;

    mr_mutex_lock(&http->mutex);
    atomic_store(&http->stop, true); /* nothing comes in behind it */
    mr_mutex_unlock(&http->mutex);
    if (http->thread != NULL) {
        curl_multi_wakeup(http->multi);
        mr_thread_join(http->thread);
        http->thread = NULL;
    }
    for (uint32_t i = 0; i < http->job_count; i++) {
        struct job *job = &http->jobs[i];
        if (job->request != NULL) {
            request = job->request;
            curl_multi_remove_handle(http->multi, job->curl);
            job->request = NULL;
            http->on_answer(http->arg, request, HTTP_DOWN);
        }
    }
    while ((request = waiting_take(http)) != NULL) {
        http->on_answer(http->arg, request, HTTP_DOWN);
    }
}

void http_close(struct http *http)
{
    if (http == NULL) {
        return;
    }
    http_stop(http);
    for (uint32_t i = 0; i < http->job_count; i++) {
        if (http->jobs[i].curl != NULL) {
            curl_easy_cleanup(http->jobs[i].curl);
            mr_secret_wipe(http->jobs[i].question, QUESTION_MAX);
        }
        mr_free(http->jobs[i].answer);
        mr_free(http->jobs[i].question);
    }
    curl_multi_cleanup(http->multi);
    for (struct curl_slist *one = http->headers; one != NULL; one = one->next) {
        mr_secret_wipe(one->data, strlen(one->data));
    }
    curl_slist_free_all(http->headers);
    mr_mutex_fini(&http->mutex);
    mr_free(http->jobs);
    mr_free(http);
    curl_global_cleanup();
}
