/* Sixteen lanes of 32 bits: one AVX-512 register. Where the processor has no instructions for bfloat16, others do.
 *
 * What a lane computes depends on that lane's numbers alone, and sums run in one fixed order; so a result is the same
 * bits however many rows, threads or requests are computed beside it. Everything above builds on that.
 */
#ifndef GENKAN_SIMD_H
#define GENKAN_SIMD_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
typedef uint32_t vu __attribute__((vector_size(64)));

INLINE vf load_f(const void *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE vu load_u(const void *p) {
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store_f(void *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE void store_u(void *p, vu v) { memcpy(p, &v, sizeof v); }
INLINE vf all_f(float x) { return x - (vf){0}; }
INLINE vu all_u(uint32_t x) { return x - (vu){0}; }

INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }

INLINE float sum_of(vf v) {
    return _mm512_reduce_add_ps((__m512)v);
}

INLINE float max_of(vf v) {
    return _mm512_reduce_max_ps((__m512)v);
}

INLINE vf max_f(vf a, vf b) {
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}

/* e^x, relative error below 2e-7; 0 below -87 and for -inf, e^88 above 88. Cody and Waite's reduction, Cephes'
 * polynomial. */
INLINE vf exp_f(vf x) {
    vi alive = x > -87.0f, high = x > 88.0f;
    vf clamped = (vf)(((vi)x & alive & ~high) | ((vi)all_f(88.0f) & high));
    vf n = to_float(__builtin_convertvector(clamped * 1.44269504088896341f + 192.5f, vi)) - 192.0f;
    vf r = clamped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = all_f(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vi exponent = (__builtin_convertvector(n, vi) + 127) << 23;
    return (vf)((vi)(p * (vf)exponent) & alive);
}

/* 0..15 in the four lowest bits of each lane, as floats. */
INLINE vf nibble_f(vu v) {
    const __m512 table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (vf)_mm512_permutexvar_ps((__m512i)v, table); /* reads only those four bits */
}

INLINE vf half_to_float(const uint16_t *p) {
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE vf bf16_to_float(const uint16_t *p) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}

/* Rounded to the nearest bfloat16, ties to even, in the upper half of each lane. */
INLINE vu rounded_bf16(vf v) {
    vu bits = (vu)v;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
}

/* Lane by lane, `low` and `high` as bfloat16 in the lower and the upper half. */
INLINE vu bf16_pairs(vf low, vf high) {
#if defined(__AVX512BF16__)
    const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                                6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512bh halves = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    return (vu)_mm512_permutexvar_epi16(interleave, (__m512i)halves);
#else
    return rounded_bf16(high) | (rounded_bf16(low) >> 16);
#endif
}

INLINE void store_bf16(uint16_t *p, vf v) {
#if defined(__AVX512BF16__)
    __m256bh halves = _mm512_cvtneps_pbh((__m512)v);
    memcpy(p, &halves, sizeof halves);
#else
    __m256i halves = _mm512_cvtepi32_epi16((__m512i)(rounded_bf16(v) >> 16));
    memcpy(p, &halves, sizeof halves);
#endif
}

/* sum + the dot product of two bfloat16 pairs, lane by lane, in float32. */
INLINE vf dot_pairs(vf sum, vu a, vu b) {
#if defined(__AVX512BF16__)
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (vf)(a << 16) * (vf)(b << 16);
    return sum + (vf)(a & 0xffff0000u) * (vf)(b & 0xffff0000u);
#endif
}

#endif
