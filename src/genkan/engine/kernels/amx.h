/* bfloat16 products by the processor's matrix unit (AMX), where there is one that gives right answers. */
#ifndef GENKAN_AMX_H
#define GENKAN_AMX_H

#include <stdint.h>

enum { AMX_ROWS = 32 };

/* Whether to use it: tried once, in a child process, on numbers whose products are known. */
int amx_works(void);

/* sums[row, 0..31] += x[row] · w, for up to AMX_ROWS rows; as `micro` in linear.c, with bfloat16 pairs. Each sum is one
 * chain along k whatever the number of rows, but not the chain that it is there: a process takes one of the two. */
void amx_multiply(int rows, const uint8_t *w0, const uint8_t *w1, int k, const uint16_t *x, int64_t stride,
                  float *sums);
/* To be called by a thread that multiplied, before it does other work for long: tiles make its switches dearer. */
void amx_release(void);

#endif
