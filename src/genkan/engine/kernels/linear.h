/* y = x·Wᵀ for weights that stay as the file quantised them.
 *
 * A weight matrix is stored in panels of 16 outputs; a panel runs along k, so a product streams through memory once.
 *
 *   Q4        per 32 k: 16 half scales, 16 half minima, then 4 vectors; lane n of each has the codes of 8 k, lowest first
 *   Q4_WIDE   the same with float32 scales and minima, for files whose scales are products (Q4_K)
 *   Q8        per 32 k: 16 half scales, then 32 rows of 16 int8
 *   Q8_WIDE   the same with float32 scales, and minima (Q5_1, Q5_K, or kinds mixed)
 *   Q8_FINE   the same with 16 float32 scales for the first 16 k and 16 for the others (Q6_K)
 *   BF16      per 2 k: 16 pairs
 *   F32       per k: 16 floats
 *
 * Weights are widened a block of k at a time into a buffer that stays in the first-level cache, and multiplied there by
 * every row of x. So one format serves one row (where reading weights is the cost) and hundreds (where it is
 * arithmetic), and an output is the same bits for any number of rows: each is one chain of additions along k.
 */
#ifndef GENKAN_LINEAR_H
#define GENKAN_LINEAR_H

#include <stdint.h>

#include "team.h"

enum { GROUP = 32, PANEL = 16, TILE_OUTPUTS = 2 * PANEL, TILE_ROWS = 256, BLOCK_K = 192 };

typedef enum { Q4 = 0, Q4_WIDE = 1, Q8 = 2, BF16 = 3, F32 = 4, Q8_WIDE = 5, Q8_FINE = 6 } WeightKind;

typedef struct {
    int32_t kind;
    int32_t outputs; /* rows of W; the last panel is filled up with zeros */
    int32_t inputs;  /* columns of W, a multiple of 32 */
    int32_t panels;  /* stored, an even number */
    const uint8_t *data;
} Linear;

/* Where the rows of x come from, and in what precision products are taken: bfloat16 pairs or float32. */
typedef struct {
    const void *values; /* [rows, inputs], bfloat16 or float32 */
    int32_t rows;
    int32_t bf16;
    int32_t amx; /* bfloat16 products by the matrix unit */
} Input;

typedef enum {
    STORE,    /* out[row, n] = y, float32 */
    ADD,      /* out[row, n] += y, float32 */
    SILU_MUL, /* even panels are gates, odd ones factors: out[row, n / 2] = silu(gate) * factor, as the next input */
    GELU_MUL, /* likewise with gelu, by its approximation with tanh */
} Epilogue;

typedef struct {
    void *values;
    int32_t stride; /* elements between rows */
    Epilogue epilogue;
} Output;

/* What one thread needs for itself. */
typedef struct {
    _Alignas(64) uint8_t weights[2][BLOCK_K * PANEL * sizeof(float)];
    _Alignas(64) float sums[TILE_ROWS][TILE_OUTPUTS];
} LinearScratch;

/* One phase of a step: every thread of the team calls it, each with a scratch of its own. The outputs of the `count`
 * `parts` lie beside each other; several are for STORE and ADD only. */
void linear_run(const Linear *parts, int count, Input input, Output output, LinearScratch *scratch, Member *me);

/* W[row] as float32, `inputs` values: an embedding. */
void linear_row(const Linear *linear, int32_t row, float *out);

/* Bytes of one panel, or 0 for a kind that is none. */
int64_t panel_bytes(int32_t kind, int32_t inputs);

#endif
