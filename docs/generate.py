"""Generate: `docs/reference.md` from signatures and docstrings, so that the page cannot say what the code does not.

    .venv/bin/python docs/generate.py            write the page
    .venv/bin/python docs/generate.py --check    say whether it is what the code says; exit code 1 if not

Four parts: the names of `import cristae`, the steps of a pipeline, the columns of a table, the commands. Each is read from
where it is registered; nothing is listed here by hand.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

PAGE = Path(__file__).with_name("reference.md")
HEAD = "<!-- Written by docs/generate.py from the code: change the docstring, then run it again. -->"
RULE = re.compile(r"-{3,}")
TABLE = ("| word | meaning |", "|---|---|")
ENTRY = re.compile(r"(\*{0,2}\w[\w *,]*?) : (.+)")


def reference() -> str:
    """The whole page."""
    parts = (("Names", _names()), ("Steps", _steps()), ("Columns", _columns()), ("Commands", _commands()))
    lines = [HEAD, "", "# Reference", ""]
    lines += [f"- [{title}](#{title.lower()})" for title, _ in parts]
    for title, body in parts:
        lines += ["", f"## {title}", "", *body]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _names() -> Iterator[str]:
    import cristae

    yield "What `import cristae` offers. Each name is loaded when it is first used."
    for name in cristae.__all__:
        thing = getattr(cristae, name)
        yield from ("", f"### {name}", "")
        if not inspect.isclass(thing):
            yield from (_code(signature(name, thing)), "", *text(thing))
        elif issubclass(thing, BaseException):
            yield from _errors(thing)
        else:
            yield from _class(name, thing)


def _class(name: str, thing: type) -> Iterator[str]:
    yield from (_code(signature(name, thing)), "", *text(thing), "")
    fields = {f.name for f in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
    bare = []
    for member, value in vars(thing).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        hidden = member.startswith("_") and member != "__call__"
        if hidden or member in fields or not inspect.isfunction(function):
            continue
        dot = name if isinstance(value, staticmethod) else name.lower()
        shown = dot if member == "__call__" else f"{dot}.{member}"
        if not inspect.getdoc(function):
            bare.append(f"`{shown}`")
            continue
        line = shown if isinstance(value, property) else signature(shown, function, bound=True)
        yield from (_code(line), "", *text(function), "")
    if bare:
        yield f"Also {', '.join(bare)}, which are what they are called."


def _errors(thing: type) -> Iterator[str]:
    """The tree as its module draws it: classes, exit codes, meaning."""
    yield from ("```text", inspect.getdoc(sys.modules[thing.__module__]) or "", "```")


def _steps() -> Iterator[str]:
    import cristae
    from cristae.pipeline.operations import BY_THE_ENGINE, OTHERS, PLANNED, parameters, stages

    given = " and ".join(f"`{word}`" for word in sorted(BY_THE_ENGINE))
    yield f"What `steps:` of a pipeline may name. {given} come from the image; in a notebook they are arguments."
    for name, builder in stages().items():
        shown = ", ".join(_parameter(p) for p in parameters(name).values())
        yield from ("", f"### Step {name}", "", _code(f"{name}: {{{shown}}}", "text"), "")
        if name in cristae.__all__:
            yield f"{next(text(builder))} All about it: [{name}](#{name})."
        else:
            yield from text(builder)
    for name, about in OTHERS.items():
        shown = ", ".join(_parameter(p) for p in parameters(name).values())
        yield from ("", f"### Step {name}", "", _code(f"{name}: {{{shown}}}", "text"), "")
        yield from text(about)
    yield from ("", f"Known to the format and not built yet: {', '.join(f'`{n}`' for n in PLANNED)}.")


def _columns() -> Iterator[str]:
    from cristae.morphology.columns import COLUMNS, GROUPS

    yield "Every table begins with `image`, `t`, `label`, and the group index. `--columns` takes groups and columns."
    for group in GROUPS:
        yield from ("", f"### Group {group}", "", "| column | unit | in | definition |", "|---|---|---|---|")
        for name, column in COLUMNS.items():
            if column.group == group:
                where = " and ".join(f"{n}D" for n in column.ndims)
                yield f"| `{name}` | {column.unit} | {where} | {_plain(column.definition)} |"


def _commands() -> Iterator[str]:
    from cristae_cli.main import app

    yield "`cristae COMMAND --help` says the same. Exit codes stand under [CristaeError](#cristaeerror)."
    shared: dict[str, dict[str, str]] = {}
    for command in app.registered_commands:
        function: Any = command.callback
        title = f"cristae {function.__name__.replace('_', '-')}"
        words, rows, also = [title], [], []
        for shown, about, required, row in _words(function):
            if about.rich_help_panel:
                shared.setdefault(about.rich_help_panel, {})[shown] = row
                also.append(f"`{shown}`")
                continue
            if shown.isupper() or required:
                words.append(shown if required else f"[{shown}]")
            rows.append(row)
        yield from ("", f"### {title}", "", _code(f"{' '.join(words)} [options]"), "")
        yield from text(function)
        if rows:
            yield from ("", *TABLE, *rows)
        if also:
            yield from ("", f"Also takes {', '.join(also)}: see [the shared options](#shared-options).")
    yield from ("", "### Shared options")
    for panel, options in shared.items():
        yield from ("", f"{panel}:", "", *TABLE, *options.values())


def _words(function: Callable[..., Any]) -> Iterator[tuple[str, Any, bool, str]]:
    """Arguments and options of a command: how each is written, typer's facts, whether it must be there, its row."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, about = get_args(hints[name])[:2]
        required = parameter.default is parameter.empty
        if type(about).__name__ == "ArgumentInfo":
            shown = name.upper() + ("..." if _has_list(kind) else "")
        else:
            # The first spelling stands where typer has a default of its own, which `Annotated` leaves free.
            written = [about.default, *about.param_decls] if isinstance(about.default, str) else about.param_decls
            shown = ", ".join(written) + (f" {name.upper()}" if required else "")
        default = "" if required or parameter.default in (None, False) else f" Default: `{parameter.default}`."
        yield shown, about, required, f"| `{shown}` | {_plain(about.help or '')}{default} |"


def signature(name: str, thing: Callable[..., Any], bound: bool = False) -> str:
    """`name(parameters) -> result` as the source writes it, over several lines where it is long."""
    found = inspect.signature(thing)
    parameters, star = [], False
    for p in list(found.parameters.values())[int(bound and "self" in found.parameters) :]:
        if p.kind is p.KEYWORD_ONLY and not star and not any(q.startswith("*") for q in parameters):
            parameters.append("*")
            star = True
        parameters.append(_parameter(p))
    result = found.return_annotation
    gives = "" if result in (found.empty, None) or inspect.isclass(thing) else f" -> {_type(result)}"
    line = f"{name}({', '.join(parameters)}){gives}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {p}," for p in parameters), f"){gives}"])


def _parameter(p: inspect.Parameter) -> str:
    mark = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    kind = "" if p.annotation is p.empty else f": {_type(p.annotation)}"
    default = "" if p.default is p.empty else f"{' = ' if kind else '='}{_default(p.default)}"
    return f"{mark}{p.name}{kind}{default}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", "..."))
    if type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS" or repr(value) == "<factory>":
        return "{}"
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    return repr(value)


def _has_list(kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_has_list(k) for k in get_args(kind))
    return get_origin(kind) is list


def text(thing: Any) -> Iterator[str]:
    """A docstring as Markdown: sections in bold, their entries as a list, indented text as it stands."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    entries, number = False, 0
    while number < len(lines):
        line, below = lines[number], lines[number + 1] if number + 1 < len(lines) else ""
        if line and RULE.fullmatch(below):
            yield from ("", f"**{line}**", "")
            entries, number = line in ("Parameters", "Raises"), number + 2
            continue
        number += 1
        if (found := ENTRY.fullmatch(line)) and (entries or not line.startswith(" ")):
            yield f"- `{found[1]}`: {_plain(found[2])}"
        elif line.startswith(">>> ") or (line.startswith("    ") and not entries and not found):
            block = [line]
            while number < len(lines) and lines[number].startswith((">>> ", "... ", "    ")):
                block.append(lines[number])
                number += 1
            yield from ("", _code(inspect.cleandoc("\n" + "\n".join(block)), "text"), "")
        else:
            yield f"  {_plain(line.strip())}" if line.startswith(" ") else _plain(line)


def _plain(words: str) -> str:
    """Words whose stars, lines and angles are meant as they stand; what is in backticks stays."""
    parts = words.split("`")
    return "`".join(part if n % 2 else re.sub(r"([*<|\[\]])", r"\\\1", part) for n, part in enumerate(parts))


def _code(words: str, language: str = "python") -> str:
    return f"```{language if not words.startswith('cristae ') else 'text'}\n{words}\n```"


def main() -> int:
    """Write the page, or with --check only compare it."""
    page = reference()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print("docs/reference.md is not what the code says; run: python docs/generate.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
