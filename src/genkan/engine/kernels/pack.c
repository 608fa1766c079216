/* See pack.h. */
#include "pack.h"

#include <string.h>

#include "linear.h"

static void put_half(uint8_t *out, float value) {
    _Float16 half = (_Float16)value;
    memcpy(out, &half, sizeof half);
}

void pack_q4(const uint8_t *codes, const float *scale, const float *minimum, int32_t wide, int32_t outputs,
             int32_t inputs, int32_t panels, uint8_t *out) {
    int kind = wide ? Q4_WIDE : Q4, groups = inputs / GROUP, width = wide ? 4 : 2;
    int64_t group_bytes = panel_bytes(kind, GROUP);
    memset(out, 0, (size_t)(panels * panel_bytes(kind, inputs)));
    for (int64_t n = 0; n < outputs; n++) {
        uint8_t *panel = out + n / PANEL * panel_bytes(kind, inputs);
        int lane = (int)(n % PANEL);
        for (int g = 0; g < groups; g++, panel += group_bytes) {
            const uint8_t *code = codes + n * inputs + g * GROUP;
            uint8_t *packed = panel + 2 * PANEL * width + 4 * lane;
            if (wide) {
                memcpy(panel + 4 * lane, scale + n * groups + g, 4);
                memcpy(panel + 4 * (PANEL + lane), minimum + n * groups + g, 4);
            } else {
                put_half(panel + 2 * lane, scale[n * groups + g]);
                put_half(panel + 2 * (PANEL + lane), minimum[n * groups + g]);
            }
            for (int k = 0; k < GROUP; k += 2) packed[64 * (k / 8) + k % 8 / 2] = (uint8_t)(code[k] | code[k + 1] << 4);
        }
    }
}

/* The scales (and minima) of a group, one lane of 16. */
static void put_q8_scales(const float *scale, const float *minimum, int32_t kind, int64_t group, int lane,
                          uint8_t *out) {
    if (kind == Q8) {
        put_half(out + 2 * lane, scale[group]);
        return;
    }
    memcpy(out + 4 * lane, scale + (kind == Q8_FINE ? 2 * group : group), 4);
    memcpy(out + 4 * (PANEL + lane), kind == Q8_FINE ? scale + 2 * group + 1 : minimum + group, 4);
}

void pack_q8(const int8_t *codes, const float *scale, const float *minimum, int32_t kind, int32_t outputs,
             int32_t inputs, int32_t panels, uint8_t *out) {
    int64_t group_bytes = panel_bytes(kind, GROUP), groups = inputs / GROUP;
    int64_t scale_bytes = group_bytes - GROUP * PANEL;
    memset(out, 0, (size_t)(panels * panel_bytes(kind, inputs)));
    for (int64_t n = 0; n < outputs; n++) {
        uint8_t *panel = out + n / PANEL * panel_bytes(kind, inputs);
        int lane = (int)(n % PANEL);
        for (int64_t g = 0; g < groups; g++, panel += group_bytes) {
            put_q8_scales(scale, minimum, kind, n * groups + g, lane, panel);
            for (int k = 0; k < GROUP; k++)
                panel[scale_bytes + PANEL * k + lane] = (uint8_t)codes[n * inputs + g * GROUP + k];
        }
    }
}

static uint16_t as_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void pack_dense(const float *values, int32_t kind, int32_t outputs, int32_t inputs, int32_t panels, uint8_t *out) {
    memset(out, 0, (size_t)(panels * panel_bytes(kind, inputs)));
    for (int64_t n = 0; n < outputs; n++) {
        uint8_t *panel = out + n / PANEL * panel_bytes(kind, inputs);
        int lane = (int)(n % PANEL);
        for (int k = 0; k < inputs; k++) {
            uint16_t half = as_bf16(values[n * inputs + k]);
            if (kind == BF16)
                memcpy(panel + 64 * (k / 2) + 4 * lane + 2 * (k % 2), &half, 2);
            else
                memcpy(panel + 64 * k + 4 * lane, values + n * inputs + k, 4);
        }
    }
}
