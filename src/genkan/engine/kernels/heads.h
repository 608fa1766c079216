/* A token's queries and keys before they meet: biases, norms, rotation. */
#ifndef GENKAN_HEADS_H
#define GENKAN_HEADS_H

#include <stdint.h>

typedef struct {
    int32_t heads, kv_heads, head_dim;
    float norm_epsilon;
    const float *bias;                  /* [(heads + 2 * kv_heads) * head_dim], or NULL */
    const float *query_norm, *key_norm; /* [head_dim], or NULL */
} Heads;

/* In place, in `qkv`, which is [(heads + 2 * kv_heads) * head_dim]: the biases are added to all of it, then queries and
 * keys are normed by head and rotated (half-split order). `cosine` and `sine` are [head_dim / 2], for the token's
 * position. */
void heads_prepare(const Heads *heads, float *qkv, const float *cosine, const float *sine);

#endif
