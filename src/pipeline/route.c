/* route.c - from client, user name and topic to destination and key, once per name.
 *
 * DESIGN
 *
 * The journal numbers the names of a segment.  The reader keeps one pointer of
 * ours per number, so an event costs one load to find its route; the work below
 * is done once per name and segment.  A route's texts are copies: the first event
 * of a name borrows from its view, the route lives as long as the segment's names.
 *
 * Events that the journal stores without a number (more than 65,536 names in a
 * segment) get a route in the span's own memory.
 *
 * Destinations live as long as the bridge and are few (`dests_max`, all lanes
 * together), so that no device can fill the target with topics of its own invention.
 *
 * Rejected: one route table per bridge, keyed by hash.  It would need eviction,
 * and a look-up per event where an index does.
 */
#include "pipeline/bridge_internal.h"

#include "base/hash.h"
#include "codec/topic.h"

#include <stdio.h>

static struct route route_skip = {.kind = ROUTE_SKIP};

static void dests_open(struct dests *dests, uint32_t max)
{
    dests->max = max;
    dests->items = mr_alloc(max * sizeof(*dests->items));
    dests->hashes = mr_alloc(max * sizeof(*dests->hashes));
    dests->place_mask = 1;
    while (dests->place_mask < 2 * max) {
        dests->place_mask = 2 * dests->place_mask + 1;
    }
    dests->places = mr_alloc((dests->place_mask + (size_t)1) * sizeof(*dests->places));
}

enum mr_err mr_dests_open(struct mr_bridge *b, struct mr_error *why)
{
    if (b->shape.dests_max == 0) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "bridge '%s': %s: at least one destination must be "
                            "allowed",
                            b->name, b->shape.dest_option);
    }
    dests_open(&b->dests, b->shape.dests_max);
    return MR_OK;
}

/* After the sink's fini(), which owns sink_data. */
void mr_dests_close(struct dests *dests)
{
    for (uint32_t i = 0; i < dests->count; i++) {
        mr_free((void *)(uintptr_t)dests->items[i]->name);
        mr_free(dests->items[i]);
    }
    mr_free(dests->items);
    mr_free(dests->hashes);
    mr_free(dests->places);
}

/* NULL: not there; then *place is where it would stand. */
static struct mr_dest *dests_find(const struct dests *dests, struct mr_span name, uint32_t hash,
                                  uint32_t *place)
{
    /* Never more than half full, so a free place ends the search. */
    for (*place = hash & dests->place_mask; dests->places[*place] != 0;
         *place = (*place + 1) & dests->place_mask) {
        uint32_t i = dests->places[*place] - 1;
        if (dests->hashes[i] == hash && mr_span_is(name, dests->items[i]->name)) {
            return dests->items[i];
        }
    }
    return NULL;
}

/* NULL: there are as many as are allowed. */
static struct mr_dest *dests_add(struct dests *dests, struct mr_span name, uint32_t hash,
                                 uint32_t place)
{
    if (dests->count == dests->max) {
        return NULL;
    }
    struct mr_dest *dest = mr_alloc(sizeof(*dest));
    dest->name = mr_strndup((const char *)name.at, name.len);
    dests->items[dests->count] = dest;
    dests->hashes[dests->count] = hash;
    dests->count += 1;
    dests->places[place] = dests->count;
    return dest;
}

/* The bound is the bridge's, not each lane's: may it lead to this one as well? */
static bool group_allows(struct mr_bridge *b, struct mr_span name, uint32_t hash)
{
    struct mr_bridge_group *group = b->options.group;
    uint32_t place;

    if (group == NULL) {
        return true;
    }
    mr_mutex_lock(&group->mutex);
    if (group->dests.max == 0) {
        dests_open(&group->dests, b->shape.dests_max);
    }
    bool allowed = dests_find(&group->dests, name, hash, &place) != NULL ||
                   dests_add(&group->dests, name, hash, place) != NULL;
    mr_mutex_unlock(&group->mutex);
    return allowed;
}

/* Find or make a destination; NULL with a reason. */
struct mr_dest *mr_dest_of(struct mr_bridge *b, struct mr_span name, struct mr_error *why)
{
    uint32_t hash = mr_murmur2(name.at, name.len);
    uint32_t place;
    struct mr_dest *dest = dests_find(&b->dests, name, hash, &place);

    if (MR_LIKELY(dest != NULL)) {
        return dest;
    }
    const char *refused = b->shape.dest_refused == NULL ? NULL : b->shape.dest_refused(name);
    if (refused != NULL) {
        (void)mr_error_set(why, MR_ERR_REJECT, "%s '%.*s': %s", b->shape.dest_option,
                           (int)(name.len < 128 ? name.len : 128), (const char *)name.at, refused);
        return NULL;
    }
    dest = group_allows(b, name, hash) ? dests_add(&b->dests, name, hash, place) : NULL;
    if (dest == NULL) {
        (void)mr_error_set(why, MR_ERR_REJECT, "%s '%.*s' would be one more than the %u allowed",
                           b->shape.dest_option, (int)(name.len < 128 ? name.len : 128),
                           (const char *)name.at, b->dests.max);
    }
    return dest;
}

/* The first filter that matches; without filters NULL, and everything matches. */
const char *mr_route_filter(const struct mr_list *from, struct mr_span topic, bool *matches)
{
    const char *filter = mr_topic_first_match(from->items, from->count, topic);

    *matches = filter != NULL || from->count == 0;
    return filter;
}

static struct mr_span put_text(uint8_t **at, struct mr_span text)
{
    struct mr_span copy = {.at = *at, .len = text.len};

    if (text.len != 0) {
        memcpy(*at, text.at, text.len);
    }
    *at += text.len;
    return copy;
}

/* Memory for a route with `texts` bytes behind it: the pool's for a named one,
 * the span's for a nameless one.
 */
static struct route *route_memory(struct mr_bridge *b, size_t texts, bool named)
{
    size_t size = sizeof(struct route) + texts;
    struct route *route = NULL;
    size_t capacity = 0;

    if (named) {
        route = (void *)mr_bufpool_take(&b->route_pool, size, &capacity);
    }
    if (route == NULL) {
        capacity = 0;
        route = (void *)mr_bytes_take(&b->bytes, size);
    }
    if (route != NULL) {
        *route = (struct route){.capacity = capacity};
    }
    return route;
}

static struct route *route_dead(struct mr_bridge *b, const char *reason, bool named)
{
    size_t len = strlen(reason) + 1;
    struct route *route = route_memory(b, len, named);

    if (route != NULL) {
        memcpy(route + 1, reason, len);
        route->kind = ROUTE_DEAD;
        route->reason = (const char *)(route + 1);
    }
    return route;
}

/* What follows from the names: the destination (unless it varies), the key (unless
 * it varies) at `at`.  False with a reason.
 */
static bool route_fill(struct mr_bridge *b, const struct mr_template_vars *vars, uint8_t *at,
                       struct mr_route *out, struct mr_error *why)
{
    const struct shaping *shaping = &b->shaping;
    size_t len = 0;

    *out = (struct mr_route){.partition = -1};
    if (!shaping->dest_varies) {
        if (mr_template_render(shaping->dest, vars, at, &len, why) != MR_OK) {
            return false;
        }
        out->dest = mr_dest_of(b, mr_span_make(at, len), why);
        if (out->dest == NULL) {
            return false;
        }
    }
    if (shaping->key != NULL && !shaping->key_varies) {
        if (mr_template_render(shaping->key, vars, at, &len, why) != MR_OK) {
            return false;
        }
        out->key = mr_span_make(at, len);
    }
    return true;
}

static struct route *route_make(struct mr_bridge *b, const struct mr_event *event, bool named)
{
    const struct shaping *shaping = &b->shaping;
    struct mr_template_vars vars = {
        .client = event->client, .username = event->username, .topic = event->topic};
    size_t key_size =
        shaping->key == NULL || shaping->key_varies ? 0 : mr_template_size(shaping->key, &vars);
    size_t dest_size = shaping->dest_varies ? 0 : mr_template_size(shaping->dest, &vars);
    size_t texts = event->client.len + event->username.len + event->topic.len + key_size;
    struct mr_error why = {.code = MR_OK};

    /* The destination's name is needed only here: it is rendered where the rest
     * of the texts will stand, then looked up. */
    struct route *route = route_memory(b, texts > dest_size ? texts : dest_size, named);
    if (route == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(route + 1);
    if (!route_fill(b, &vars, at, &route->pub, &why)) {
        if (route->capacity != 0) {
            mr_route_drop(b, route);
        }
        return route_dead(b, why.text, named);
    }
    route->kind = ROUTE_SEND;
    at += route->pub.key.len;
    route->pub.client = put_text(&at, event->client);
    route->pub.username = put_text(&at, event->username);
    route->pub.topic = put_text(&at, event->topic);
    return route;
}

/* The event's route; NULL: no memory for it now, try when spans have retired. */
struct route *mr_route_of(struct mr_bridge *b, const struct mr_view *view,
                          const struct mr_event *event)
{
    void **slot = NULL;

    if (MR_LIKELY(event->name_id < MR_NAMES_MAX)) {
        slot = mr_names_slot(view->names, event->name_id);
        if (MR_LIKELY(*slot != NULL)) {
            return *slot;
        }
    }
    bool matches;
    (void)mr_route_filter(&b->options.conf->from, event->topic, &matches);
    if (!matches && event->type == MR_RECORD_EVENT) { /* what is retried has matched before */
        if (slot != NULL) {
            *slot = &route_skip;
        }
        return &route_skip;
    }

    struct route *route = route_make(b, event, slot != NULL);
    if (slot != NULL && route != NULL && route->capacity != 0) {
        *slot = route;
    }
    return route;
}

void mr_route_drop(void *bridge, void *route)
{
    struct mr_bridge *b = bridge;
    struct route *r = route;

    if (r != &route_skip) {
        mr_bufpool_give(&b->route_pool, (uint8_t *)r, r->capacity);
    }
}
