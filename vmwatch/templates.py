"""Templates for alerts: what a person wrote instead of the built-in words, judged when it is read, then filled in.

They are Jinja2's, in its sandbox, and of its language only what an alert needs. Whatever could make them run long or
grow large is refused when they are read: with no calls, no assignments, no arithmetic but + and -, no loops but one
over the voicemails, and only filters whose result is not larger than what goes in, a template's cost is at most its
own length times the voicemails of one alert. So no clock has to watch it, and no thread is left behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from jinja2.nodes import Node

LONGEST_SOURCE = 4_000
LONGEST_TITLE = 250
LONGEST_BODY = 10_000
"""Characters. A text that comes out longer is a template that failed."""

LONGEST_WORDS = 120
_QUOTED = re.compile(r"'(?![A-Za-z_ ]{1,40}'|\W{1,3}')[^']*'")
_UNDEFINED = re.compile(r"'([A-Za-z_]\w{0,39})' is undefined")
_NODES = frozenset(
    {"Template", "Output", "TemplateData", "Name", "Const", "Getattr", "Getitem", "Slice", "Filter", "Test", "If"}
    | {"For", "CondExpr", "Compare", "Operand", "And", "Or", "Not", "Concat", "Add", "Sub", "Neg", "Keyword"}
    | {"List", "Tuple"}
)
_FILTERS = frozenset(
    {"capitalize", "count", "d", "default", "first", "last", "length", "lower", "title", "trim", "upper"}
)
_SAID_AS = {"Call": "call anything", "Mul": "multiply", "Pow": "multiply", "Assign": "set anything", "Mod": "use %"}
_FAILURES = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
_UNCOMPILED = (*_FAILURES, SyntaxError, MemoryError)
"""What Python makes of a template that is nested too deeply depends on its version."""


class TemplateRefusedError(Exception):
    """Why a template can't be used, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A template that was accepted."""

    template: Template = field(repr=False)
    longest: int

    def fill(self, facts: Mapping[str, object]) -> str:
        """The text. Raises TemplateRefusedError, whatever it is that goes wrong."""
        import jinja2

        try:
            return "".join(self._parts(facts)).strip()
        except jinja2.UndefinedError as error:
            raise TemplateRefusedError(_undefined(str(error))) from None
        except (jinja2.TemplateError, *_FAILURES) as error:
            raise TemplateRefusedError(f"can't be filled in ({type(error).__name__})") from None

    def _parts(self, facts: Mapping[str, object]) -> Iterator[str]:
        room = self.longest
        for part in self.template.generate(facts):
            room -= len(part)
            if room < 0:
                raise TemplateRefusedError(f"comes out longer than {self.longest} characters")
            yield part


def accepted(source: str, longest: int) -> Filling:
    """What was written, ready to be filled in; nothing of it runs before it is judged. Raises TemplateRefusedError."""
    import jinja2

    if len(source) > LONGEST_SOURCE:
        raise TemplateRefusedError(f"must be at most {LONGEST_SOURCE} characters")
    try:
        _judge(_environment().parse(source))
        return Filling(_environment().from_string(source), longest)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateRefusedError(f"is not a template: line {error.lineno}: {_said(error.message or '')}") from None
    except (jinja2.TemplateError, *_UNCOMPILED) as error:
        raise TemplateRefusedError(f"is not a template ({type(error).__name__})") from None


@cache
def _environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    found = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # what channels may not act on is made harmless in `channels`, for each as it needs
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.clear()
    return found


def _judge(tree: Node) -> None:
    """Raises TemplateRefusedError for what could run long or grow large."""
    from jinja2 import nodes

    loops = list(tree.find_all(nodes.For))
    for loop in loops:
        if not (isinstance(loop.iter, nodes.Name) and loop.iter.name == "voicemails") or loop.recursive:
            raise TemplateRefusedError(f"line {loop.lineno}: a loop can only be over voicemails")
        if any(inner is not loop for inner in loop.find_all(nodes.For)):
            raise TemplateRefusedError(f"line {loop.lineno}: a loop can't have another one in it")
    for node in tree.find_all(nodes.Node):
        _judge_one(node)


def _judge_one(node: Node) -> None:
    from jinja2 import nodes

    kind = type(node).__name__
    if kind not in _NODES:
        raise TemplateRefusedError(f"line {node.lineno}: a template can't {_SAID_AS.get(kind, f'use {kind.lower()}')}")
    if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
        raise TemplateRefusedError(f"line {node.lineno}: the filters are {', '.join(sorted(_FILTERS))}")


def _said(words: str) -> str:
    """Jinja2's own words; what they quote of the template is shown where it is a mere name or sign."""
    return _QUOTED.sub("…", words)[:LONGEST_WORDS].rstrip(".")


def _undefined(words: str) -> str:
    named = _UNDEFINED.fullmatch(words)
    return f"there is no variable {named[1]}" if named else "uses a variable that does not exist"
