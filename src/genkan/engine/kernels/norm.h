/* The root mean square norm, of a row or of a head: x / sqrt(mean(x²) + epsilon), which weights then multiply. */
#ifndef GENKAN_NORM_H
#define GENKAN_NORM_H

#include <math.h>

#include "simd.h"

/* What the `count` values (a multiple of 16) are multiplied by. */
INLINE float norm_factor(const float *x, int count, float epsilon) {
    vf squares = all_f(0);
    for (int i = 0; i < count; i += LANES) {
        vf v = load_f(x + i);
        squares += v * v;
    }
    return 1.0f / sqrtf(sum_of(squares) / (float)count + epsilon);
}

#endif
