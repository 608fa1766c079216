/* The compute threads: they run one step together, meeting at barriers, and sleep between steps.
 *
 * Work inside a phase is taken tile by tile from one counter, so a thread that the machine holds up takes fewer. At a
 * barrier a thread spins for some microseconds, then yields its core at each look: on a machine that other work shares,
 * the thread it waits for may need that very core.
 */
#ifndef GENKAN_TEAM_H
#define GENKAN_TEAM_H

#include <pthread.h>
#include <stdatomic.h>

typedef struct Team Team;
typedef void (*Job)(void *work, Team *team, int thread);

struct Team {
    int size;
    _Alignas(64) atomic_int next_tile;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int phase;
    _Alignas(64) atomic_int round; /* counts jobs; the threads wait for it to change */
    Job job;
    void *work;
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_t *threads;
};

/* NULL when the threads cannot be had. `size` counts the calling thread too. */
Team *team_create(int size);
void team_destroy(Team *team);
/* Run `job` on every thread of the team, the caller being thread 0, and return when all have ended it. */
void team_run(Team *team, Job job, void *work);
/* Wait for all threads; then tiles count from 0 again. */
void team_barrier(Team *team);

static inline int team_tile(Team *team) { return atomic_fetch_add_explicit(&team->next_tile, 1, memory_order_relaxed); }

#endif
