"""Jinja as transformers sets it up for chat templates, in a sandbox where no template runs long or makes much.

Jinja's own sandbox keeps a template from reaching Python, but not from ``'a' * 10**9`` or from loops within loops, and
what has begun cannot be stopped. So every operation is paid for from a `Meter` before it is done: those that Jinja lets
an environment do itself (calls, operators, filters, tests, output) here, the others as `template_steps` says. Filters
and methods whose cost could not be foretold are left out; those that the templates of known models use are all here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from genkan.upstream.template_costs import Costs
from genkan.upstream.template_meter import Meter, Overworked, Size
from genkan.upstream.template_steps import MeteredSteps

_CALL_UNITS = 20  # of a call, a loop's turn or a generator's item, beside what it does
_MAX_TIME_FORMAT_CHARS = 256

_FILTERS = """
    abs attr capitalize count d default dictsort e escape first float format groupby indent int items join last length
    list lower map max min reject rejectattr replace reverse round safe select selectattr sort string title trim
    truncate unique upper wordcount
"""
_TESTS_THAT_READ = "!= < <= == > >= eq equalto ge greaterthan gt in le lessthan lower lt ne upper"
_METHODS = {
    str: """
        capitalize casefold count endswith find format format_map index isalnum isalpha isascii isdecimal isdigit
        islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace
        rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
    """,
    dict: "copy get items keys values",
    list: "copy count index",
    tuple: "count index",
}
_METHODS_OF = {kind: frozenset(names.split()) for kind, names in _METHODS.items()}
_JINJAS_OWN = (BlockReference, Cycler, Joiner, LoopContext, Macro, Namespace, TemplateReference, Undefined)


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment of a model's templates. ``meter`` is what they pay from: allow a budget before each rendering.

    A template that cannot pay ends with Overworked, and one that touches what it may not with SecurityError.
    """

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, meter: Meter, now: Callable[[], datetime]) -> None:
        """``now`` is the time that ``strftime_now`` prints."""
        self._meter = meter
        self._costs = Costs(meter)
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing is worked out when a template is compiled
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
            finalize=self._output,
        )
        filters = {name: self._paid_filter(name, self.filters[name]) for name in _FILTERS.split()}
        self.filters = {**filters, "tojson": self._to_json}
        tests: Mapping[str, Any] = self.tests
        self.tests = {**tests, **{name: self._paid_test(tests[name]) for name in _TESTS_THAT_READ.split()}}
        self.globals = {
            "cycler": Cycler,
            "dict": _dict,
            "joiner": Joiner,
            "namespace": _Names,
            "raise_exception": self._refuse,
            "range": self.globals["range"],
            "strftime_now": lambda form: now().strftime(_time_format(form)),
        }

    def compiled(self, source: str) -> Template:
        """The template with its steps metered. Raises what Jinja or Python raise for a text that is no template."""
        self._meter.allow(Size(0, 0))
        tree = self.parse(source)
        MeteredSteps().visit(tree)
        tree.set_environment(self)
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def concat(self, parts: Iterable[str]) -> str:
        """Put the output of a macro, a block or the whole template together, while it is not too long."""
        made, chars = [], 0
        for part in parts:
            made.append(part)
            chars += len(part)
            if chars > self._meter.max_chars:
                break
        self._meter.make_text(chars)
        return "".join(made)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls, if it may and can pay."""
        owner = getattr(function, "__self__", None)
        if owner is self:  # put there by `template_steps`, or `raise_exception`
            return function(*args)
        self._meter.spend(_CALL_UNITS + len(args) + len(kwargs))
        if isinstance(owner, str | list | tuple | dict):
            args = self._costs.call_method(owner, function.__name__, args)
            made = super().call(context, function, *args, **kwargs)
            self._meter.skim(made)
            return made
        if function is _dict or isinstance(owner, LoopContext):
            self._meter.walk((args, kwargs))  # keys are hashed; ``loop.changed`` compares
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self._costs.operate(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(argument, str | int):
            self._meter.walk(argument)  # it is hashed
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        methods = next((methods for kind, methods in _METHODS_OF.items() if isinstance(obj, kind)), None)
        if methods is not None:
            return attr in methods
        return isinstance(obj, _JINJAS_OWN) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        @wraps(formatted)
        def paid(*args: Any, **kwargs: Any) -> str:
            self._costs.format_braces(value.__self__, (args, kwargs))
            return formatted(*args, **kwargs)

        return paid

    def pay(self, units: int) -> bool:
        """Pay for a loop's turn or a macro's body, of so many nodes."""
        self._meter.spend(_CALL_UNITS + units)
        return True

    def walked(self, value: Any) -> Any:
        """``value``, after paying for a walk through it."""
        self._meter.walk(value)
        return value

    def skimmed(self, value: Any) -> Any:
        """``value``, after paying for a walk along it."""
        self._meter.skim(value)
        return value

    def joined(self, *parts: Any) -> str:
        """What ``~`` makes of ``parts``."""
        self._meter.make_text(sum(map(self._meter.walk, parts)))
        return "".join(map(str, parts))

    def _output(self, value: Any) -> Any:
        if type(value) is not str:
            self._meter.make_text(self._meter.walk(value))
        return value

    def _paid_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja gives such a filter its context before the rest

        @wraps(function)
        def paid(*args: Any, **kwargs: Any) -> Any:
            own, (value, *rest) = args[:first], args[first:]
            value = self._costs.call_filter(name, value, tuple(rest), kwargs)
            return self._paid_result(function(*own, value, *rest, **kwargs))

        return paid

    def _paid_result(self, made: Any) -> Any:
        if isinstance(made, GeneratorType):
            return self._paid_items(made)
        if isinstance(made, str):
            self._meter.make_text(len(made))
        elif isinstance(made, int):
            self._meter.make_number(made.bit_length())
        elif isinstance(made, list):
            self._meter.make_items(len(made))
        return made

    def _paid_items(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._meter.spend(_CALL_UNITS)
            yield item

    def _paid_test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def paid(*args: Any) -> Any:
            self._meter.walk(args)
            return function(*args)

        return paid

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        self._costs.check_json(indent, separators)
        self._meter.make_text(self._meter.walk(value))
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, check_circular=False
        )
        return self.concat(encoder.iterencode(value) if indent is not None else [encoder.encode(value)])

    def _refuse(self, message: Any = "") -> None:
        self._meter.walk(message)
        raise TemplateError(str(message))


class _Generation(Extension):
    """``{% generation %}``, which marks what an assistant said, for training: what is in it is written as it is."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja's base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        return caller()


class _Names(Namespace):
    """Jinja's ``namespace``, which keeps no name of Python's and, written out, does not show what it holds."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that `self` may be one of the names
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace keeps no name such as {name!r}")


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _time_format(form: str) -> str:
    if len(form) > _MAX_TIME_FORMAT_CHARS:
        raise Overworked("it gives too long an argument")
    return form
