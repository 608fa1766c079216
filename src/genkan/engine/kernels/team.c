/* See team.h. */
#include "team.h"

#include <sched.h>
#include <stdlib.h>

enum { SPINS_IN_PHASE = 2000, SPINS_WHEN_IDLE = 500 };

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

int team_tile(Member *member, int total) {
    _Atomic uint64_t *taken = &member->team->taken;
    uint64_t now = atomic_load_explicit(taken, memory_order_acquire);
    while (now / MAX_TILES == member->phase && (int)(now % MAX_TILES) < total) {
        if (atomic_compare_exchange_weak_explicit(taken, &now, now + 1, memory_order_acquire, memory_order_acquire))
            return (int)(now % MAX_TILES);
    }
    return -1;
}

void team_done(Member *member, int total) {
    Team *team = member->team;
    if (atomic_fetch_add_explicit(&team->done, 1, memory_order_acq_rel) + 1 < (uint64_t)total) return;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store_explicit(&team->taken, (member->phase + 1) * MAX_TILES, memory_order_release);
}

void team_next(Member *member, int total) {
    if (total == 0) return;
    _Atomic uint64_t *taken = &member->team->taken;
    for (int looks = 0; atomic_load_explicit(taken, memory_order_acquire) / MAX_TILES == member->phase; looks++) {
        if (looks < SPINS_IN_PHASE)
            relax();
        else
            sched_yield();
    }
    member->phase++;
}

/* Phases are numbered on through all rounds, so that no late thread takes those of another round for its own. */
static uint64_t first_phase(uint32_t round) { return (uint64_t)(round % ROUNDS) * MAX_PHASES; }

/* The round is the newest, which may not be the one after `last`: then the others did without this thread. */
static uint32_t wait_for_round(Team *team, uint32_t last, Job *job, void **work) {
    for (int looks = 0; looks < SPINS_WHEN_IDLE; looks++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != last) break;
        relax();
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load_explicit(&team->round, memory_order_relaxed) == last)
        pthread_cond_wait(&team->called, &team->lock);
    uint32_t round = atomic_load_explicit(&team->round, memory_order_relaxed);
    *job = team->job;
    *work = team->work;
    pthread_mutex_unlock(&team->lock);
    return round;
}

static void *member_main(void *argument) {
    Member member = *(Member *)argument;
    free(argument);
    for (uint32_t round = 0;;) {
        Job job;
        void *work;
        round = wait_for_round(member.team, round, &job, &work);
        if (job == NULL) return NULL;
        member.phase = first_phase(round);
        job(work, &member);
    }
}

static uint32_t begin_round(Team *team, Job job, void *work) {
    pthread_mutex_lock(&team->lock);
    uint32_t round = atomic_load_explicit(&team->round, memory_order_relaxed) + 1;
    team->job = job;
    team->work = work;
    atomic_store_explicit(&team->taken, first_phase(round) * MAX_TILES, memory_order_release);
    atomic_store_explicit(&team->round, round, memory_order_release);
    pthread_cond_broadcast(&team->called);
    pthread_mutex_unlock(&team->lock);
    return round;
}

/* Close the round: the number of no phase, so that whoever is late finds no tile, however it counts. */
static void end_round(Team *team, uint32_t round) {
    uint64_t beyond = first_phase(round) + MAX_PHASES - 1;
    atomic_store_explicit(&team->taken, beyond * MAX_TILES, memory_order_release);
}

void team_run(Team *team, Job job, void *work) {
    uint32_t round = begin_round(team, job, work);
    Member caller = {.team = team, .phase = first_phase(round), .thread = 0};
    job(work, &caller);
    end_round(team, round);
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
    *member = (Member){.team = team, .thread = thread};
    if (pthread_create(&team->threads[thread], NULL, member_main, member) == 0) return 0;
    free(member);
    return -1;
}

Team *team_create(int size) {
    Team *team = aligned_alloc(64, sizeof *team);
    if (team == NULL) return NULL;
    *team = (Team){.threads = calloc((size_t)size, sizeof(pthread_t))};
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->called, NULL);
    team->size = 1;
    while (team->threads && team->size < size && start_member(team, team->size) == 0) team->size++;
    if (team->threads && team->size == size) return team;
    team_destroy(team);
    return NULL;
}
