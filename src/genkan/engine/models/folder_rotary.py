"""The rotary embeddings of a ``config.json``.

Version 4 of transformers has ``rope_theta`` and, where it is scaled, ``rope_scaling``; version 5 has both in
``rope_parameters``, by the type of layer where a model has several.
"""

from collections.abc import Mapping

from genkan.engine.models.decoder import Rotary
from genkan.engine.models.description import MAX_CONTEXT, Description
from genkan.engine.models.rotary import LinearScaling, Llama3Scaling, Scaling, YarnScaling, rotary, yarn_temperature
from genkan.errors import ModelFileError

_KNOWN = ("default", "linear", "llama3", "yarn")


def rotary_of(
    read: Description,
    head_dim: int,
    *,
    layer_type: str | None = None,
    base: tuple[str, float] = ("rope_theta", 10_000.0),
    scaled: bool = True,
) -> Rotary:
    """The rotary embedding of heads of ``head_dim``, in layers of ``layer_type`` where there are several.

    ``base`` is the name that version 4 has for the base, and what is meant without one; in its form there, only
    ``scaled`` layers are scaled. Raises ModelFileError for a scaling that the engine does not do.
    """
    parameters = read.part("rope_parameters")
    if layer_type is not None and isinstance(parameters.given(layer_type), Mapping):
        parameters = parameters.part(layer_type)
    elif scaled and "rope_scaling" in read:
        parameters = read.part("rope_scaling")
    elif not scaled:
        parameters = Description({})
    theta = parameters.number("rope_theta", default=read.number(base[0], default=base[1]))
    return rotary(theta, head_dim, _scaling(parameters, read))


def _scaling(parameters: Description, read: Description) -> Scaling | None:
    if (share := parameters.given("partial_rotary_factor") or read.given("partial_rotary_factor") or 1.0) != 1.0:
        raise ModelFileError(f"the model rotates a part of each head (partial_rotary_factor {share}), not done here")
    kind = parameters.given("rope_type") or parameters.given("type") or "default"
    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(parameters.number("factor"))
        case "llama3":
            return Llama3Scaling(
                factor=parameters.number("factor"),
                low_freq_factor=parameters.number("low_freq_factor"),
                high_freq_factor=parameters.number("high_freq_factor"),
                original_context=_original_context(parameters, read),
            )
        case "yarn":
            return _yarn(parameters, read)
    raise ModelFileError(f"the model's rotary embedding is scaled by {kind!r}; the engine knows: {', '.join(_KNOWN)}")


def _yarn(parameters: Description, read: Description) -> YarnScaling:
    factor, attention_factor = parameters.number("factor"), None
    if "attention_factor" in parameters:
        attention_factor = parameters.number("attention_factor")
    elif parameters.given("mscale") and parameters.given("mscale_all_dim"):
        attention_factor = yarn_temperature(factor, parameters.number("mscale")) / yarn_temperature(
            factor, parameters.number("mscale_all_dim")
        )
    return YarnScaling(
        factor=factor,
        original_context=_original_context(parameters, read),
        beta_fast=parameters.number("beta_fast", default=32.0),
        beta_slow=parameters.number("beta_slow", default=1.0),
        truncate=parameters.flag("truncate", default=True),
        attention_factor=attention_factor,
    )


def _original_context(parameters: Description, read: Description) -> int:
    name = "original_max_position_embeddings"
    if name in read:  # which is where some models have it, and goes before
        return read.count(name, most=MAX_CONTEXT)
    return parameters.count(name, default=read.count("max_position_embeddings", most=MAX_CONTEXT), most=MAX_CONTEXT)
