"""Run the examples of a page, from top to bottom, as a reader would who copies them.

All of a page's Python shares one namespace. Blocks with ``>>>`` are doctests, other ``python``
blocks are executed, and so is every ``deeplab-fashion`` command in a ``console`` block; where a
``console`` block shows output, that is what must come out. Two comments that no reader sees:

    <!-- set up              Python that runs before what follows, for instance to make the
    ... -->                  files that the page takes for granted

    <!-- not run: reason --> the next block is left out
"""

import contextlib
import doctest
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[\w{}-]*)\n(?P<code>.*?)^(?P=fence) *$"
    r"|^<!-- set up\n(?P<hidden>.*?)-->"
    r"|^<!-- (?P<left_out>not run: .+?) *-->",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A piece of a page: ``kind`` is "python" or "console", ``line`` that of its first line."""

    kind: str
    code: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """Yield what is to be run on a page, in its order."""
    left_out = False
    for match in _BLOCK.finditer(text):
        if match["left_out"]:
            left_out = True
            continue
        group = "hidden" if match["hidden"] is not None else "code"
        kind = "python" if group == "hidden" else match["language"]
        if kind in ("python", "console") and not left_out:
            line = text.count("\n", 0, match.start(group)) + 1
            yield Block(kind, match[group], line)
        left_out = False


def run(page: Path) -> None:
    """Run a page's examples in the current folder.

    Raises:
        AssertionError: If an example gives something else than the page says.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.kind == "console":
            _run_console(block, page)
        elif ">>>" in block.code:
            place = (page.name, str(page), block.line - 1)
            test = doctest.DocTestParser().get_doctest(block.code, names, *place)
            check(test)
            names.update(test.globs)
        else:
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)


def check(test: doctest.DocTest) -> None:
    """Run a doctest.

    Raises:
        AssertionError: With what was expected and what came, if they differ.
    """
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=_OPTIONS).run(test, out=report.write, clear_globs=False)
    if report.getvalue():
        raise AssertionError(report.getvalue())


def _run_console(block: Block, page: Path) -> None:
    from deeplab_fashion.__main__ import main

    text = block.code.replace("\\\n", " ")
    for command, expected in re.findall(r"^\$ (.+)\n((?:[^$\n].*\n|\n)*)", text, re.MULTILINE):
        program, *arguments = shlex.split(command)
        if program != "deeplab-fashion":
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = main(arguments)
        place = f"{page.name}, line {block.line}: {command}"
        if status:
            raise AssertionError(f"{place}\nended with status {status}")
        checker = doctest.OutputChecker()
        if expected and not checker.check_output(expected, output.getvalue(), _OPTIONS):
            raise AssertionError(f"{place}\nexpected\n{expected}\ngot\n{output.getvalue()}")


if __name__ == "__main__":
    # What a page's examples write, such as its pictures, appears beside it.
    for page in map(Path, sys.argv[1:]):
        with contextlib.chdir(page.parent):
            run(page)
