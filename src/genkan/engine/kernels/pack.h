/* Weight matrices put into the layouts of linear.h. */
#ifndef GENKAN_PACK_H
#define GENKAN_PACK_H

#include <stdint.h>

/* Fill `out`. `scale` and `minimum` are [outputs, inputs / 32], but `scale` of Q8_FINE is [outputs, inputs / 16]; pack_q8
 * reads `minimum` for Q8_WIDE only. */
void pack_q4(const uint8_t *codes, const float *scale, const float *minimum, int32_t wide, int32_t outputs,
             int32_t inputs, int32_t panels, uint8_t *out);
void pack_q8(const int8_t *codes, const float *scale, const float *minimum, int32_t kind, int32_t outputs,
             int32_t inputs, int32_t panels, uint8_t *out);
void pack_dense(const float *values, int32_t kind, int32_t outputs, int32_t inputs, int32_t panels, uint8_t *out);

#endif
