/* See team.h. */
#include "team.h"

#include <sched.h>
#include <stdlib.h>

enum { SPINS_AT_BARRIER = 2000, SPINS_WHEN_IDLE = 500 };

typedef struct {
    Team *team;
    int thread;
} Member;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void team_barrier(Team *team) {
    int phase = atomic_load_explicit(&team->phase, memory_order_acquire);
    if (atomic_fetch_add(&team->arrived, 1) == team->size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next_tile, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; looks++) {
        if (looks < SPINS_AT_BARRIER)
            relax();
        else
            sched_yield();
    }
}

static int next_round(Team *team, int last) {
    for (int looks = 0; looks < SPINS_WHEN_IDLE; looks++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != last) return last + 1;
        relax();
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load_explicit(&team->round, memory_order_acquire) == last)
        pthread_cond_wait(&team->called, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return last + 1;
}

static void *member_main(void *argument) {
    Member member = *(Member *)argument;
    free(argument);
    for (int round = 0;;) {
        round = next_round(member.team, round);
        if (member.team->job == NULL) return NULL;
        member.team->job(member.team->work, member.team, member.thread);
        team_barrier(member.team);
    }
}

static void begin_round(Team *team, Job job, void *work) {
    pthread_mutex_lock(&team->lock);
    team->job = job;
    team->work = work;
    atomic_fetch_add_explicit(&team->round, 1, memory_order_release);
    pthread_cond_broadcast(&team->called);
    pthread_mutex_unlock(&team->lock);
}

void team_run(Team *team, Job job, void *work) {
    atomic_store(&team->next_tile, 0);
    begin_round(team, job, work);
    job(work, team, 0);
    team_barrier(team);
}

void team_destroy(Team *team) {
    begin_round(team, NULL, NULL);
    for (int i = 1; i < team->size; i++) pthread_join(team->threads[i], NULL);
    pthread_mutex_destroy(&team->lock);
    pthread_cond_destroy(&team->called);
    free(team->threads);
    free(team);
}

static int start_member(Team *team, int thread) {
    Member *member = malloc(sizeof *member);
    if (member == NULL) return -1;
    *member = (Member){team, thread};
    if (pthread_create(&team->threads[thread], NULL, member_main, member) == 0) return 0;
    free(member);
    return -1;
}

Team *team_create(int size) {
    Team *team = aligned_alloc(64, sizeof *team);
    if (team == NULL) return NULL;
    *team = (Team){.size = 1, .threads = calloc((size_t)size, sizeof(pthread_t))};
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->called, NULL);
    int started = 1;
    while (team->threads != NULL && started < size && start_member(team, started) == 0) started++;
    team->size = started; /* read by the members only once a round has begun */
    if (started == size) return team;
    team_destroy(team);
    return NULL;
}
