"""Attention over pages as one Triton kernel: prompt chunks and decodes alike, in one launch.

A program takes a few queries of one sequence, with all the heads that share one KV head, and goes once through the
keys they see: scores, running maximum and sum, weighted values (online softmax). Tiles of 16 tokens are found by the
sequence's table, so nothing is gathered or copied. Which sequence a program works for is a binary search in the
sequences' first rows, as blocks of queries are counted through the batch.

Where there are few queries and long contexts, the programs would be too few for the GPU: then the keys are cut into
splits, each with a program of its own, and a second small kernel puts the partial softmaxes together.

Sources: FlashAttention-2 (arXiv:2307.08691) for the loop, Flash-Decoding for the splits, vLLM's paged attention
(arXiv:2309.06180) for the tables. Runs on CPU tensors under ``TRITON_INTERPRET=1``, which must be set before this
module is imported.
"""

import triton
import triton.language as tl


@triton.jit
def sequence_of(block, first_row, sequences, QUERIES: tl.constexpr):
    """The last sequence whose blocks of queries begin at ``block`` or before."""
    low, high = 0, sequences
    while low < high:
        middle = (low + high) // 2
        if tl.load(first_row + middle) // QUERIES + middle <= block:
            low = middle + 1
        else:
            high = middle
    return low - 1


# Triton would compile the kernel anew where one of these is 1, or a multiple of 16: seconds, in the middle of serving.
@triton.jit(do_not_specialize=["sequences", "table_width", "rows_in_all"])
def attend(
    queries, keys, values, out, partial, sums, tables, first_row, lengths,  # pointers
    scale, sequences, table_width, rows_in_all,
    WINDOW: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    QUERIES: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, TILE: tl.constexpr, SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of QUERIES queries with the GROUP heads of one KV head, over one of SPLITS parts of their keys."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    block, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    sequence = sequence_of(block, first_row, sequences, QUERIES)
    first = tl.load(first_row + sequence)
    count = tl.load(first_row + sequence + 1) - first
    first_query = (block - first // QUERIES - sequence) * QUERIES
    if first_query < count:
        length = tl.load(lengths + sequence)
        row = tl.arange(0, ROWS)
        query = first_query + row // GROUP
        head = kv_head * GROUP + row % GROUP
        there = (row < QUERIES * GROUP) & (query < count)
        own = length - count + query
        dim = tl.arange(0, PADDED_DIM)
        place = ((first + query) * HEADS + head).to(tl.int64) * DIM
        q = tl.load(queries + place[:, None] + dim[None, :], mask=there[:, None] & (dim < DIM)[None, :], other=0.0)

        end = tl.minimum(length - count + first_query + QUERIES, length)
        begin = 0
        if WINDOW > 0:
            begin = tl.maximum(length - count + first_query + 1 - WINDOW, 0) // KEYS * KEYS
        per_split = tl.cdiv(tl.cdiv(end - begin, KEYS), SPLITS) * KEYS
        begin += split * per_split
        end = tl.minimum(end, begin + per_split)

        best = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        sum_of_values = tl.zeros([ROWS, PADDED_DIM], tl.float32)
        for start in range(begin, end, KEYS):
            key = start + tl.arange(0, KEYS)
            is_key = key < end
            tile = tl.load(tables + sequence * table_width + key // TILE, mask=is_key, other=0)
            at = ((tile.to(tl.int64) * TILE + key % TILE) * KV_HEADS + kv_head) * DIM
            k = tl.load(keys + at[None, :] + dim[:, None], mask=is_key[None, :] & (dim < DIM)[:, None], other=0.0)
            score = tl.dot(q, k, input_precision=PRECISION) * scale
            seen = is_key[None, :] & (key[None, :] <= own[:, None])
            if WINDOW > 0:
                seen = seen & (key[None, :] > own[:, None] - WINDOW)
            score = tl.where(seen, score, float("-inf"))
            higher = tl.maximum(best, tl.max(score, 1))
            shift = tl.where(higher == float("-inf"), 0.0, higher)  # a row that has seen nothing yet
            weight = tl.exp2(score - shift[:, None])
            fading = tl.exp2(best - shift)
            v = tl.load(values + at[:, None] + dim[None, :], mask=is_key[:, None] & (dim < DIM)[None, :], other=0.0)
            total = total * fading + tl.sum(weight, 1)
            sum_of_values = sum_of_values * fading[:, None] + tl.dot(weight.to(v.dtype), v, input_precision=PRECISION)
            best = higher
        kept = there[:, None] & (dim < DIM)[None, :]
        if SPLITS == 1:
            divisor = tl.where(there, total, 1.0)
            tl.store(out + place[:, None] + dim[None, :], sum_of_values / divisor[:, None], mask=kept)
        else:
            item = (split * rows_in_all + first + query) * HEADS + head
            tl.store(partial + item.to(tl.int64)[:, None] * DIM + dim[None, :], sum_of_values, mask=kept)
            tl.store(sums + 2 * item, best, mask=there)
            tl.store(sums + 2 * item + 1, total, mask=there)


@triton.jit(do_not_specialize=["items"])
def combine(
    partial, sums, out, items, DIM: tl.constexpr, PADDED_DIM: tl.constexpr, SPLITS: tl.constexpr
):  # fmt: skip
    """One query of one head: its splits' softmaxes as one. ``items`` are all queries times heads."""
    item = tl.program_id(0)
    split = tl.arange(0, SPLITS)
    dim = tl.arange(0, PADDED_DIM)
    each = split * items + item
    best = tl.load(sums + 2 * each)
    total = tl.load(sums + 2 * each + 1)
    weight = tl.exp2(best - tl.max(best, 0))  # of a split that saw no key: 0
    values = tl.load(partial + each.to(tl.int64)[:, None] * DIM + dim[None, :], mask=(dim < DIM)[None, :], other=0.0)
    mean = tl.sum(values * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(out + item.to(tl.int64) * DIM + dim, mean, mask=dim < DIM)
