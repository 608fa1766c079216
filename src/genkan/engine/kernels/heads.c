/* See heads.h. */
#include "heads.h"

#include "norm.h"
#include "simd.h"

static void add_bias(float *x, const float *bias, int count) {
    for (int i = 0; i < count; i += LANES) store_f(x + i, load_f(x + i) + load_f(bias + i));
}

static void norm(float *x, const float *weight, int dim, float epsilon) {
    float factor = norm_factor(x, dim, epsilon);
    for (int i = 0; i < dim; i += LANES) store_f(x + i, load_f(x + i) * factor * load_f(weight + i));
}

static void rotate(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[half + i] = b * cosine[i] + a * sine[i];
    }
}

void heads_prepare(const Heads *h, float *qkv, const float *cosine, const float *sine) {
    int dim = h->head_dim;
    if (h->bias) add_bias(qkv, h->bias, (h->heads + 2 * h->kv_heads) * dim);
    for (int head = 0; head < h->heads + h->kv_heads; head++) {
        const float *weight = head < h->heads ? h->query_norm : h->key_norm;
        if (weight) norm(qkv + head * dim, weight, dim, h->norm_epsilon);
        rotate(qkv + head * dim, cosine, sine, dim / 2);
    }
}
