"""Values as Luigi reads them, one by one: percent signs as typed, and each value that it cannot
read told in words.

Luigi stops at the first such value with a traceback that names neither section nor key. Refuses to
know what a value means: `tasks.config.settings` checks that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from configparser import Interpolation, InterpolationError, InterpolationSyntaxError
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import LuigiConfigParser, get_config
from luigi.configuration.cfg_parser import EnvironmentInterpolation

_REFERENCE = re.compile(r"(?<!%)(?:%%)*%\(")
_SECRET = frozenset({("download", "proxy")})
"""Settings that may hold a password: no message repeats them."""
_FORMS: tuple[tuple[str, str], ...] = (
    ("BoolParameter", "true or false"),
    ("IntParameter", "a whole number"),
    ("FiniteNumber", "a finite number"),
    ("FloatParameter", "a number"),
    ("DateParameter", "a date such as 2026-01-31"),
    ("ListParameter", 'a JSON list such as ["a", "b"]'),
    ("TupleParameter", 'a JSON list such as ["a", "b"]'),
    ("DictParameter", 'a JSON object such as {"a": 1}'),
)
"""Luigi's name of a parameter's class, or of a base of it → what it reads."""


class PercentAsTyped(EnvironmentInterpolation):
    """`%` is a percent sign and `${NAME}` is a variable of the environment.

    Python's own rule for such files makes `p%40ss` an error and wants `p%%40ss`. A doubled sign is
    still read as one, so that files written for that rule keep their meaning; `%(name)s` is
    refused, for it would change its meaning.
    """

    def before_get(self, parser: Any, section: Any, option: Any, value: Any, defaults: Any) -> Any:
        """The value of a key as code sees it. Raises InterpolationError, whose message does not
        repeat the value.
        """
        if _REFERENCE.search(value):
            reason = "refers to another setting by %(...)s, which is not supported: write its value, or use ${VARIABLE}"
            raise InterpolationSyntaxError(option, section, reason)
        text = value.replace("%%", "%")
        for name in self._ENVRE.findall(text):
            if name not in os.environ:
                reason = f"uses ${{{name}}}, which the environment does not have: set it, or write the value itself"
                raise InterpolationSyntaxError(option, section, reason)
        return super().before_get(parser, section, option, text, defaults)  # type: ignore[no-untyped-call]


def take_percent_as_typed() -> None:
    """From now on, for every value of every settings file that Luigi has read."""
    config = get_config()
    if isinstance(config, LuigiConfigParser):
        rule: Interpolation = PercentAsTyped()
        config._interpolation = rule  # type: ignore[attr-defined]  # read at each access; there is no public way


def value_faults(
    section: str,
    parameters: Mapping[str, Any],
    *,
    given: Mapping[str, Any] | None = None,
    options: str | None = None,
    written_in: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """One sentence for each key whose value is absent or unreadable: where it stands, what it is,
    what may stand there.

    `given` is what the command line says, by default of this process's, and `options` what its
    options begin with, `--section-` by default; `written_in` names, for a key, the section of the
    file that its value comes from, if that is another.
    """
    on_line = _command_line() if given is None else given
    prefix = f"--{section}-" if options is None else options
    for key, parameter in parameters.items():
        option = on_line.get(f"{section}_{key}")
        if option:
            yield from unreadable(
                f"{prefix}{key}".replace("_", "-"), parameter, option, (section, key)
            )
            continue
        place = f"[{(written_in or {}).get(key, section)}] {key}"
        try:
            text = get_config().get(section, key, None)
        except InterpolationError as error:
            yield f"{place} {error}"
            continue
        if text is not None:
            yield from unreadable(place, parameter, text, (section, key))
        elif not parameter.has_task_value(section, key):
            yield f"{place} is not set; write it in workflows.cfg, with the comment above it as a guide"


def _command_line() -> Mapping[str, Any]:
    parser = CmdlineParser.get_instance()
    return {} if parser is None else vars(parser.known_args)


def unreadable(
    place: str, parameter: Any, text: Any, name: tuple[str, str] = ("", "")
) -> Iterator[str]:
    """A sentence if `parameter` cannot read what stands at `place`; `name` is section and key of a
    setting of ours.
    """
    try:
        # A flag of the command line is already a value.
        parameter.parse(text) if isinstance(text, str) else None
    except (
        ValueError,
        TypeError,
        KeyError,
        SyntaxError,
        luigi.parameter.ParameterException,
    ) as error:
        shown = "another value, which is not shown here" if name in _SECRET else repr(text)
        yield f"{place} takes {form_of(parameter, error)}; got {shown}"


def form_of(parameter: Any, error: Exception | None = None) -> str:
    """What a parameter reads, in words."""
    names = {kind.__name__ for kind in type(parameter).__mro__}
    if "ChoiceParameter" in names:
        return f"one of {', '.join(map(str, sorted(parameter._choices)))}"
    known = next((form for name, form in _FORMS if name in names), None)
    return known or f"what Luigi's {type(parameter).__name__} reads" + (
        f" ({error})" if error else ""
    )
