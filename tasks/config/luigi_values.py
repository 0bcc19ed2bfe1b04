"""Values as Luigi reads them: percent signs as typed, and a sentence for each unreadable value.

Luigi itself stops at the first unreadable value with a traceback that names neither section nor
key. What a value means is checked in `tasks.config.settings`.
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
_FORMATS: tuple[tuple[str, str], ...] = (
    ("BoolParameter", "true or false"),
    ("IntParameter", "a whole number"),
    ("FiniteNumber", "a finite number"),
    ("FloatParameter", "a number"),
    ("DateParameter", "a date such as 2026-01-31"),
    ("ListParameter", 'a JSON list such as ["a", "b"]'),
    ("TupleParameter", 'a JSON list such as ["a", "b"]'),
    ("DictParameter", 'a JSON object such as {"a": 1}'),
)
"""Luigi's name of a parameter's class, or of a base of it → the expected format."""


class PercentAsTyped(EnvironmentInterpolation):
    """`%` is a percent sign and `${NAME}` is a variable of the environment.

    Python's own rule for such files makes `p%40ss` an error and wants `p%%40ss`. A doubled sign is
    still read as one, so that files written for that rule keep their meaning. `%(name)s` is
    refused, since its meaning would change.
    """

    def before_get(self, parser: Any, section: Any, option: Any, value: Any, defaults: Any) -> Any:
        """The value of a key as code sees it.

        Raises InterpolationError, whose message does not repeat the value: it may be a password.
        """
        if _REFERENCE.search(value):
            reason = (
                "refers to another setting by %(...)s, which is not supported: "
                "write its value, or use ${VARIABLE}"
            )
            raise InterpolationSyntaxError(option, section, reason)
        text = value.replace("%%", "%")
        for name in self._ENVRE.findall(text):
            if name not in os.environ:
                reason = (
                    f"uses ${{{name}}}, which the environment does not have: "
                    "set it, or write the value itself"
                )
                raise InterpolationSyntaxError(option, section, reason)
        return super().before_get(parser, section, option, text, defaults)  # type: ignore[no-untyped-call]


def install_percent_rule() -> None:
    """Use `PercentAsTyped` from now on, for every settings file that Luigi has read."""
    config = get_config()
    if isinstance(config, LuigiConfigParser):
        rule: Interpolation = PercentAsTyped()
        # There is no public way. The attribute is read at each access to a value.
        config._interpolation = rule  # type: ignore[attr-defined]


def value_faults(
    section: str,
    parameters: Mapping[str, Any],
    *,
    given: Mapping[str, Any] | None = None,
    options: str | None = None,
    written_in: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """One sentence for each absent or unreadable value: its place, the value, the expected format.

    `given` holds the options of the command line, by default those of this process; `options` is
    the prefix of these options, by default `--section-`. `written_in` maps a key to the section of
    the file that its value comes from, where that is another one.
    """
    on_command_line = _command_line() if given is None else given
    prefix = f"--{section}-" if options is None else options
    for key, parameter in parameters.items():
        option = on_command_line.get(f"{section}_{key}")
        if option:  # the command line overrides the file
            option_name = f"{prefix}{key}".replace("_", "-")
            yield from parse_faults(option_name, parameter, option, (section, key))
        else:
            place = f"[{(written_in or {}).get(key, section)}] {key}"
            yield from _file_faults(place, section, key, parameter)


def _file_faults(place: str, section: str, key: str, parameter: Any) -> Iterator[str]:
    try:
        text = get_config().get(section, key, None)
    except InterpolationError as error:
        yield f"{place} {error}"
        return
    if text is not None:
        yield from parse_faults(place, parameter, text, (section, key))
    elif not parameter.has_task_value(section, key):
        yield f"{place} is not set; write it in workflows.cfg, as the comment above it explains"


def _command_line() -> Mapping[str, Any]:
    parser = CmdlineParser.get_instance()
    return {} if parser is None else vars(parser.known_args)


def parse_faults(
    place: str, parameter: Any, text: Any, name: tuple[str, str] = ("", "")
) -> Iterator[str]:
    """A sentence if `parameter` cannot read the value at `place`.

    `name` is the section and key of one of our settings.
    """
    if not isinstance(text, str):  # a flag of the command line is a value already
        return
    try:
        parameter.parse(text)
    except (
        ValueError,
        TypeError,
        KeyError,
        SyntaxError,
        luigi.parameter.ParameterException,
    ) as error:
        shown = "another value, which is not shown here" if name in _SECRET else repr(text)
        yield f"{place} takes {expected_format(parameter, error)}; got {shown}"


def expected_format(parameter: Any, error: Exception | None = None) -> str:
    """The format that a parameter reads, in words."""
    class_names = {kind.__name__ for kind in type(parameter).__mro__}
    if "ChoiceParameter" in class_names:
        choices = sorted(parameter._choices)
        return f"one of {', '.join(map(str, choices))}"
    for class_name, form in _FORMATS:
        if class_name in class_names:
            return form
    reason = f" ({error})" if error else ""
    return f"what Luigi's {type(parameter).__name__} reads{reason}"
