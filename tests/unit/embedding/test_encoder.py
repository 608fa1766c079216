"""How texts are put into groups, and that a group's texts do not touch each other."""

import numpy as np
import pytest
import torch
from e5_bytes import POSITIONS, e5_bytes
from hypothesis import given
from hypothesis import strategies as st

from genkan.embedding.e5_model import load_e5
from genkan.embedding.encoder import GROUP_TOKENS, Encoder, groups

LENGTHS = st.lists(st.integers(1, 600), max_size=80)


@pytest.fixture(scope="module", params=[(torch.float32, 1), (torch.float32, 3), (torch.bfloat16, 2)])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path = tmp_path_factory.mktemp("e5") / "e5.bin"
    path.write_bytes(e5_bytes())
    dtype, threads = request.param
    return load_e5(path, device=torch.device("cpu"), dtype=dtype, threads=threads)[0]


@given(LENGTHS, st.integers(1, 8))
def test_every_text_is_in_one_group_and_no_group_is_too_large(lengths: list[int], threads: int) -> None:
    found = groups(lengths, threads)
    assert sorted(place for group in found for place in group) == list(range(len(lengths)))
    for group in found:
        longest = max(lengths[place] for place in group)
        assert len(group) * longest <= GROUP_TOKENS or len(group) == 1


@given(LENGTHS, st.integers(1, 8))
def test_little_is_padded(lengths: list[int], threads: int) -> None:
    for group in groups(lengths, threads):
        sizes = [lengths[place] for place in group]
        assert len(group) * max(sizes) <= sum(sizes) / 0.85 + 80


def test_one_long_text_does_not_make_others_long() -> None:
    assert groups([500, 10, 11, 12], 1) == [[1, 2, 3], [0]]


def test_each_thread_gets_a_part_of_a_large_batch_and_a_small_one_is_not_cut() -> None:
    assert [len(group) for group in groups([16] * 32, 2)] == [18, 14]
    assert [len(group) for group in groups([16] * 4, 2)] == [4]


def test_a_text_has_the_same_vector_in_any_batch(encoder: Encoder) -> None:
    random = np.random.default_rng(1)
    texts = [random.integers(0, 11, length).tolist() for length in (3, 24, 5, 5, 17, 9, 2, 24) for _ in range(5)]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.min(np.sum(together * alone, axis=1)) > 0.999
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_nothing_makes_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimensions)
    assert encoder.positions == POSITIONS
