/* sim_thread.c - thread.h in the simulated world: many stacks, one at a time.
 *
 * DESIGN
 *
 * A thread is a stack of its own, and runs until it waits: for a wake, a loop, a
 * mutex, another thread's end, or the disk.  Then control goes back to the driver,
 * who lets the seed choose the next one among those that can run.  Nothing runs by
 * itself, so a seed is a complete description of every interleaving, and a crash is
 * to forget the stacks.
 *
 * Code that runs on the driver's own stack never waits; a wait there only looks.
 *
 * Rejected: real threads that take turns.  Each turn would be two futex calls and
 * the kernel's choice of when.
 *
 * INVARIANTS
 *
 *   (1) `now` is the thread that runs; NULL: the driver.
 *   (2) What a thread waits for is looked at by thread_can_run() alone.
 */
#include "os/sim/sim_internal.h"
#include "os/thread.h"

#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_BYTES = 1 << 20,
    STACKS_KEPT = 128,
    CAN_RUN_MAX = 256,
    PLACE = 5, /* words that the compiler's setjmp wants */
};

enum waits_for {
    WAITS_NOT,
    WAITS_WAKE,   /* or until_ns */
    WAITS_LOOP,   /* something ready, its wake, or until_ns */
    WAITS_MUTEX,  /* free */
    WAITS_THREAD, /* ended */
    WAITS_TIME,   /* until_ns */
};

struct mr_thread {
    struct mr_thread *next; /* list of all, in the order of their starts */
    void (*run)(void *arg);
    void *arg;
    ucontext_t first;   /* where it begins */
    void *place[PLACE]; /* where it goes on */
    void *stack;
    uint64_t number;
    bool begun;
    bool ended;
    enum waits_for waits;
    int64_t until_ns; /* INT64_MAX: no limit */
    const struct mr_wake *wake;
    const struct mr_loop *loop;
    const struct mr_mutex *mutex;
    const struct mr_thread *other;
    void *sanitizer; /* its own picture of the stack, while another runs */
};

static struct mr_thread *threads;
static struct mr_thread *now;
static uint64_t started;
static bool crashing;             /* the thread that has just stopped asked for it */
static bool dying;                /* the same, of its process's end */
static void *driver[PLACE];       /* where the driver goes on */
static void *stacks[STACKS_KEPT]; /* for the next threads */
static size_t stack_count;

/* ---- stacks ---- */

static void *stack_take(void)
{
    void *stack;

    if (stack_count > 0) {
        stack_count -= 1;
        stack = stacks[stack_count];
    } else {
        stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        mr_assert(stack != MAP_FAILED);
    }
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, STACK_BYTES);
#endif
    return stack;
}

static void stack_give(void *stack)
{
    if (stack_count < STACKS_KEPT) {
        stacks[stack_count] = stack;
        stack_count += 1;
    } else {
        mr_assert(munmap(stack, STACK_BYTES) == 0);
    }
}

/* ---- changing stacks ---- */

#if defined(__SANITIZE_ADDRESS__)
static const void *driver_stack;
static size_t driver_stack_bytes;
static void *driver_sanitizer;

static void announce_thread(const struct mr_thread *thread)
{
    __sanitizer_start_switch_fiber(&driver_sanitizer, thread->stack, STACK_BYTES);
}

static void arrived_at_driver(void)
{
    __sanitizer_finish_switch_fiber(driver_sanitizer, NULL, NULL);
}

static void announce_driver(struct mr_thread *thread)
{
    __sanitizer_start_switch_fiber(thread->ended ? NULL : &thread->sanitizer, driver_stack,
                                   driver_stack_bytes);
}

static void arrived_at_thread(void *sanitizer)
{
    __sanitizer_finish_switch_fiber(sanitizer, &driver_stack, &driver_stack_bytes);
}
#else
static void announce_thread(const struct mr_thread *thread)
{
    (void)thread;
}

static void arrived_at_driver(void) {}

static void announce_driver(struct mr_thread *thread)
{
    (void)thread;
}

static void arrived_at_thread(void *sanitizer)
{
    (void)sanitizer;
}
#endif

/* The compiler's own setjmp: swapcontext() would be two system calls, ten times the rest. */
static __attribute__((noinline)) _Noreturn void jump(void **place)
{
    __builtin_longjmp(place, 1);
}

static void stop_here(void)
{
    struct mr_thread *thread = now;

    announce_driver(thread);
    if (__builtin_setjmp(thread->place) == 0) {
        jump(driver);
    }
    arrived_at_thread(now->sanitizer);
}

static void thread_first(void)
{
    arrived_at_thread(NULL);
    now->run(now->arg);
    now->ended = true;
    stop_here();
}

static void go_there(struct mr_thread *thread)
{
    now = thread;
    announce_thread(thread);
    if (__builtin_setjmp(driver) == 0) {
        if (now->begun) {
            jump(now->place);
        }
        now->begun = true;
        (void)setcontext(&now->first);
    }
    arrived_at_driver();
    now = NULL;
}

/* Called by pointer, so that the compiler does not know them and takes no register for safe. */
static void (*volatile stop)(void) = stop_here;
static void (*volatile go)(struct mr_thread *thread) = go_there;

/* From the running thread to the driver, until it is chosen again. */
static void thread_stop(void)
{
    stop();
}

/* ---- waiting ---- */

static bool mutex_is_free(const struct mr_mutex *mutex)
{
    return mutex->opaque[0] == 0;
}

static bool thread_can_run(const struct mr_thread *thread)
{
    if (thread->ended) {
        return false;
    }
    switch (thread->waits) {
    case WAITS_NOT:
        return true;
    case WAITS_MUTEX:
        return mutex_is_free(thread->mutex);
    case WAITS_THREAD:
        return thread->other->ended;
    case WAITS_LOOP:
        if (sim_loop_is_ready(thread->loop)) {
            return true;
        }
        break;
    case WAITS_WAKE:
    case WAITS_TIME:
        break;
    }
    return thread->until_ns <= sim_now_ns() ||
           (thread->wake != NULL && atomic_load(&thread->wake->rung) != 0);
}

static int64_t until_of(int64_t timeout_ns)
{
    return timeout_ns < 0 || timeout_ns > INT64_MAX / 4 ? INT64_MAX : sim_now_ns() + timeout_ns;
}

static void thread_wait(enum waits_for what, int64_t timeout_ns)
{
    now->waits = what;
    now->until_ns = until_of(timeout_ns);
    thread_stop();
    now->waits = WAITS_NOT;
    now->wake = NULL;
}

bool sim_in_thread(void)
{
    return now != NULL;
}

void sim_thread_pause(int64_t ns)
{
    if (now != NULL) {
        thread_wait(ns > 0 ? WAITS_TIME : WAITS_NOT, ns);
    }
}

void sim_thread_wait_loop(const struct mr_loop *loop, const struct mr_wake *wake,
                          int64_t timeout_ns)
{
    if (now != NULL) {
        now->loop = loop;
        now->wake = wake;
        thread_wait(WAITS_LOOP, timeout_ns);
    }
}

void sim_thread_crash(void)
{
    crashing = true;
    thread_stop();
    mr_assert(false); /* nobody chooses it again */
}

void mr_sim_die(void)
{
    mr_assert(now != NULL);
    dying = true;
    thread_stop();
    mr_assert(false); /* nobody chooses it again */
}

/* ---- the driver's side ---- */

enum mr_sim_turn mr_sim_turn(void)
{
    struct mr_thread *can_run[CAN_RUN_MAX];
    size_t count = 0;

    mr_assert(now == NULL);
    for (struct mr_thread *one = threads; one != NULL; one = one->next) {
        if (thread_can_run(one)) {
            mr_assert(count < CAN_RUN_MAX);
            can_run[count] = one;
            count += 1;
        }
    }
    if (count == 0) {
        return MR_SIM_IDLE;
    }
    struct mr_thread *thread = can_run[mr_rng_below(sim_rng(), count)];
    sim_trace(SIM_TRACE_TURN, thread->number);
    go(thread);
    if (crashing) {
        mr_sim_crash();
        return MR_SIM_CRASHED;
    }
    if (dying) {
        mr_sim_kill();
        return MR_SIM_DIED;
    }
    return MR_SIM_RAN;
}

int64_t mr_sim_next_ns(void)
{
    int64_t next_ns = sim_net_next_ns();

    for (const struct mr_thread *one = threads; one != NULL; one = one->next) {
        bool has_limit = !one->ended && one->waits != WAITS_NOT && one->waits != WAITS_MUTEX;
        if (has_limit && one->until_ns < next_ns) {
            next_ns = one->until_ns;
        }
    }
    return next_ns;
}

bool sim_threads_forget(void)
{
    bool any = threads != NULL;

    mr_assert(now == NULL);
    while (threads != NULL) {
        struct mr_thread *thread = threads;
        threads = thread->next;
        stack_give(thread->stack);
        mr_free(thread);
    }
    crashing = false;
    dying = false;
    return any;
}

void sim_threads_stop(void)
{
    (void)sim_threads_forget();
    started = 0; /* stacks are kept for the next start */
}

/* ---- thread.h ---- */

enum mr_err mr_thread_start(struct mr_thread **out, const char *name, void (*run)(void *arg),
                            void *arg, struct mr_error *why)
{
    struct mr_thread *thread = sim_alloc(sizeof(*thread));
    struct mr_thread **link = &threads;

    (void)name;
    (void)why;
    thread->run = run;
    thread->arg = arg;
    thread->until_ns = INT64_MAX;
    thread->number = started;
    started += 1;
    thread->stack = stack_take();
    mr_assert(getcontext(&thread->first) == 0);
    thread->first.uc_stack.ss_sp = thread->stack;
    thread->first.uc_stack.ss_size = STACK_BYTES;
    thread->first.uc_link = NULL;
    makecontext(&thread->first, thread_first, 0);
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = thread;
    *out = thread;
    return MR_OK;
}

void mr_thread_join(struct mr_thread *thread)
{
    struct mr_thread **link = &threads;

    if (!thread->ended) {
        mr_assert(now != NULL); /* the driver does not wait: mr_sim_turn() */
        now->other = thread;
        thread_wait(WAITS_THREAD, -1);
    }
    while (*link != thread) {
        link = &(*link)->next;
    }
    *link = thread->next;
    stack_give(thread->stack);
    mr_free(thread);
}

enum mr_err mr_wake_open(struct mr_wake *wake, struct mr_error *why)
{
    (void)why;
    atomic_init(&wake->rung, 0);
    atomic_init(&wake->waiting, 0);
    wake->fd = sim_handle_open(SIM_WAKE, NULL);
    return MR_OK;
}

void mr_wake_close(struct mr_wake *wake)
{
    if (sim_handle_kind(wake->fd) == SIM_WAKE) { /* a crash has closed it already */
        sim_handle_close(wake->fd);
    }
    wake->fd = -1;
}

void mr_wake_ring(struct mr_wake *wake)
{
    atomic_store(&wake->rung, 1);
}

bool mr_wake_wait(struct mr_wake *wake, int64_t timeout_ns)
{
    if (now != NULL) {
        now->wake = wake;
        thread_wait(WAITS_WAKE, timeout_ns);
    }
    return atomic_exchange(&wake->rung, 0) != 0;
}

int mr_wake_fd(const struct mr_wake *wake)
{
    return wake->fd;
}

/* On one stack a mutex that is taken twice would never be given back, so it
 * remembers that it is taken.
 */
void mr_mutex_init(struct mr_mutex *mutex)
{
    mutex->opaque[0] = 0;
}

void mr_mutex_fini(struct mr_mutex *mutex)
{
    mr_assert(mutex_is_free(mutex));
}

void mr_mutex_lock(struct mr_mutex *mutex)
{
    while (!mutex_is_free(mutex)) {
        mr_assert(now != NULL);
        now->mutex = mutex;
        thread_wait(WAITS_MUTEX, -1);
    }
    mutex->opaque[0] = 1;
}

void mr_mutex_unlock(struct mr_mutex *mutex)
{
    mr_assert(!mutex_is_free(mutex));
    mutex->opaque[0] = 0;
}
