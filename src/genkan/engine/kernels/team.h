/* The compute threads: they run one step together, phase by phase, and sleep between steps.
 *
 * A phase is a number of tiles. Each is taken by one thread, and the phase is over when all are done: no thread waits
 * for another that has nothing in hand. So a thread whose core the machine gives to other work for a while holds up
 * one tile at most, and finds its way through the phases it missed when it comes back; all threads go through the same
 * phases in the same order, and count them.
 *
 * A thread that waits spins for some microseconds, then yields its core at each look: the thread that it waits for may
 * need that very core.
 */
#ifndef GENKAN_TEAM_H
#define GENKAN_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MAX_PHASES = 1 << 12, MAX_TILES = 1 << 24, ROUNDS = 1 << 28 }; /* of a step; of a phase; then counted anew */

typedef struct Team Team;

/* One thread's way through a step. */
typedef struct {
    Team *team;
    uint64_t phase;
    int thread;
} Member;

typedef void (*Job)(void *work, Member *member);

struct Team {
    int size;
    _Alignas(64) _Atomic uint64_t taken; /* phase * MAX_TILES + its tiles that are taken */
    _Alignas(64) _Atomic uint64_t done;  /* tiles of this phase */
    _Alignas(64) _Atomic uint32_t round; /* counts jobs; the threads wait for it to change */
    Job job;
    void *work;
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_t *threads;
};

/* NULL when the threads cannot be had. `size` counts the calling thread too. */
Team *team_create(int size);
void team_destroy(Team *team);

/* Run `job` on the team, the caller being thread 0, and return when all its phases are over; there are fewer than
 * MAX_PHASES. A thread that was late may then still be on its way through, and for as long as it takes: it gets no tile
 * any more, but it looks at `work` to count tiles, so that is to stay readable, though it may change. */
void team_run(Team *team, Job job, void *work);

/* A tile of this phase, from 0 to `total` - 1, for this thread alone, or -1 when all are taken. */
int team_tile(Member *member, int total);
/* The tile is done, and what it wrote can be read in the next phase. */
void team_done(Member *member, int total);
/* Go on to the next phase once this one is over. A phase without tiles is none. */
void team_next(Member *member, int total);

#endif
