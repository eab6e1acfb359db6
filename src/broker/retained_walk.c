/* retained_walk.c - the retained messages that a filter matches, a step at a time.
 *
 * DESIGN
 *
 * A walk goes through the tree in preorder.  Where it stands is a node, and the level of the
 * filter that what is below that node has to match; so it needs no stack, however deep the
 * filter, and each step costs a look-up (a level that is known) or a neighbour ('+', '#').
 *
 * Between two steps the tree may change.  The node where a walk pauses stays in its place
 * until the walk goes on, and with it all above; children are added in front of
 * their list, which the walk has behind it, and are removed without moving others.  So what
 * is there all the time is found once; what is added meanwhile may be found or not, and who
 * subscribed gets it as a live message.
 *
 * INVARIANTS
 *
 *   (1) `level` is where a level of the filter begins, or filter.len + 1: there is none.
 *   (2) below != 0: the level at `level` is '#', and the node so many levels below its parent.
 */
#include "broker/retained_internal.h"

void retained_walk_begin(const struct mr_shard *shard, struct retained_walk *walk)
{
    *walk = (struct retained_walk){.at = shard->retained == NULL ? NULL : shard->retained->root};
}

static bool is_wildcard(struct mr_span filter, size_t level)
{
    return level < filter.len && (filter.at[level] == '+' || filter.at[level] == '#');
}

static bool is_rest(struct mr_span filter, size_t level)
{
    return level < filter.len && filter.at[level] == '#';
}

static size_t level_end(struct mr_span filter, size_t level)
{
    const uint8_t *slash =
        level < filter.len ? memchr(filter.at + level, '/', filter.len - level) : NULL;

    return slash == NULL ? filter.len : (size_t)(slash - filter.at);
}

/* Where the level begins that ends in front of `level`. */
static size_t level_before(struct mr_span filter, size_t level)
{
    size_t at = level - 1;

    while (at > 0 && filter.at[at - 1] != '/') {
        at -= 1;
    }
    return at;
}

/* To the first child that matches.  False: there is none. */
static bool walk_down(const struct mr_shard *shard, struct retained_walk *walk,
                      struct mr_span filter)
{
    struct retained_node *child;

    if (walk->level > filter.len) {
        return false;
    }
    size_t end = level_end(filter, walk->level);
    if (is_wildcard(filter, walk->level)) {
        child = walk->at->children;
    } else {
        child = retained_child(shard, walk->at,
                               mr_span_make(filter.at + walk->level, end - walk->level));
    }
    if (child == NULL) {
        return false;
    }
    walk->at = child;
    if (is_rest(filter, walk->level)) {
        walk->below += 1;
    } else {
        walk->level = (uint32_t)end + 1;
    }
    return true;
}

/* To the next one that is not below: a sibling, or one of a node above.  NULL: none. */
static void walk_on(struct retained_walk *walk, struct mr_span filter)
{
    while (walk->at->parent != NULL) {
        size_t level =
            walk->below != 0 ? walk->level : level_before(filter, walk->level); /* it matched */
        struct retained_node *next = is_wildcard(filter, level) ? walk->at->next : NULL;
        if (next != NULL) {
            walk->at = next;
            return;
        }
        walk->at = walk->at->parent;
        if (walk->below != 0) {
            walk->below -= 1;
        } else {
            walk->level = (uint32_t)level;
        }
    }
    walk->at = NULL;
}

/* No wildcard of the first level stands for it [MQTT-4.7.2-1].  It costs a step like any other, for
 * there may be very many.
 */
static bool is_shut(const struct mr_shard *shard, const struct retained_walk *walk,
                    struct mr_span filter)
{
    const struct retained_node *node = walk->at;

    return node->parent == shard->retained->root && node->level_len != 0 && node->level[0] == '$' &&
           is_wildcard(filter, 0);
}

struct kept *retained_walk_next(struct mr_shard *shard, struct retained_walk *walk,
                                struct mr_span filter, uint32_t *steps)
{
    struct kept *found = NULL;

    while (walk->at != NULL && *steps != 0 && found == NULL) {
        struct retained_node *left = walk->at;
        *steps -= 1;
        if (is_shut(shard, walk, filter) || !walk_down(shard, walk, filter)) {
            walk_on(walk, filter);
        }
        if (walk->at != NULL && !is_shut(shard, walk, filter) &&
            (walk->level > filter.len || is_rest(filter, walk->level))) {
            found = walk->at->kept; /* "sport/#" finds "sport" too */
            walk->stamp = walk->at->stamp;
        }
        if (MR_UNLIKELY(left->kept == NULL && left->children == NULL)) {
            retained_prune(shard, left); /* emptied while it waited here */
        }
    }
    return found;
}

void retained_walk_pause(struct retained_walk *walk)
{
    if (walk->at != NULL) {
        walk->at->walks += 1;
    }
}

void retained_walk_resume(struct retained_walk *walk)
{
    if (walk->at != NULL) {
        walk->at->walks -= 1;
    }
}

void retained_walk_end(struct mr_shard *shard, struct retained_walk *walk)
{
    if (walk->at != NULL) {
        walk->at->walks -= 1;
        retained_prune(shard, walk->at);
        walk->at = NULL;
    }
}
