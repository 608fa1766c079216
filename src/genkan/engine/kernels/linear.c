/* See linear.h. */
#include "linear.h"

#include "amx.h"
#include "simd.h"

enum { MICRO_ROWS = 12 }; /* 24 sums, 2 weights and 1 input: 27 of 32 registers */
enum { PREFETCH_BYTES = 2048 };

int64_t panel_bytes(int32_t kind, int32_t inputs) {
    switch (kind) {
    case Q4: return (int64_t)inputs / GROUP * (4 * PANEL + GROUP * PANEL / 2);
    case Q4_WIDE: return (int64_t)inputs / GROUP * (8 * PANEL + GROUP * PANEL / 2);
    case Q8: return (int64_t)inputs / GROUP * (2 * PANEL + GROUP * PANEL);
    case Q8_WIDE:
    case Q8_FINE: return (int64_t)inputs / GROUP * (8 * PANEL + GROUP * PANEL);
    case BF16: return (int64_t)inputs * PANEL * 2;
    case F32: return (int64_t)inputs * PANEL * 4;
    default: return 0;
    }
}

/* ---- widening: a group of 32 k of one panel to 32 float vectors, or 16 vectors of bfloat16 pairs ---- */

INLINE void put(uint8_t *out, int k, vf even, vf odd, int bf16) {
    if (bf16) {
        store_u(out + 64 * (k / 2), bf16_pairs(even, odd));
    } else {
        store_f(out + 64 * k, even);
        store_f(out + 64 * (k + 1), odd);
    }
}

INLINE void widen_q4_group(const uint8_t *in, uint8_t *out, int wide, int bf16) {
    vf scale = wide ? load_f(in) : half_to_float((const uint16_t *)in);
    vf minimum = wide ? load_f(in + 64) : half_to_float((const uint16_t *)in + PANEL);
    in += wide ? 128 : 64;
    for (int eight = 0; eight < 4; eight++) {
        vu codes = load_u(in + 64 * eight);
#pragma GCC unroll 4
        for (int i = 0; i < 8; i += 2) {
            vf even = nibble_f(codes >> (4 * i)) * scale + minimum;
            vf odd = nibble_f(codes >> (4 * i + 4)) * scale + minimum;
            put(out, 8 * eight + i, even, odd, bf16);
        }
    }
}

INLINE vf int8_f(const uint8_t *p) {
    int8_t codes[PANEL];
    memcpy(codes, p, sizeof codes);
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)codes)));
}

INLINE void widen_q8_group(const uint8_t *in, uint8_t *out, int bf16) {
    vf scale = half_to_float((const uint16_t *)in);
    in += 2 * PANEL;
    for (int k = 0; k < GROUP; k += 2) put(out, k, int8_f(in + 16 * k) * scale, int8_f(in + 16 * k + 16) * scale, bf16);
}

INLINE void widen_q8_wide_group(const uint8_t *in, uint8_t *out, int bf16) {
    vf scale = load_f(in), minimum = load_f(in + 64);
    in += 8 * PANEL;
    for (int k = 0; k < GROUP; k += 2) {
        vf even = int8_f(in + 16 * k) * scale + minimum;
        put(out, k, even, int8_f(in + 16 * k + 16) * scale + minimum, bf16);
    }
}

INLINE void widen_q8_fine_group(const uint8_t *in, uint8_t *out, int bf16) {
    vf scale[2] = {load_f(in), load_f(in + 64)};
    in += 8 * PANEL;
    for (int k = 0; k < GROUP; k += 2) {
        vf even = int8_f(in + 16 * k) * scale[2 * k / GROUP];
        put(out, k, even, int8_f(in + 16 * k + 16) * scale[2 * k / GROUP], bf16);
    }
}

INLINE void widen_bf16_group(const uint8_t *in, uint8_t *out) {
    for (int pair = 0; pair < GROUP / 2; pair++) {
        vu both = load_u(in + 64 * pair);
        put(out, 2 * pair, (vf)(both << 16), (vf)(both & 0xffff0000u), 0);
    }
}

INLINE void widen_f32_group(const uint8_t *in, uint8_t *out) {
    for (int k = 0; k < GROUP; k += 2) put(out, k, load_f(in + 64 * k), load_f(in + 64 * k + 64), 1);
}

/* The processor's own prefetching loses the stream where one panel's block ends and the other's begins. */
INLINE void prefetch(const uint8_t *in, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(in + PREFETCH_BYTES + at);
}

static void widen_group(int kind, const uint8_t *in, uint8_t *out, int bf16) {
    switch (kind) {
    case Q4: bf16 ? widen_q4_group(in, out, 0, 1) : widen_q4_group(in, out, 0, 0); break;
    case Q4_WIDE: bf16 ? widen_q4_group(in, out, 1, 1) : widen_q4_group(in, out, 1, 0); break;
    case Q8: bf16 ? widen_q8_group(in, out, 1) : widen_q8_group(in, out, 0); break;
    case Q8_WIDE: bf16 ? widen_q8_wide_group(in, out, 1) : widen_q8_wide_group(in, out, 0); break;
    case Q8_FINE: bf16 ? widen_q8_fine_group(in, out, 1) : widen_q8_fine_group(in, out, 0); break;
    case BF16: widen_bf16_group(in, out); break;
    default: widen_f32_group(in, out);
    }
}

/* The weights of `groups` groups, ready to multiply: in place where they are stored that way, else in `buffer`. */
static const uint8_t *ready(const Linear *w, const uint8_t *panel, int group, int groups, uint8_t *buffer, int bf16) {
    int64_t bytes = panel_bytes(w->kind, GROUP);
    const uint8_t *in = panel + group * bytes;
    if ((w->kind == BF16 && bf16) || (w->kind == F32 && !bf16)) return in;
    for (int g = 0; g < groups; g++) {
        prefetch(in + g * bytes, bytes);
        widen_group(w->kind, in + g * bytes, buffer + g * (bf16 ? 1024 : 2048), bf16);
    }
    return buffer;
}

/* ---- multiplying: up to MICRO_ROWS rows by 32 outputs, sums in registers ---- */

INLINE void micro(int rows, const uint8_t *w0, const uint8_t *w1, int k, const void *x, int64_t stride, float *sums,
                  int bf16) {
    vf acc[MICRO_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        acc[r][0] = load_f(sums + r * TILE_OUTPUTS);
        acc[r][1] = load_f(sums + r * TILE_OUTPUTS + PANEL);
    }
    for (int step = 0; step < (bf16 ? k / 2 : k); step++) {
        vf b0 = load_f(w0 + 64 * step), b1 = load_f(w1 + 64 * step);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            if (bf16) {
                uint32_t pair;
                memcpy(&pair, (const uint16_t *)x + r * stride + 2 * step, sizeof pair);
                acc[r][0] = dot_pairs(acc[r][0], (vu)b0, all_u(pair));
                acc[r][1] = dot_pairs(acc[r][1], (vu)b1, all_u(pair));
            } else {
                float value = ((const float *)x)[r * stride + step];
                acc[r][0] += b0 * value;
                acc[r][1] += b1 * value;
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        store_f(sums + r * TILE_OUTPUTS, acc[r][0]);
        store_f(sums + r * TILE_OUTPUTS + PANEL, acc[r][1]);
    }
}

#define MICRO(n)                                                                                                       \
    case n: micro(n, w0, w1, k, x, stride, sums, bf16); break;

INLINE void micro_any(int rows, const uint8_t *w0, const uint8_t *w1, int k, const void *x, int64_t stride, float *sums,
                      int bf16) {
    switch (rows) {
        MICRO(1) MICRO(2) MICRO(3)
        MICRO(4) MICRO(5) MICRO(6) MICRO(7) MICRO(8) MICRO(9) MICRO(10) MICRO(11) MICRO(12)
    }
}

static void multiply_bf16(int rows, const uint8_t *w0, const uint8_t *w1, int k, const void *x, int64_t stride,
                          float *sums) {
    micro_any(rows, w0, w1, k, x, stride, sums, 1);
}

static void multiply_f32(int rows, const uint8_t *w0, const uint8_t *w1, int k, const void *x, int64_t stride,
                         float *sums) {
    micro_any(rows, w0, w1, k, x, stride, sums, 0);
}

static void multiply(Input in, int rows, const uint8_t *w0, const uint8_t *w1, int k, const void *x, int64_t stride,
                     float *sums) {
    if (in.amx)
        amx_multiply(rows, w0, w1, k, x, stride, sums);
    else
        (in.bf16 ? multiply_bf16 : multiply_f32)(rows, w0, w1, k, x, stride, sums);
}

/* Rows to multiply at once. A last handful would leave the multipliers waiting for each other, so all get as many. */
static int balanced(int rows) {
    int blocks = (rows + MICRO_ROWS - 1) / MICRO_ROWS;
    return (rows + blocks - 1) / blocks;
}

static void tile_sums(const Linear *w, Input in, int pair, int first, int rows, LinearScratch *scratch) {
    int64_t bytes = panel_bytes(w->kind, w->inputs), element = in.bf16 ? 2 : 4;
    int most = in.amx ? AMX_ROWS : balanced(rows);
    const uint8_t *panel = w->data + 2 * pair * bytes;
    memset(scratch->sums, 0, (size_t)rows * sizeof scratch->sums[0]);
    for (int k = 0; k < w->inputs; k += BLOCK_K) {
        int width = w->inputs - k < BLOCK_K ? w->inputs - k : BLOCK_K;
        const uint8_t *w0 = ready(w, panel, k / GROUP, width / GROUP, scratch->weights[0], in.bf16);
        const uint8_t *w1 = ready(w, panel + bytes, k / GROUP, width / GROUP, scratch->weights[1], in.bf16);
        for (int r = 0; r < rows; r += most) {
            int count = rows - r < most ? rows - r : most;
            const uint8_t *x = (const uint8_t *)in.values + ((int64_t)(first + r) * w->inputs + k) * element;
            multiply(in, count, w0, w1, width, x, w->inputs, scratch->sums[r]);
        }
    }
}

/* ---- what becomes of a tile's sums ---- */

/* Gelu as x * (1 + tanh(u)) / 2, u = sqrt(2 / pi) * (x + 0.044715 x³); and (1 + tanh(u)) / 2 = 1 / (1 + e^-2u). */
INLINE vf gelu_f(vf x) {
    vf u = 0.7978845608028654f * (x + 0.044715f * (x * x * x));
    return x / (1.0f + exp_f(-2.0f * u));
}

static void put_gated(Output out, int pair, int64_t row, const float *sums, int bf16) {
    vf gate = load_f(sums), factor = load_f(sums + PANEL);
    vf value = (out.epilogue == GELU_MUL ? gelu_f(gate) : gate / (1.0f + exp_f(-gate))) * factor;
    int64_t at = row * out.stride + PANEL * (int64_t)pair;
    if (bf16)
        store_bf16((uint16_t *)out.values + at, value);
    else
        store_f((float *)out.values + at, value);
}

static void put_sums(Output out, int pair, int64_t row, const float *sums, int count) {
    float *to = (float *)out.values + row * out.stride + TILE_OUTPUTS * (int64_t)pair;
    if (out.epilogue == STORE) {
        memcpy(to, sums, (size_t)count * sizeof *to);
    } else {
        for (int n = 0; n < count; n++) to[n] += sums[n];
    }
}

static void finish_tile(const Linear *w, Output out, int pair, int first, int rows, LinearScratch *scratch, int bf16) {
    int left = w->outputs - TILE_OUTPUTS * pair;
    for (int r = 0; r < rows; r++) {
        if (out.epilogue == SILU_MUL || out.epilogue == GELU_MUL)
            put_gated(out, pair, first + r, scratch->sums[r], bf16);
        else
            put_sums(out, pair, first + r, scratch->sums[r], left < TILE_OUTPUTS ? left : TILE_OUTPUTS);
    }
}

void linear_run(const Linear *parts, int count, Input in, Output out, LinearScratch *scratch, Member *me) {
    int pairs = 0, row_tiles = (in.rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int part = 0; part < count; part++) pairs += parts[part].panels / 2;
    int tiles = pairs * row_tiles;
    for (int tile; (tile = team_tile(me, tiles)) >= 0; team_done(me, tiles)) {
        int pair = tile % pairs, first = tile / pairs * TILE_ROWS;
        int rows = in.rows - first < TILE_ROWS ? in.rows - first : TILE_ROWS;
        const Linear *w = parts;
        Output its = out;
        for (; pair >= w->panels / 2; pair -= w->panels / 2, w++) its.values = (float *)its.values + w->outputs;
        tile_sums(w, in, pair, first, rows, scratch);
        finish_tile(w, its, pair, first, rows, scratch, in.bf16);
    }
    amx_release();
    team_next(me, tiles);
}

void linear_row(const Linear *w, int32_t row, float *out) {
    int64_t group_bytes = panel_bytes(w->kind, GROUP);
    const uint8_t *panel = w->data + row / PANEL * panel_bytes(w->kind, w->inputs);
    float widened[GROUP][PANEL];
    for (int group = 0; group < w->inputs / GROUP; group++) {
        if (w->kind == F32)
            memcpy(widened, panel + group * group_bytes, sizeof widened);
        else
            widen_group(w->kind, panel + group * group_bytes, (uint8_t *)widened, 0);
        for (int k = 0; k < GROUP; k++) out[group * GROUP + k] = widened[k][row % PANEL];
    }
}
