/* A team through many rounds of differing phases, some of its threads held up at random: every tile of every phase is done
 * once, after the phase before it and before the next. Ends with 1 when one was not. Arguments: threads, rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "team.h"

enum { PHASES = 40, TILES = 64 };

typedef struct {
    int phases, tiles[PHASES];
    long cells[PHASES + 1][TILES];
} Work;

static long sum_of(const long *cells) {
    long sum = 1;
    for (int i = 0; i < TILES; i++) sum += cells[i];
    return sum % 1000003;
}

static void job(void *work, Member *me) {
    Work *w = work;
    for (int phase = 0; phase < w->phases; phase++) {
        int tiles = w->tiles[phase];
        if (me->thread > 0 && rand() % 64 == 0) usleep(20); /* as when the machine gives the core to other work */
        for (int tile; (tile = team_tile(me, tiles)) >= 0; team_done(me, tiles))
            w->cells[phase + 1][tile] = sum_of(w->cells[phase]) + tile;
        team_next(me, tiles);
    }
}

static void plan(Work *w, int round) {
    memset(w->cells, 0, sizeof w->cells);
    w->cells[0][0] = round;
    w->phases = 1 + rand() % PHASES;
    for (int phase = 0; phase < w->phases; phase++) w->tiles[phase] = rand() % 4 == 0 ? rand() % 3 : rand() % TILES;
}

static int is_right(const Work *w) {
    for (int phase = 0; phase < w->phases; phase++)
        for (int tile = 0; tile < TILES; tile++)
            if (w->cells[phase + 1][tile] != (tile < w->tiles[phase] ? sum_of(w->cells[phase]) + tile : 0)) return 0;
    return 1;
}

int main(int count, char **arguments) {
    static Work work; /* a late thread may look at it at any time */
    Team *team = count == 3 ? team_create(atoi(arguments[1])) : NULL;
    if (team == NULL) return 2;
    for (int round = 0; round < atoi(arguments[2]); round++) {
        plan(&work, round);
        team_run(team, job, &work);
        if (!is_right(&work)) {
            printf("round %d is wrong\n", round);
            return 1;
        }
    }
    team_destroy(team);
    return 0;
}
