/* One forward pass of a decoder: token ids to logits, every layer, on a team of threads.
 *
 * A batch is a list of sequences, each with the new tokens it computes now (one while it decodes, a chunk of its prompt
 * before) and the table of its KV tiles. The whole step is one call, so between layers there is nothing to
 * pay for but waiting for the last tile.
 */
#include <stdlib.h>
#include <string.h>

#include "amx.h"
#include "attention.h"
#include "heads.h"
#include "linear.h"
#include "norm.h"
#include "simd.h"
#include "team.h"

enum { QKV_PARTS = 3 };

/* Vectors that a layer does not have are NULL. */
typedef struct {
    Linear qkv[QKV_PARTS]; /* one, or one each for queries, keys and values; those that are not there have no panels */
    Linear out, gate_up, down;
    const float *attention_norm, *ffn_norm;
    const float *qkv_bias, *query_norm, *key_norm;      /* see heads.h */
    const float *after_attention_norm, *after_ffn_norm; /* before the sum with the residual */
    const float *cosine, *sine;                         /* [positions, head_dim / 2] */
    int32_t window;                                     /* see attention.h */
} Layer;

typedef struct {
    int32_t layers, hidden, heads, kv_heads, head_dim, ffn;
    int32_t bf16;
    int32_t gelu; /* the gate's activation; else silu */
    float norm_epsilon, attention_scale, embedding_scale;
    const Layer *layer;
    Linear embedding, head;
    const float *final_norm;
    uint8_t *keys, *values; /* [layers] caches, one after the other */
    int64_t cache_bytes;    /* of keys of one layer, and of values as many */
} Model;

typedef struct {
    int32_t sequences;
    int32_t rows;
    const int32_t *ids;       /* [rows], the sequences' new tokens one after the other */
    const int32_t *first_row; /* [sequences + 1] */
    const int32_t *position;  /* [sequences], of the first new token */
    const int32_t *tables;    /* KV tiles of all sequences */
    const int32_t *table_at;  /* [sequences], where a sequence's begin */
    int32_t outputs;
    const int32_t *output_row; /* [outputs], the rows whose logits are wanted, rising */
    float *logits;             /* [outputs, vocabulary] */
} Batch;

typedef struct {
    int32_t sequence, first, count; /* queries of one sequence that one thread takes at once */
} QueryTile;

typedef struct Workspace Workspace;

typedef struct {
    const Model *model;
    Workspace *workspace;
    Batch batch;
    int32_t num_tiles;
} Step;

struct Workspace {
    Team *team;
    int32_t amx;
    LinearScratch *scratch; /* one a thread */
    int64_t row_capacity, tile_capacity;
    float *residual;   /* [rows, hidden] */
    float *branch;     /* [rows, hidden], what is normed before it is added to the residual */
    float *qkv;        /* [rows, (heads + 2 kv_heads) * head_dim] */
    void *input;       /* [rows, hidden or heads * head_dim], the precision of products */
    void *middle;      /* [rows, ffn], likewise */
    QueryTile *tiles;
    Step step;
};

static int qkv_width(const Model *m) { return (m->heads + 2 * m->kv_heads) * m->head_dim; }

/* ---- phases ---- */

static void embed(const Step *s, Member *me) {
    const Model *m = s->model;
    int rows = s->batch.rows;
    for (int row; (row = team_tile(me, rows)) >= 0; team_done(me, rows)) {
        float *residual = s->workspace->residual + (int64_t)row * m->hidden;
        linear_row(&m->embedding, s->batch.ids[row], residual);
        for (int i = 0; m->embedding_scale != 1 && i < m->hidden; i++) residual[i] *= m->embedding_scale;
    }
    team_next(me, rows);
}

static void norm_row(const Model *m, const float *x, const float *weight, void *out, int64_t at) {
    float factor = norm_factor(x, m->hidden, m->norm_epsilon);
    for (int i = 0; i < m->hidden; i += LANES) {
        vf v = load_f(x + i) * factor * load_f(weight + i);
        if (m->bf16)
            store_bf16((uint16_t *)out + at + i, v);
        else
            store_f((float *)out + at + i, v);
    }
}

static void add_normed_row(const Model *m, const float *x, const float *weight, float *residual) {
    float factor = norm_factor(x, m->hidden, m->norm_epsilon);
    for (int i = 0; i < m->hidden; i += LANES)
        store_f(residual + i, load_f(residual + i) + load_f(x + i) * factor * load_f(weight + i));
}

/* Norms of `count` rows of the residual, `which` of them or all, into the input of the next product. Where the layer
 * norms what it adds to the residual, by `after`, that is added only now. */
static void norm(const Step *s, const float *after, const float *weight, const int32_t *which, int count, Member *me) {
    const Model *m = s->model;
    const Workspace *w = s->workspace;
    for (int i; (i = team_tile(me, count)) >= 0; team_done(me, count)) {
        int64_t at = (int64_t)(which ? which[i] : i) * m->hidden;
        if (after) add_normed_row(m, w->branch + at, after, w->residual + at);
        norm_row(m, w->residual + at, weight, w->input, (int64_t)i * m->hidden);
    }
    team_next(me, count);
}

static void write_cache(const Step *s, const Layer *l, const Cache *cache, Member *me) {
    const Model *m = s->model;
    const Batch *b = &s->batch;
    Heads heads = {m->heads, m->kv_heads, m->head_dim, m->norm_epsilon, l->qkv_bias, l->query_norm, l->key_norm};
    int half = m->head_dim / 2, tiles = s->num_tiles;
    for (int tile; (tile = team_tile(me, tiles)) >= 0; team_done(me, tiles)) {
        QueryTile t = s->workspace->tiles[tile];
        const int32_t *table = b->tables + b->table_at[t.sequence];
        for (int q = t.first; q < t.first + t.count; q++) {
            int64_t position = b->position[t.sequence] + q;
            float *qkv = s->workspace->qkv + (int64_t)(b->first_row[t.sequence] + q) * qkv_width(m);
            heads_prepare(&heads, qkv, l->cosine + position * half, l->sine + position * half);
            attention_write(cache, qkv, table[position / TOKENS_PER_TILE], (int32_t)(position % TOKENS_PER_TILE));
        }
    }
    team_next(me, tiles);
}

static void attend(const Step *s, const Cache *cache, Member *me) {
    const Model *m = s->model;
    const Batch *b = &s->batch;
    int tiles = s->num_tiles * m->kv_heads, width = m->heads * m->head_dim;
    for (int i; (i = team_tile(me, tiles)) >= 0; team_done(me, tiles)) {
        QueryTile t = s->workspace->tiles[i / m->kv_heads];
        int64_t row = b->first_row[t.sequence] + t.first;
        attention_run(cache, i % m->kv_heads, b->tables + b->table_at[t.sequence], b->position[t.sequence] + t.first,
                      t.count, s->workspace->qkv + row * qkv_width(m), qkv_width(m),
                      (uint8_t *)s->workspace->input + row * width * (m->bf16 ? 2 : 4));
    }
    team_next(me, tiles);
}

static void product(const Step *s, const Linear *parts, int count, const void *in, int rows, Output out, Member *me) {
    Input input = {in, rows, s->model->bf16, s->model->bf16 && s->workspace->amx};
    linear_run(parts, count, input, out, &s->workspace->scratch[me->thread], me);
}

/* Where a product goes that is to be added to the residual: `after` says whether it is normed before. */
static Output onto_residual(const Step *s, const float *after) {
    const Workspace *w = s->workspace;
    return after ? (Output){w->branch, s->model->hidden, STORE} : (Output){w->residual, s->model->hidden, ADD};
}

static const float *norm_before(const Model *m, int index) { return index ? m->layer[index - 1].after_ffn_norm : NULL; }

static void layer_step(const Step *s, int index, Member *me) {
    const Model *m = s->model;
    const Layer *l = &m->layer[index];
    const Workspace *w = s->workspace;
    int rows = s->batch.rows;
    int64_t at = index * m->cache_bytes;
    Cache cache = {
        m->heads, m->kv_heads, m->head_dim, m->bf16, l->window, m->attention_scale, m->keys + at, m->values + at,
    };
    norm(s, norm_before(m, index), l->attention_norm, NULL, rows, me);
    product(s, l->qkv, QKV_PARTS, w->input, rows, (Output){w->qkv, qkv_width(m), STORE}, me);
    write_cache(s, l, &cache, me);
    attend(s, &cache, me);
    product(s, &l->out, 1, w->input, rows, onto_residual(s, l->after_attention_norm), me);
    norm(s, l->after_attention_norm, l->ffn_norm, NULL, rows, me);
    product(s, &l->gate_up, 1, w->input, rows, (Output){w->middle, m->ffn, m->gelu ? GELU_MUL : SILU_MUL}, me);
    product(s, &l->down, 1, w->middle, rows, onto_residual(s, l->after_ffn_norm), me);
}

static void step_job(void *work, Member *me) {
    const Step *s = work;
    const Model *m = s->model;
    const Batch *b = &s->batch;
    embed(s, me);
    for (int i = 0; i < m->layers; i++) layer_step(s, i, me);
    norm(s, norm_before(m, m->layers), m->final_norm, b->output_row, b->outputs, me);
    product(s, &m->head, 1, s->workspace->input, b->outputs, (Output){b->logits, m->head.outputs, STORE}, me);
}

/* ---- workspace ---- */

static void *grown(void *old, int64_t bytes) {
    free(old);
    return aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64));
}

static int reserve_rows(Workspace *w, const Model *m, int64_t rows) {
    if (rows <= w->row_capacity) return 1;
    int64_t attention = m->heads * m->head_dim, widest = attention > m->hidden ? attention : m->hidden;
    w->residual = grown(w->residual, rows * m->hidden * 4);
    w->branch = grown(w->branch, rows * m->hidden * 4);
    w->qkv = grown(w->qkv, rows * qkv_width(m) * 4);
    w->input = grown(w->input, rows * widest * 4);
    w->middle = grown(w->middle, rows * m->ffn * 4);
    int there = w->residual && w->branch && w->qkv && w->input && w->middle;
    w->row_capacity = there ? rows : 0;
    return there;
}

static int plan_tiles(Workspace *w, const Model *m, const Batch *b) {
    int queries = attention_queries(&(Cache){.heads = m->heads, .kv_heads = m->kv_heads});
    int64_t most = (int64_t)b->rows + b->sequences;
    if (most > w->tile_capacity) {
        w->tiles = grown(w->tiles, most * (int64_t)sizeof *w->tiles);
        w->tile_capacity = w->tiles ? most : 0;
        if (!w->tiles) return 0;
    }
    w->step.num_tiles = 0;
    for (int s = 0; s < b->sequences; s++) {
        int rows = b->first_row[s + 1] - b->first_row[s];
        for (int q = 0; q < rows; q += queries)
            w->tiles[w->step.num_tiles++] = (QueryTile){s, q, rows - q < queries ? rows - q : queries};
    }
    return 1;
}

void workspace_destroy(Workspace *w) {
    if (w->team) team_destroy(w->team);
    free(w->scratch);
    free(w->residual);
    free(w->branch);
    free(w->qkv);
    free(w->input);
    free(w->middle);
    free(w->tiles);
    free(w);
}

/* NULL when threads or memory cannot be had. */
Workspace *workspace_create(int32_t threads) {
    Workspace *w = calloc(1, sizeof *w);
    if (w == NULL) return NULL;
    w->amx = amx_works(); /* before there are threads: it forks */
    w->team = team_create(threads);
    w->scratch = aligned_alloc(64, (size_t)threads * sizeof *w->scratch);
    if (w->team && w->scratch) return w;
    workspace_destroy(w);
    return NULL;
}

/* 0, or -1 when memory ran out; then nothing was computed. One call at a time for a workspace. */
int32_t step_run(const Model *model, const Batch *batch, Workspace *workspace) {
    if (!reserve_rows(workspace, model, batch->rows) || !plan_tiles(workspace, model, batch)) return -1;
    Step *step = &workspace->step; /* not on the stack: a late thread may look at it after this has returned */
    step->model = model;
    step->workspace = workspace;
    step->batch = *batch;
    team_run(workspace->team, step_job, step);
    return 0;
}
