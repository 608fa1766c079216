/* See attention.h. */
#include "attention.h"

#include <math.h>

#include "simd.h"

int32_t attention_queries(const Cache *c) {
    int group = c->heads / c->kv_heads;
    return group >= MAX_QUERY_ROWS ? 1 : MAX_QUERY_ROWS / group;
}

/* ---- writing ---- */

static void rotate(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[half + i] = b * cosine[i] + a * sine[i];
    }
}

static uint16_t rounded(float x) {
    vu bits = rounded_bf16(all_f(x));
    return (uint16_t)(bits[0] >> 16);
}

static void put_key(const Cache *c, const float *key, int64_t tile_head, int token) {
    int dim = c->head_dim;
    int64_t at = tile_head * dim * TOKENS_PER_TILE;
    for (int d = 0; d < dim; d++) {
        if (c->bf16)
            ((uint16_t *)c->keys)[at + d / 2 * 2 * TOKENS_PER_TILE + 2 * token + d % 2] = rounded(key[d]);
        else
            ((float *)c->keys)[at + d * TOKENS_PER_TILE + token] = key[d];
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

void attention_write(const Cache *c, float *qkv, const float *cosine, const float *sine, int32_t tile, int32_t token) {
    int dim = c->head_dim;
    float *keys = qkv + c->heads * dim, *values = keys + c->kv_heads * dim;
    for (int head = 0; head < c->heads + c->kv_heads; head++) rotate(qkv + head * dim, cosine, sine, dim / 2);
    for (int head = 0; head < c->kv_heads; head++) {
        put_key(c, keys + head * dim, (int64_t)tile * c->kv_heads + head, token);
        put_value(c, values + head * dim, (int64_t)tile * c->kv_heads + head, token);
    }
}

/* ---- reading: up to MAX_QUERY_ROWS rows (a query of one head each) against one KV head ---- */

typedef struct {
    int rows, dim, bf16;
    float scale;
    int last[MAX_QUERY_ROWS];      /* the position of a row's own token: the last it sees */
    const float *query[MAX_QUERY_ROWS];
    _Alignas(64) uint32_t pairs[MAX_QUERY_ROWS][MAX_HEAD_DIM / 2]; /* the queries as bfloat16 pairs */
    _Alignas(64) float out[MAX_QUERY_ROWS][MAX_HEAD_DIM];
    _Alignas(64) float weight[MAX_QUERY_ROWS][TOKENS_PER_TILE];
    float maximum[MAX_QUERY_ROWS], sum[MAX_QUERY_ROWS];
} Rows;

INLINE void scores(const Rows *rows, int count, const void *keys, vf *out) {
    for (int r = 0; r < count; r++) out[r] = all_f(0);
    if (rows->bf16) {
        for (int pair = 0; pair < rows->dim / 2; pair++) {
            vu key = load_u((const uint32_t *)keys + pair * TOKENS_PER_TILE);
#pragma GCC unroll 12
            for (int r = 0; r < count; r++) out[r] = dot_pairs(out[r], key, all_u(rows->pairs[r][pair]));
        }
    } else {
        for (int d = 0; d < rows->dim; d++) {
            vf key = load_f((const float *)keys + d * TOKENS_PER_TILE);
#pragma GCC unroll 12
            for (int r = 0; r < count; r++) out[r] += key * rows->query[r][d];
        }
    }
}

/* Fold a tile's scores into each row's running maximum and sum, leaving softmax weights; 0 for tokens after the row's. */
INLINE void fold(Rows *rows, int count, int first_token, vf *score, vf *factor) {
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int r = 0; r < count; r++) {
        vi seen = lane + first_token <= rows->last[r];
        vf masked = (vf)(((vi)(score[r] * rows->scale) & seen) | ((vi)all_f(-INFINITY) & ~seen));
        float tile_maximum = max_of(masked);
        float maximum = tile_maximum > rows->maximum[r] ? tile_maximum : rows->maximum[r];
        vf weight = exp_f(masked - maximum);
        factor[r] = exp_f(all_f(rows->maximum[r] - maximum));
        rows->sum[r] = rows->sum[r] * factor[r][0] + sum_of(weight);
        rows->maximum[r] = maximum;
        store_f(rows->weight[r], weight);
    }
}

INLINE void accumulate(Rows *rows, int count, const void *values, int tokens, const vf *factor) {
    for (int d = 0; d < rows->dim; d += LANES) {
        vf out[MAX_QUERY_ROWS];
#pragma GCC unroll 12
        for (int r = 0; r < count; r++) out[r] = load_f(&rows->out[r][d]) * factor[r];
        for (int t = 0; t < tokens; t++) {
            int64_t at = (int64_t)t * rows->dim + d;
            vf value = rows->bf16 ? bf16_to_float((const uint16_t *)values + at) : load_f((const float *)values + at);
#pragma GCC unroll 12
            for (int r = 0; r < count; r++) out[r] += value * rows->weight[r][t];
        }
#pragma GCC unroll 12
        for (int r = 0; r < count; r++) store_f(&rows->out[r][d], out[r]);
    }
}

INLINE void one_tile(Rows *rows, int count, const void *keys, const void *values, int first_token, int tokens) {
    vf score[MAX_QUERY_ROWS], factor[MAX_QUERY_ROWS];
    scores(rows, count, keys, score);
    fold(rows, count, first_token, score, factor);
    accumulate(rows, count, values, tokens, factor);
}

#define COUNT(n)                                                                                                       \
    case n: one_tile(rows, n, keys, values, first_token, tokens); break;

static void any_tile(Rows *rows, const void *keys, const void *values, int first_token, int tokens) {
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
    for (int d = 0; rows->bf16 && d < rows->dim; d += LANES) store_bf16((uint16_t *)rows->pairs[r] + d, load_f(query + d));
}

/* Tokens after the last query's own are never read: their slots may hold anything. */
static void all_tiles(const Cache *c, int kv_head, const int32_t *table, int end, Rows *rows) {
    int64_t tile_bytes = (int64_t)c->head_dim * TOKENS_PER_TILE * (c->bf16 ? 2 : 4);
    for (int first = 0; first < end; first += TOKENS_PER_TILE) {
        int64_t at = ((int64_t)table[first / TOKENS_PER_TILE] * c->kv_heads + kv_head) * tile_bytes;
        int tokens = end - first < TOKENS_PER_TILE ? end - first : TOKENS_PER_TILE;
        any_tile(rows, (const char *)c->keys + at, (const char *)c->values + at, first, tokens);
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
        Rows rows = {.dim = dim, .bf16 = c->bf16, .scale = 1.0f / sqrtf((float)dim)};
        for (int q = 0; q < count; q++)
            for (int h = 0; h < heads; h++) take_row(&rows, qkv + q * qkv_stride + (head + h) * dim, position + q);
        all_tiles(c, kv_head, table, position + count, &rows);
        for (int q = 0; q < count; q++)
            for (int h = 0; h < heads; h++)
                put_row(&rows, q * heads + h, out, ((int64_t)q * c->heads + head + h) * dim);
    }
}
