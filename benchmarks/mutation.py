"""Damage the ground floor in small ways, and count how many of the damages its tests notice.

Cosmic Ray says in which ways `rle`, `taxonomy` and `scores` can be changed at one place: another
operator, another number, a loop that does not run, a decorator left out. Changes that Python does
not act on (an annotation) or cannot read are left out. Of the rest a sample is drawn, of each
module in proportion, by a hash of the place, so that a new line of code moves few of the others.
Each of the sample is written into a copy of the source, and the module's own tests, laws and
docstring examples run against it until the first of them fails.

A mutant that survives is either a gap in the tests or no change that a user could notice; the
latter are listed in `equivalent_mutants.toml`, with the reason. The run fails if another survives,
or if fewer than 90 % of the whole sample are killed.

    make mutation
"""

import argparse
import ast
import hashlib
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import hypothesis.extra.numpy  # noqa: F401, as the next two: the tests' own
import pycocotools.mask  # noqa: F401
import pytest
import sklearn.metrics  # noqa: F401
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("rle", "taxonomy", "scores")
GOAL = 0.9


@dataclass(frozen=True)
class Mutant:
    """A module with one change: its code, and the lines that the change takes out and puts in."""

    module: str
    code: str
    number: int
    old: str
    new: str


def mutants(module: str) -> tuple[int, Iterator[Mutant]]:
    """Return in how many ways a module could be changed, and the mutants in the order of a hash."""
    source = path_in(ROOT, module).read_text(encoding="utf-8")
    nodes = list(ast_nodes(get_ast(source)))
    ways = []
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue  # replaces what it is told to, and is told nothing here
        places = ((node, *at) for node in nodes for at in operator().mutation_positions(node))
        for occurrence, (node, start, end) in enumerate(places):
            text = source.splitlines()[start[0] - 1]
            place = f"{module} {ASTQuery(node).get_definition_name()} {text} {start[1]} {end[1]}"
            ways.append((hashlib.sha256(f"{place} {name}".encode()).digest(), name, occurrence))

    def made() -> Iterator[Mutant]:
        seen = {behaviour(source), ""}
        for _, name, occurrence in sorted(ways):
            code = mutate_code(source, get_operator(name)(), occurrence) or source
            acts = behaviour(code)
            if acts not in seen:
                seen.add(acts)
                yield Mutant(module, code, *changed_lines(source, code))

    return len(ways), made()


def behaviour(code: str) -> str:
    """Return what Python acts on: the syntax tree without annotations; "" for no Python."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, ast.Name("Any"))
    return ast.dump(tree)


def changed_lines(before: str, after: str) -> tuple[int, str, str]:
    """Return the first differing line's number, the lines there and those in their place."""
    old, new = before.splitlines(), after.splitlines()
    first = next(n for n in range(len(old)) if n >= len(new) or old[n] != new[n])
    while old and new and min(len(old), len(new)) > first and old[-1] == new[-1]:
        del old[-1], new[-1]
    text = ["\n".join(line.strip() for line in lines[first:]) for lines in (old, new)]
    return first + 1, *text


def sample(size: int) -> list[Mutant]:
    """Draw mutants of all modules, of each in proportion to the ways in which it can be changed."""
    ways = {module: mutants(module) for module in MODULES}
    total = sum(count for count, _ in ways.values())
    return [
        mutant
        for count, made in ways.values()
        for _, mutant in zip(range(round(size * count / total)), made, strict=False)
    ]


def path_in(folder: Path, module: str) -> Path:
    return folder / "src/deeplab_fashion" / f"{module}.py"


def survives(copy: Path, module: str, seconds: float) -> bool:
    """Run the module's own tests in a copy of the project; endless ones have noticed as well."""
    # A fork of this process has the packages that the tests need already.
    run = get_context("fork").Process(target=run_tests, args=(copy, module))
    run.start()
    run.join(seconds)
    if run.is_alive():
        run.kill()
        run.join()
    return run.exitcode == 0


def run_tests(copy: Path, module: str) -> None:
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.path.insert(0, str(copy / "src"))
    tests = (
        f"tests/test_{module}.py",
        f"tests/properties/test_{module}_laws.py",
        f"tests/test_doctests.py::test_examples_of_docstrings[deeplab_fashion.{module}]",
    )
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"]
    os._exit(pytest.main([*options, *tests]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=400, help="mutants to draw")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the copy of the project"
    )
    parser.add_argument("--out", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    copy = arguments.work.resolve()
    shutil.rmtree(copy, ignore_errors=True)
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)

    limit = {}
    for module in MODULES:
        began = time.monotonic()
        if not survives(copy, module, 600):
            raise SystemExit(f"the tests of {module} fail without any change to it")
        limit[module] = 10 + 5 * (time.monotonic() - began)

    drawn, survivors = sample(arguments.size), []
    for number, mutant in enumerate(drawn, 1):
        path = path_in(copy, mutant.module)
        whole = path.read_bytes()
        path.write_text(mutant.code, encoding="utf-8")
        os.utime(path, (number, number))  # else bytecode of the same second would be taken for it
        if survives(copy, mutant.module, limit[mutant.module]):
            survivors.append(mutant)
            print(f"\n{mutant.module}.py:{mutant.number}\n- {mutant.old}\n+ {mutant.new}\n")
        path.write_bytes(whole)
        if number % 20 == 0:
            print(f"{number} of {len(drawn)} tried, {len(survivors)} survive", flush=True)

    listed = tomllib.loads((ROOT / "benchmarks/equivalent_mutants.toml").read_text("utf-8"))
    reasons = {(m["module"], m["old"], m["new"]): m["reason"] for m in listed["mutant"]}
    new = [m for m in survivors if (m.module, m.old, m.new) not in reasons]
    killed = 1 - len(survivors) / len(drawn)
    text = report(drawn, survivors, reasons)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    if new or killed < GOAL:
        raise SystemExit(f"{killed:.1%} killed, {len(new)} survivors that are not listed")


def report(
    drawn: list[Mutant], survivors: list[Mutant], reasons: dict[tuple[str, str, str], str]
) -> str:
    """Write what was killed of each module, and why the others were not."""
    rows = []
    for name, of in [*((f"`{m}`", [m]) for m in MODULES), ("all", list(MODULES))]:
        tried = sum(m.module in of for m in drawn)
        left = sum(m.module in of for m in survivors)
        rows.append(f"| {name} | {tried} | {tried - left} | {1 - left / tried:.1%} |")
    told = [
        f"- `{m.module}.py`, line {m.number}: "
        + reasons.get((m.module, m.old, m.new), "**not looked at yet**")
        + f"\n\n  ```diff\n{indented('- ', m.old)}\n{indented('+ ', m.new)}\n  ```\n"
        for m in survivors
    ]
    return "\n".join(
        [
            "# Mutation of the ground floor",
            "",
            "Written by `make mutation`; how is said at the top of `benchmarks/mutation.py`.",
            f"Cosmic Ray {version('cosmic-ray')}.",
            "",
            "| module | mutants | killed | |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Survivors",
            "",
            *told,
        ]
    )


def indented(mark: str, text: str) -> str:
    return "\n".join(f"  {mark}{line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
