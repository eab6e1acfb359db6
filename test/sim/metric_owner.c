/* metric_owner.c - metrics outlive the simulated machine: their table is static, so the world's,
 * and would be a new one in a new process.  By the linker's --wrap.
 */
#include "base/metric.h"

#include "os/sim.h"

struct mr_metric *__real_mr_metric_new(enum mr_metric_kind kind, const char *name, const char *help,
                                       const char *labels);
struct mr_metric *__wrap_mr_metric_new(enum mr_metric_kind kind, const char *name, const char *help,
                                       const char *labels);

struct mr_metric *__wrap_mr_metric_new(enum mr_metric_kind kind, const char *name, const char *help,
                                       const char *labels)
{
    mr_sim_own(true);
    struct mr_metric *metric = __real_mr_metric_new(kind, name, help, labels);
    mr_sim_own(false);
    return metric;
}
