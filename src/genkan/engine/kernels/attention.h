/* Causal attention over a paged KV cache, with grouped queries.
 *
 * The cache is cut into tiles of 16 tokens; a sequence's table names its tiles in order, and a KV block is one or more
 * tiles in a row. Keys lie transposed, so that a tile's 16 scores are one vector; values lie as they are:
 *
 *   keys    [tiles, kv_heads, head_dim, 16]   as bfloat16 [tiles, kv_heads, head_dim / 2, 16, 2]
 *   values  [tiles, kv_heads, 16, head_dim]
 *
 * Softmax is taken online, 64 tokens at a time from the first (arXiv:1805.02867), so what a query gets depends on its
 * position and the keys before it, and not on the chunk it is computed in, nor on who shares the batch or the tiles.
 * With a window, blocks of 64 that none of the queries sees are not read: to fold one in would change no bit.
 */
#ifndef GENKAN_ATTENTION_H
#define GENKAN_ATTENTION_H

#include <stdint.h>

enum { TOKENS_PER_TILE = 16, TILES_PER_BLOCK = 4, TOKENS_PER_BLOCK = TOKENS_PER_TILE * TILES_PER_BLOCK };
enum { MAX_HEAD_DIM = 256, MAX_QUERY_ROWS = 12 };

typedef struct {
    int32_t heads, kv_heads, head_dim;
    int32_t bf16;        /* of the cache, and of queries as they are multiplied */
    int32_t window;      /* tokens that a query sees, its own the last of them; 0: all up to its own */
    float scale;         /* of queries times keys */
    void *keys, *values; /* of one layer */
} Cache;

/* Write one token's keys and values to the cache. `qkv` is [(heads + 2 * kv_heads) * head_dim]. */
void attention_write(const Cache *cache, const float *qkv, int32_t tile, int32_t token);

/* One KV head's answer for `count` queries of one sequence, at positions `position`, `position` + 1, …
 * `qkv` and `out` ([heads * head_dim] a row, bfloat16 or float32 as the cache) point at the first query's row. */
void attention_run(const Cache *cache, int32_t kv_head, const int32_t *table, int32_t position, int32_t count,
                   const float *qkv, int64_t qkv_stride, void *out);

/* How many queries of a sequence attention_run takes at once. */
int32_t attention_queries(const Cache *cache);

#endif
