/* See attention.h. */
#include "attention.h"

#include <math.h>

#include "simd.h"

int32_t attention_queries(const Cache *c) {
    int group = c->heads / c->kv_heads;
    return group >= MAX_QUERY_ROWS ? 1 : MAX_QUERY_ROWS / group;
}

/* ---- writing ---- */

static void put_key(const Cache *c, const float *key, int64_t tile_head, int token) {
    int dim = c->head_dim;
    if (c->bf16) {
        uint32_t pairs[MAX_HEAD_DIM / 2], *to = (uint32_t *)c->keys + tile_head * (dim / 2) * TOKENS_PER_TILE + token;
        for (int d = 0; d < dim; d += LANES) store_bf16((uint16_t *)pairs + d, load_f(key + d));
        for (int pair = 0; pair < dim / 2; pair++) to[pair * TOKENS_PER_TILE] = pairs[pair];
    } else {
        float *to = (float *)c->keys + tile_head * dim * TOKENS_PER_TILE + token;
        for (int d = 0; d < dim; d++) to[d * TOKENS_PER_TILE] = key[d];
    }
}

static void put_value(const Cache *c, const float *value, int64_t tile_head, int token) {
    int dim = c->head_dim;
    int64_t at = (tile_head * TOKENS_PER_TILE + token) * dim;
    for (int d = 0; d < dim; d += LANES) {
        if (c->bf16)
            store_bf16((uint16_t *)c->values + at + d, load_f(value + d));
        else
            store_f((float *)c->values + at + d, load_f(value + d));
    }
}

void attention_write(const Cache *c, const float *qkv, int32_t tile, int32_t token) {
    int dim = c->head_dim;
    const float *keys = qkv + c->heads * dim, *values = keys + c->kv_heads * dim;
    for (int head = 0; head < c->kv_heads; head++) {
        put_key(c, keys + head * dim, (int64_t)tile * c->kv_heads + head, token);
        put_value(c, values + head * dim, (int64_t)tile * c->kv_heads + head, token);
    }
}

/* ---- reading: up to MAX_QUERY_ROWS rows (a query of one head each) against one KV head ---- */

typedef struct {
    int rows, dim, bf16;
    float scale;
    int last[MAX_QUERY_ROWS]; /* the position of a row's own token: the last it sees */
    int window;               /* how many it sees; 0: all */
    const float *query[MAX_QUERY_ROWS];
    _Alignas(64) uint32_t pairs[MAX_QUERY_ROWS][MAX_HEAD_DIM / 2]; /* the queries as bfloat16 pairs */
    _Alignas(64) float out[MAX_QUERY_ROWS][MAX_HEAD_DIM];
    _Alignas(64) float weight[MAX_QUERY_ROWS][TOKENS_PER_BLOCK]; /* of one block: scores, then softmax weights */
    _Alignas(64) float maximum[LANES], sum[LANES], factor[LANES]; /* a lane a row */
} Rows;

/* One block: what the softmax is folded in at once. `tiles` beyond the last one that is there repeat it. */
typedef struct {
    int first_token, tokens;
    const uint8_t *keys[TILES_PER_BLOCK], *values[TILES_PER_BLOCK];
    /* Fetched meanwhile: the tiles of a sequence lie anywhere, so the processor cannot foresee them. */
    const uint8_t *next_keys[TILES_PER_BLOCK], *next_values[TILES_PER_BLOCK];
} Block;

/* Sums that are kept in registers at once: enough to hide a multiplication's latency, few enough to fit. */
#define TILES_AT_ONCE(rows) ((rows) <= 6 ? 4 : 2)
#define VECTORS_AT_ONCE(rows) ((rows) <= 6 ? 4 : 2)

INLINE void scores(Rows *rows, int count, const Block *block, int first_tile) {
    const int tiles = TILES_AT_ONCE(count);
    vf sum[MAX_QUERY_ROWS][4];
    for (int r = 0; r < count; r++)
        for (int t = 0; t < tiles; t++) sum[r][t] = all_f(0);
    for (int step = 0; step < (rows->bf16 ? rows->dim / 2 : rows->dim); step++) {
        vf key[4];
        for (int t = 0; t < tiles; t++) {
            key[t] = load_f(block->keys[first_tile + t] + 64 * step);
            __builtin_prefetch(block->next_keys[first_tile + t] + 64 * step);
        }
#pragma GCC unroll 12
        for (int r = 0; r < count; r++) {
#pragma GCC unroll 4
            for (int t = 0; t < tiles; t++) {
                if (rows->bf16)
                    sum[r][t] = dot_pairs(sum[r][t], (vu)key[t], all_u(rows->pairs[r][step]));
                else
                    sum[r][t] += key[t] * rows->query[r][step];
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < count; r++)
#pragma GCC unroll 4
        for (int t = 0; t < tiles; t++) store_f(&rows->weight[r][LANES * (first_tile + t)], sum[r][t]);
}

/* The first position that a row sees. */
INLINE int first_seen(const Rows *rows, int r) {
    return rows->window && rows->last[r] >= rows->window ? rows->last[r] - rows->window + 1 : 0;
}

/* A token before a row's window gets the score of one that is not there. A row may see nothing of a block: then its
 * maximum stays -inf, and exp_f makes 0 of the NaN that -inf less -inf is. */
static void hide_before_windows(Rows *rows, int first_token) {
    for (int r = 0; r < rows->rows; r++)
        for (int token = 0; token < TOKENS_PER_BLOCK && first_token + token < first_seen(rows, r); token++)
            rows->weight[r][token] = -INFINITY;
}

/* Fold the block's scores into each row's running maximum and sum; a token after the row's own gets the weight 0. */
INLINE void fold(Rows *rows, int count, int first_token) {
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vf before = load_f(rows->maximum), masked[MAX_QUERY_ROWS][TILES_PER_BLOCK];
    for (int r = 0; r < count; r++) {
        vf highest = all_f(rows->maximum[r]);
        for (int t = 0; t < TILES_PER_BLOCK; t++) {
            vi seen = lane + (first_token + LANES * t) <= rows->last[r];
            vf score = load_f(&rows->weight[r][LANES * t]) * rows->scale;
            masked[r][t] = (vf)(((vi)score & seen) | ((vi)all_f(-INFINITY) & ~seen));
            highest = max_f(highest, masked[r][t]);
        }
        rows->maximum[r] = max_of(highest);
    }
    store_f(rows->factor, exp_f(before - load_f(rows->maximum)));
    for (int r = 0; r < count; r++) {
        vf total = all_f(0);
        for (int t = 0; t < TILES_PER_BLOCK; t++) {
            vf weight = exp_f(masked[r][t] - rows->maximum[r]);
            total += weight;
            store_f(&rows->weight[r][LANES * t], weight);
        }
        rows->sum[r] = rows->sum[r] * rows->factor[r] + sum_of(total);
    }
}

INLINE void accumulate_vectors(Rows *rows, int count, const Block *block, int first, int vectors) {
    vf out[MAX_QUERY_ROWS][4];
#pragma GCC unroll 12
    for (int r = 0; r < count; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) out[r][v] = load_f(&rows->out[r][first + LANES * v]) * rows->factor[r];
    for (int token = 0; token < block->tokens; token++) {
        const uint8_t *tile = block->values[token / TOKENS_PER_TILE];
        int64_t at = (int64_t)(token % TOKENS_PER_TILE) * rows->dim + first;
        vf value[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            int64_t offset = (at + LANES * v) * (rows->bf16 ? 2 : 4);
            __builtin_prefetch(block->next_values[token / TOKENS_PER_TILE] + offset);
            value[v] = rows->bf16 ? bf16_to_float((const uint16_t *)(tile + offset)) : load_f(tile + offset);
        }
#pragma GCC unroll 12
        for (int r = 0; r < count; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) out[r][v] += value[v] * rows->weight[r][token];
    }
#pragma GCC unroll 12
    for (int r = 0; r < count; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) store_f(&rows->out[r][first + LANES * v], out[r][v]);
}

INLINE void accumulate(Rows *rows, int count, const Block *block) {
    const int vectors = VECTORS_AT_ONCE(count);
    int d = 0;
    for (; d + LANES * vectors <= rows->dim; d += LANES * vectors) accumulate_vectors(rows, count, block, d, vectors);
    for (; d < rows->dim; d += LANES) accumulate_vectors(rows, count, block, d, 1);
}

INLINE void one_block(Rows *rows, int count, const Block *block) {
    for (int tile = 0; tile < TILES_PER_BLOCK; tile += TILES_AT_ONCE(count)) scores(rows, count, block, tile);
    if (block->first_token < first_seen(rows, count - 1)) hide_before_windows(rows, block->first_token);
    fold(rows, count, block->first_token);
    accumulate(rows, count, block);
}

#define COUNT(n)                                                                                                       \
    case n: one_block(rows, n, block); break;

static void any_block(Rows *rows, const Block *block) {
    switch (rows->rows) {
        COUNT(1) COUNT(2) COUNT(3) COUNT(4) COUNT(5) COUNT(6)
        COUNT(7) COUNT(8) COUNT(9) COUNT(10) COUNT(11) COUNT(12)
    }
}

static void take_row(Rows *rows, const float *query, int last) {
    int r = rows->rows++;
    rows->query[r] = query;
    rows->last[r] = last;
    rows->maximum[r] = -INFINITY;
    rows->sum[r] = 0;
    memset(rows->out[r], 0, (size_t)rows->dim * sizeof(float));
    for (int d = 0; rows->bf16 && d < rows->dim; d += LANES)
        store_bf16((uint16_t *)rows->pairs[r] + d, load_f(query + d));
}

/* Where the tiles from `first` on lie; for those beyond the last, the last. */
static void locate(const Cache *c, int kv_head, const int32_t *table, int first, int last, const uint8_t **keys,
                   const uint8_t **values) {
    int64_t tile_bytes = (int64_t)c->head_dim * TOKENS_PER_TILE * (c->bf16 ? 2 : 4);
    for (int t = 0; t < TILES_PER_BLOCK; t++) {
        int64_t at = ((int64_t)table[first + t < last ? first + t : last] * c->kv_heads + kv_head) * tile_bytes;
        keys[t] = (const uint8_t *)c->keys + at;
        values[t] = (const uint8_t *)c->values + at;
    }
}

/* From the first block that a row sees on. Values after the last query's own token are never read: their slots may hold
 * anything. */
static void all_blocks(const Cache *c, int kv_head, const int32_t *table, int end, Rows *rows) {
    int last_tile = (end - 1) / TOKENS_PER_TILE, begin = first_seen(rows, 0) / TOKENS_PER_BLOCK * TOKENS_PER_BLOCK;
    Block block;
    locate(c, kv_head, table, begin / TOKENS_PER_TILE, last_tile, block.next_keys, block.next_values);
    for (int first = begin; first < end; first += TOKENS_PER_BLOCK) {
        block.first_token = first;
        block.tokens = end - first < TOKENS_PER_BLOCK ? end - first : TOKENS_PER_BLOCK;
        memcpy(block.keys, block.next_keys, sizeof block.keys);
        memcpy(block.values, block.next_values, sizeof block.values);
        locate(c, kv_head, table, first / TOKENS_PER_TILE + TILES_PER_BLOCK, last_tile, block.next_keys,
               block.next_values);
        any_block(rows, &block);
    }
}

static void put_row(const Rows *rows, int r, void *out, int64_t at) {
    for (int d = 0; d < rows->dim; d += LANES) {
        vf value = load_f(&rows->out[r][d]) / rows->sum[r];
        if (rows->bf16)
            store_bf16((uint16_t *)out + at + d, value);
        else
            store_f((float *)out + at + d, value);
    }
}

void attention_run(const Cache *c, int32_t kv_head, const int32_t *table, int32_t position, int32_t count,
                   const float *qkv, int64_t qkv_stride, void *out) {
    int group = c->heads / c->kv_heads, dim = c->head_dim;
    for (int first = 0; first < group; first += MAX_QUERY_ROWS) {
        int heads = group - first < MAX_QUERY_ROWS ? group - first : MAX_QUERY_ROWS;
        int head = kv_head * group + first;
        Rows rows = {.dim = dim, .bf16 = c->bf16, .scale = c->scale, .window = c->window};
        for (int q = 0; q < count; q++)
            for (int h = 0; h < heads; h++) take_row(&rows, qkv + q * qkv_stride + (head + h) * dim, position + q);
        all_blocks(c, kv_head, table, position + count, &rows);
        for (int q = 0; q < count; q++)
            for (int h = 0; h < heads; h++)
                put_row(&rows, q * heads + h, out, ((int64_t)q * c->heads + head + h) * dim);
    }
}
