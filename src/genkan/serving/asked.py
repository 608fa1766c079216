"""From a request's options, the model's defaults and the length of a prompt to what the engine is told."""

from dataclasses import dataclass

from genkan.config import ModelDefaults
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.sampling_params import SamplingParams
from genkan.errors import ContextTooLong
from genkan.serving.answering import Ending
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as its model understands it."""

    request: GenerationRequest
    defaults: ModelDefaults
    stop_ids: frozenset[int]  # the model's own
    max_model_len: int
    grammar: GrammarSpec | None = None

    @property
    def is_echo(self) -> bool:
        return isinstance(self.request, CompletionRequest) and self.request.echo

    @property
    def is_echo_only(self) -> bool:
        return self.is_echo and self.request.sampling.max_tokens == 0

    def params(self, prompt_tokens: int, begun_tokens: int = 0) -> SamplingParams:
        """For one prompt. Raises ContextTooLong where it and what was asked for do not fit the window together.

        ``begun_tokens``, which are not the prompt's, are those that the answer begins with: where it may have no
        more, ``max_tokens`` are 0 or less, and there is nothing to ask the engine for.

        Where only the prompt is wanted back, the engine still gives a token: with it comes what it knows of the prompt.
        """
        asked, defaults = self.request.sampling, self.defaults
        return SamplingParams(
            max_tokens=self._max_tokens(prompt_tokens, begun_tokens) - begun_tokens,
            min_tokens=asked.min_tokens,
            stop_ids=self._stop_ids(),
            temperature=defaults.temperature if asked.temperature is None else asked.temperature,
            top_p=defaults.top_p if asked.top_p is None else asked.top_p,
            top_k=asked.top_k,
            min_p=asked.min_p or 0.0,
            seed=asked.seed,
            ignore_eos=asked.ignore_eos and not asked.stop_ids,
            repetition_penalty=asked.repetition_penalty,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
            logit_bias=asked.logit_bias,
            logprobs=asked.logprobs,
            prompt_logprobs=asked.logprobs if self.is_echo else None,
            grammar=self.grammar,
            continued=begun_tokens,
        )

    def ending(self, *, parallel_calls: bool) -> Ending:
        asked = self.request.sampling
        return Ending(
            stop=asked.stop,
            stop_ids=self._stop_ids(),
            shows_stop=asked.shows_stop,
            min_tokens=asked.min_tokens,
            parallel_calls=parallel_calls,
        )

    def _stop_ids(self) -> frozenset[int]:
        """What ends an answer. ``ignore_eos`` is of the model's own ends, not of those that a request names."""
        asked = self.request.sampling
        if not asked.stop_ids:
            return self.stop_ids
        return frozenset(asked.stop_ids) | (frozenset() if asked.ignore_eos else self.stop_ids)

    def _max_tokens(self, prompt_tokens: int, begun_tokens: int) -> int:
        """Of the whole answer. Our own bound holds for those that were begun within it, and not for what has more."""
        asked, room = self.request.sampling, self.max_model_len - prompt_tokens
        if asked.max_tokens is None:
            usual = self.defaults.max_tokens + (begun_tokens if begun_tokens > self.defaults.max_tokens else 0)
            max_tokens = max(min(usual, room), asked.min_tokens, begun_tokens, 1)
        else:
            max_tokens = max(asked.max_tokens, 1)
        if max_tokens > room:
            raise ContextTooLong(
                limit_tokens=self.max_model_len,
                prompt_tokens=prompt_tokens,
                max_tokens=max_tokens,
                param="messages" if isinstance(self.request, ChatRequest) else "prompt",
            )
        return max_tokens
