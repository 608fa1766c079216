/* See amx.h. A tile register holds 16 rows of 64 bytes: 16 rows of x by 32 k, 32 k of 16 outputs (a group of a panel as
 * it lies in memory), or 16 by 16 sums. Source: Intel's Software Developer's Manual, TDPBF16PS; Linux, x86/xstate.rst.
 */
#include "amx.h"

#include "linear.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__AMX_BF16__) && defined(__AMX_TILE__)

#include <errno.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, TILE_ROWS_MAX = 16, ROW_BYTES = 64 };

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((packed, aligned(64))) TileShapes;

/* The compiler does not know what memory the tile instructions read and write. */
#define SYNCHRONISE(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")

static _Thread_local int shaped_rows; /* what this thread's tiles are shaped for; 0 for nothing */

/* Tiles 0 to 3 hold sums (upper rows by two panels, lower rows by two panels), 4 and 5 rows of x, 6 and 7 weights. */
static void shape_tiles(int upper, int lower) {
    const int rows[8] = {upper, upper, lower, lower, upper, lower, TILE_ROWS_MAX, TILE_ROWS_MAX};
    TileShapes shapes = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        shapes.rows[tile] = (uint8_t)rows[tile];
        shapes.row_bytes[tile] = rows[tile] ? ROW_BYTES : 0;
    }
    SYNCHRONISE(&shapes);
    _tile_loadconfig(&shapes);
}

static void multiply_upper(const uint8_t *w0, const uint8_t *w1, int k, const uint16_t *x, int64_t stride,
                           float *sums) {
    const int sum_stride = TILE_OUTPUTS * sizeof(float);
    _tile_loadd(0, sums, sum_stride);
    _tile_loadd(1, sums + PANEL, sum_stride);
    for (int at = 0; at < k; at += GROUP) {
        _tile_loadd(4, x + at, stride * 2);
        _tile_loadd(6, w0 + ROW_BYTES * (at / 2), ROW_BYTES);
        _tile_loadd(7, w1 + ROW_BYTES * (at / 2), ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, sums, sum_stride);
    _tile_stored(1, sums + PANEL, sum_stride);
}

static void multiply_both(const uint8_t *w0, const uint8_t *w1, int k, const uint16_t *x, int64_t stride, float *sums) {
    const int sum_stride = TILE_OUTPUTS * sizeof(float);
    float *below = sums + TILE_ROWS_MAX * TILE_OUTPUTS;
    _tile_loadd(0, sums, sum_stride);
    _tile_loadd(1, sums + PANEL, sum_stride);
    _tile_loadd(2, below, sum_stride);
    _tile_loadd(3, below + PANEL, sum_stride);
    for (int at = 0; at < k; at += GROUP) {
        _tile_loadd(4, x + at, stride * 2);
        _tile_loadd(5, x + TILE_ROWS_MAX * stride + at, stride * 2);
        _tile_loadd(6, w0 + ROW_BYTES * (at / 2), ROW_BYTES);
        _tile_loadd(7, w1 + ROW_BYTES * (at / 2), ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, sum_stride);
    _tile_stored(1, sums + PANEL, sum_stride);
    _tile_stored(2, below, sum_stride);
    _tile_stored(3, below + PANEL, sum_stride);
}

void amx_multiply(int rows, const uint8_t *w0, const uint8_t *w1, int k, const uint16_t *x, int64_t stride,
                  float *sums) {
    int upper = rows < TILE_ROWS_MAX ? rows : TILE_ROWS_MAX;
    if (shaped_rows != rows) shape_tiles(upper, rows - upper);
    shaped_rows = rows;
    SYNCHRONISE(sums);
    SYNCHRONISE(x);
    SYNCHRONISE(w0);
    SYNCHRONISE(w1);
    (rows > upper ? multiply_both : multiply_upper)(w0, w1, k, x, stride, sums);
    SYNCHRONISE(sums);
}

void amx_release(void) {
    if (shaped_rows) _tile_release();
    shaped_rows = 0;
}

/* ---- whether it works ---- */

static uint16_t small_bf16(int n) { /* -4 to 4, exact, and so are their products and sums */
    float value = (float)(n % 9 - 4);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static int is_right(int rows) {
    enum { K = 64 };
    static uint16_t x[AMX_ROWS * K], w[2][K / 2 * PANEL * 2];
    static float sums[AMX_ROWS * TILE_OUTPUTS];
    for (int i = 0; i < AMX_ROWS * K; i++) x[i] = small_bf16(i * 7 + i / 5);
    for (int i = 0; i < 2 * K * PANEL; i++) w[i / (K * PANEL)][i % (K * PANEL)] = small_bf16(i * 5 + i / 3);
    for (int i = 0; i < AMX_ROWS * TILE_OUTPUTS; i++) sums[i] = (float)i;
    amx_multiply(rows, (const uint8_t *)w[0], (const uint8_t *)w[1], K, x, K, sums);
    for (int i = 0; i < AMX_ROWS * TILE_OUTPUTS; i++) {
        int row = i / TILE_OUTPUTS, n = i % TILE_OUTPUTS;
        float expected = (float)i;
        for (int k = 0; row < rows && k < K; k++) {
            uint32_t a = (uint32_t)x[row * K + k] << 16;
            uint32_t b = (uint32_t)w[n / PANEL][k / 2 * 32 + n % PANEL * 2 + k % 2] << 16;
            float left, right;
            memcpy(&left, &a, sizeof left);
            memcpy(&right, &b, sizeof right);
            expected += left * right;
        }
        if (sums[i] != expected) return 0;
    }
    return 1;
}

static int may_use(void) { return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0; }

static int tried(void) {
    pid_t child = fork();
    if (child == 0) _exit(may_use() && is_right(1) && is_right(16) && is_right(23) && is_right(32) ? 0 : 1);
    int status = 1;
    pid_t ended;
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) continue;
    return child > 0 && ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int amx_works(void) {
    static int known = -1;
    if (known < 0) known = tried() && may_use();
    return known;
}

#else

int amx_works(void) { return 0; }

void amx_multiply(int rows, const uint8_t *w0, const uint8_t *w1, int k, const uint16_t *x, int64_t stride,
                  float *sums) {
    (void)rows, (void)w0, (void)w1, (void)k, (void)x, (void)stride, (void)sums;
}

void amx_release(void) {}

#endif
