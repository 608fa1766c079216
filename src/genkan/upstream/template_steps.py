"""A template's own steps, paid for: calls of the sandbox put into its tree before it is compiled.

They stand where Jinja asks its environment nothing: at each turn of a loop, at the beginning of a macro, around what is
compared, sliced or put together with ``~``.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

_MEMBERSHIP = ("in", "notin")


class MeteredSteps(NodeTransformer):
    """Changes a tree. The sandbox that compiles it has ``pay``, ``walked``, ``skimmed`` and ``joined``."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """``node`` with all that is in it metered."""
        match node:
            case nodes.For() | nodes.Macro() | nodes.CallBlock() | nodes.Block():
                self._pay_for_body(node)
            case nodes.Concat():
                self.generic_visit(node)
                return _asked("joined", node.nodes)
            case nodes.Compare():
                self.generic_visit(node)
                _pay_for_comparing(node)
            case nodes.Getitem(arg=nodes.Slice()):
                self.generic_visit(node)
                node.node = _asked("skimmed", [node.node])
            case nodes.Pair():
                self.generic_visit(node)
                if not isinstance(node.key, nodes.Const):
                    node.key = _asked("walked", [node.key])  # it is hashed
            case _:
                self.generic_visit(node)
        return node

    def _pay_for_body(self, node: nodes.For | nodes.Macro | nodes.CallBlock | nodes.Block) -> None:
        payment = nodes.ExprStmt(_paid(*node.body))
        if isinstance(node, nodes.For) and node.test is not None:  # what fails the test has no turn, but was tested
            node.test = nodes.And(_paid(node.test), node.test)
        self.generic_visit(node)
        node.body = [payment, *node.body]


def _pay_for_comparing(node: nodes.Compare) -> None:
    if len(node.ops) == 1 and _is_brief(node):
        node.ops[0].expr = _asked("skimmed", [node.ops[0].expr])
        return
    node.expr = _asked("walked", [node.expr])
    for operand in node.ops:
        operand.expr = _asked("walked", [operand.expr])


def _is_brief(node: nodes.Compare) -> bool:
    """Whether a value is compared with a constant, which is short, or a constant is looked for in it."""
    operand = node.ops[0]
    compared = isinstance(operand.expr, nodes.Const) and operand.op not in _MEMBERSHIP
    return compared or isinstance(node.expr, nodes.Const)


def _paid(*steps: nodes.Node) -> nodes.Expr:
    """A call that pays for ``steps``, all of their nodes, and is true."""
    units = sum(1 + sum(1 for _ in step.find_all(nodes.Node)) for step in steps)
    return _asked("pay", [nodes.Const(units)])


def _asked(name: str, args: Sequence[nodes.Expr]) -> nodes.Expr:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)
