"""Architectures that the engine does not have itself, by transformers' own modules and our attention over pages.

transformers lets a function of ours stand in for its attention. All sequences of a step are one row of tokens to it,
each token with its position; only attention looks at other tokens, and ours looks where the pages are. What mixes
tokens in another way, such as a recurrent state, cannot run like that, and nothing a model says of itself tells all
such models apart: so each is tried when it is loaded, against its own attention.
"""

import inspect
import math
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import torch

from genkan.engine.attention.gather import GatherAttention
from genkan.engine.attention.paged import PagedAttention
from genkan.engine.attention.transformers_pages import Pages, paged_attention, refusal
from genkan.engine.batch import TOKENS_PER_TILE, Batch, BatchItem
from genkan.engine.load import folder
from genkan.engine.models.description import MAX_CONTEXT, MAX_LAYERS, Description
from genkan.engine.models.folder_decoder import architecture_of
from genkan.engine.torch_batch import TorchBatch
from genkan.errors import ModelFileError

_NAME = "genkan_paged"
_CPU = torch.device("cpu")
_REFUSED = {
    "is_encoder_decoder": "it has an encoder",
    "vision_config": "it is multimodal",
    "audio_config": "it is multimodal",
    "attention_chunk_size": "its attention is cut into chunks",
    "quantization_config": "its weights are quantised by another library",
}
_ROTARIES = frozenset({"default", "linear", "llama3", "yarn"})  # others look at how long the whole row is
_COUNTED = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_TRIED_TOKENS = 40
_TRIED_TILES = 8
_TOLERANCE = {torch.float32: 1e-4}  # of the largest logit
_HALF_TOLERANCE = 0.05


class AttentionShape(NamedTuple):
    """What a token's keys and values take."""

    layers: int
    kv_heads: int
    head_dim: int


class TransformersModel:
    """A Forward. Used by one thread at a time.

    ``shape`` says what a token's KV takes; ``context_length`` is the model's own window in tokens. ``kv`` is as
    TorchModel's; it is there after ``allocate``.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device = _CPU,
        attention: PagedAttention | None = None,
    ) -> None:
        """Load the model in the folder ``path`` and try it. ``attention`` is GatherAttention unless given.

        Raises ModelFileError for what cannot run over pages, and says why. Runs no code that the folder brings. Cost:
        that of transformers, and some forward passes of 40 tokens.
        """
        description = folder.read_config(path)
        self.architecture = _checked_architecture(description)
        stored = folder.read(path)  # which also refuses what is not safetensors, or damaged
        self.digest = stored.digest
        _check_counts(Description(description), len(stored.tensors))
        self.context_length = Description(description).count(
            "n_positions" if "n_positions" in description else "max_position_embeddings", most=MAX_CONTEXT
        )
        if self.context_length < 2:
            raise refusal(self.architecture, "its window is a single token")
        self._device = device
        self._pages = Pages(attention or GatherAttention())
        num_values = sum(math.prod(tensor.shape) for tensor in stored.tensors.values())
        self._model = _loaded(path, self.architecture, num_values, dtype, device)
        self._pages.serve(self._model)
        self._keeps_rows = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        try:
            self.shape = self._tried()
            self.vocab_size: int = self._model.get_output_embeddings().weight.shape[0]
            self._prove(dtype)
        except ModelFileError:
            raise
        except Exception as error:
            raise self._refusal(f"it fails with our attention: {error}") from error

    @property
    def kv(self) -> torch.Tensor:
        if self._pages.kv is None:
            raise RuntimeError("the model has no KV cache yet")
        return self._pages.kv

    def allocate(self, tiles: int) -> None:
        """Make a KV cache of ``tiles`` tiles of 16 tokens."""
        layers, kv_heads, head_dim = self.shape
        parameter = next(self._model.parameters())
        slots = tiles * TOKENS_PER_TILE
        self._pages.kv = torch.empty(layers, 2, slots, kv_heads, head_dim, dtype=parameter.dtype, device=self._device)

    def forward(self, batch: Batch) -> torch.Tensor:
        """See Forward."""
        return self.step(TorchBatch.of(batch, self._device)).float().cpu()

    @torch.inference_mode()
    def step(self, batch: TorchBatch) -> torch.Tensor:
        """As TorchModel's."""
        self._pages.batch = batch
        wanted = {"logits_to_keep": batch.output_row} if self._keeps_rows else {}
        logits: torch.Tensor = self._model(
            input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False, **wanted
        ).logits[0]
        return logits if self._keeps_rows else logits[batch.output_row]

    def _tried(self) -> AttentionShape:
        """One token's pass, in which attention only notes who calls it, and with what."""
        self.step(_one_token(self._device))
        shapes, callers = self._pages.shapes, self._pages.num_callers
        layers = self._model.config.num_hidden_layers
        if len(shapes) != 1 or callers != layers:
            raise self._refusal(f"{callers} of its {layers} layers attend, in {len(shapes)} shapes")
        kv_heads, head_dim = next(iter(shapes))
        return AttentionShape(layers, kv_heads, head_dim)

    def _prove(self, dtype: torch.dtype) -> None:
        """Two sequences in chunks, by our attention, must give what one row alone gives by the model's own."""
        count = min(_TRIED_TOKENS, self.context_length)
        ids = torch.arange(count) * 7919 % self.vocab_size
        self._model.set_attn_implementation("eager")
        with torch.inference_mode():
            theirs = self._model(input_ids=ids[None].to(self._device), use_cache=False).logits[0].float().cpu()
        self._model.set_attn_implementation(_NAME)
        self.allocate(_TRIED_TILES)
        tokens, half = array("i", ids.tolist()), count // 2
        blocks, others = array("i", [5, 0, 3]), array("i", [1, 4])
        first = self.forward(Batch.of([BatchItem(tokens[:half], 0, blocks, half)]))
        then = self.forward(
            Batch.of([BatchItem(tokens[:half], 0, others, half), BatchItem(tokens[half:], half, blocks, count - half)])
        )
        self._pages.kv = None
        expected = torch.cat([theirs[:half], theirs[:half], theirs[half:]])
        difference = (torch.cat([first, then]) - expected).abs().max() / expected.abs().max()
        if not difference < _TOLERANCE.get(dtype, _HALF_TOLERANCE):
            raise self._refusal("over pages it does not compute what it computes alone, so tokens mix elsewhere too")

    def _refusal(self, why: str) -> ModelFileError:
        return refusal(self.architecture, why)


def _checked_architecture(description: dict[str, Any]) -> str:
    architecture = architecture_of(description)
    for name, why in _REFUSED.items():
        if description.get(name):
            raise refusal(architecture, why)
    for name in ("rope_parameters", "rope_scaling"):
        rope = description.get(name)
        for parameters in (rope, *rope.values()) if isinstance(rope, dict) else ():
            if isinstance(parameters, dict):
                kind = parameters.get("rope_type") or parameters.get("type") or "default"
                if str(kind) not in _ROTARIES:
                    raise refusal(architecture, f"its rotary embedding is scaled by {kind!r}")
    return architecture


def _check_counts(description: Description, num_tensors: int) -> None:
    """Refuses what transformers would build for hours before it finds that there are no weights for it."""
    for name in _COUNTED:
        if name in description:
            description.count(name, most=min(MAX_LAYERS, num_tensors))


def _loaded(path: Path, architecture: str, num_values: int, dtype: torch.dtype, device: torch.device) -> Any:
    import transformers  # here, because it takes seconds and few models need it
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(_NAME, paged_attention)
    transformers.utils.logging.disable_progress_bar()
    try:
        _check_size(path, architecture, num_values)
        model, said = transformers.AutoModelForCausalLM.from_pretrained(  # nosec B615  # local files only
            path,
            dtype=dtype,
            attn_implementation=_NAME,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"the model's architecture {architecture} is none of the engine's, and transformers cannot load it: {error}"
        ) from error
    if type(model).__name__ != architecture:
        raise refusal(architecture, f"transformers has it as {type(model).__name__}, which generates no text")
    if missing := sorted(said["missing_keys"]):  # which transformers makes up
        raise ModelFileError(f"the model file lacks {len(missing)} tensors, such as {missing[0]}")
    if getattr(model, "_is_stateful", False):
        raise refusal(architecture, "it keeps a state of its own between tokens")
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise refusal(architecture, "it takes no positions")
    return model.to(device).eval()


def _check_size(path: Path, architecture: str, num_values: int) -> None:
    """Refuses a description of far more weights than the files have: transformers makes them up before it complains."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(  # nosec B615  # local files only
        path, trust_remote_code=False, local_files_only=True
    )
    with torch.device("meta"):  # where weights have a shape and take no memory
        empty = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    described = sum(parameter.numel() for parameter in empty.parameters())
    if described > 2 * num_values:  # a head that is tied may be counted too
        raise refusal(architecture, f"its config.json describes {described} weights, and its files have {num_values}")


def _one_token(device: torch.device) -> TorchBatch:
    return TorchBatch.of(Batch.of([BatchItem(array("i", [0]), 0, array("i", [0]), 1)]), device)
