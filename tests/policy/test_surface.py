"""What is public is documented and typed, and the floors of the house are kept."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deeplab_fashion as df

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(df.__file__).parent
PUBLIC = [m.name for m in pkgutil.iter_modules(df.__path__) if not m.name.startswith("_")]
GROUND_FLOOR = {"errors", "rle", "taxonomy", "scores", "annotations", "samples", "photos",
                "regions", "plotting"}  # fmt: skip
# Names whose docstring needs no example of its own, and why.
NO_EXAMPLE = {
    "is what a function of the same module returns, whose example shows it": {
        "export.Exported", "fast_path.CompiledInference", "inference.FailedPhoto",
        "inference.PredictionStream", "inference.Segmentation", "scores.ConfidenceInterval",
        "scores.ImageStatistics", "segmentation.Segmentation", "training.TrainingResult",
    },
    "has one beside the function that writes what it reads": {"data.read_tfrecords"},
    "takes an extra; docs/how_to/export.md runs it": {"export.to_litert", "export.to_onnx"},
    "is for maintainers; examples/train_bundled_model.py uses it": {"pretrained.save"},
    "waits for other machines; docs/how_to/train_at_scale.md shows it": {"training.join_workers"},
}  # fmt: skip
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def public_objects():
    for module_name in PUBLIC:
        module = importlib.import_module(f"deeplab_fashion.{module_name}")
        for name in module.__all__:
            # what is cached or decorated otherwise is judged as it was written
            yield f"{module_name}.{name}", inspect.unwrap(getattr(module, name))


def own_functions(name, thing):
    """The function itself, or the public methods that a class defines."""
    if inspect.isfunction(thing):
        yield name, thing
    elif inspect.isclass(thing):
        for member, value in vars(thing).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            function = function.fget if isinstance(function, property) else function
            if not member.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{member}", function


FUNCTIONS = dict(pair for name, thing in public_objects() for pair in own_functions(name, thing))


def undocumented(name, thing):
    if not inspect.getdoc(thing):
        return [f"{name} has no docstring"]
    return []


def untyped(name, function):
    signature = inspect.signature(function)
    holes = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    holes = [hole for hole in holes if hole not in ("self", "cls")]
    if signature.return_annotation is signature.empty:
        holes.append("return")
    return [f"{name}: {hole} has no type" for hole in holes]


def unmentioned_arguments(name, function):
    """Arguments that a docstring with an ``Args:`` section leaves out."""
    text = inspect.getdoc(function) or ""
    if "Args:" not in text:
        return []
    section = text.split("Args:")[1]
    names = [p.name for p in inspect.signature(function).parameters.values()]
    return [
        f"{name}: {argument} is not under Args"
        for argument in names
        if argument not in ("self", "cls")
        and not re.search(rf"^ +\**{argument}:", section, re.MULTILINE)
    ]


def test_every_module_has_a_docstring_and_a_literal_all():
    for module_name in PUBLIC:
        module = importlib.import_module(f"deeplab_fashion.{module_name}")
        assert module.__doc__, module_name
        assert len(set(module.__all__)) == len(module.__all__) > 0, module_name


def test_every_public_name_is_documented():
    # A constant's docstring is read by Sphinx alone; the documentation build checks those.
    things = dict(public_objects()) | FUNCTIONS
    faults = [
        fault
        for name, thing in things.items()
        if inspect.isclass(thing) or inspect.isfunction(thing)
        for fault in undocumented(name, thing)
    ]
    assert faults == []


def test_every_public_function_is_typed_in_full():
    assert [fault for pair in FUNCTIONS.items() for fault in untyped(*pair)] == []


def test_every_argument_is_described_where_arguments_are():
    assert [fault for pair in FUNCTIONS.items() for fault in unmentioned_arguments(*pair)] == []


def without_example(things):
    """Classes and functions in whose docstring, or a method's, no doctest runs."""
    for name, thing in things:
        if inspect.isclass(thing) or inspect.isfunction(thing):
            own = [thing, *(function for _, function in own_functions(name, thing))]
            runs = [
                example
                for text in filter(None, map(inspect.getdoc, own))
                for example in doctest.DocTestParser().get_examples(text)
                if doctest.SKIP not in example.options
            ]
            if not runs:
                yield name


def test_every_public_name_has_an_example_or_a_reason_for_none():
    things = [(name, thing) for name, thing in public_objects() if name[:7] != "errors."]
    excused = set().union(*NO_EXAMPLE.values())
    assert set(without_example(things)) == excused


def test_the_checks_above_can_fail():
    def lacking(a, b: int):
        pass

    def partly(a: int, b: int) -> None:
        """Do nothing.

        Args:
            a: A number.
        """

    def shown() -> None:
        """Do nothing.

        >>> shown()
        """

    def skipped() -> None:
        """Do nothing.

        >>> skipped()  # doctest: +SKIP
        """

    assert list(without_example([("f", lacking), ("g", shown), ("h", skipped)])) == ["f", "h"]
    assert undocumented("f", lacking) == ["f has no docstring"]
    assert untyped("f", lacking) == ["f: a has no type", "f: return has no type"]
    assert unmentioned_arguments("f", partly) == ["f: b is not under Args"]
    assert len(FUNCTIONS) > 80


def imports_when_loaded(source):
    """What of this package a module imports when it is loaded itself, not later or for types."""
    found = set()
    pending = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deeplab_fashion"):
            inner = node.module.split(".")[1:]
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            pending += node.body + node.orelse
        elif isinstance(node, ast.Try):
            pending += node.body
    return found


def module_graph():
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name != "__init__":
            graph.setdefault(name, set()).update(imports_when_loaded(path.read_text("utf-8")))
    return {name: targets & graph.keys() - {name} for name, targets in graph.items()}


def a_circle_in(graph):
    left = dict(graph)
    while left:
        free = [name for name, targets in left.items() if not targets & left.keys()]
        if not free:
            return sorted(left)
        for name in free:
            del left[name]
    return None


def test_no_module_imports_in_a_circle():
    assert a_circle_in(module_graph()) is None


def test_a_circle_would_be_found():
    assert a_circle_in({"a": {"b"}, "b": {"a"}, "c": set()}) == ["a", "b"]
    assert imports_when_loaded("from deeplab_fashion import rle\nfrom deeplab_fashion.data import x"
                               "\nif TYPE_CHECKING:\n    from deeplab_fashion import taxonomy"
                               ) == {"rle", "data"}  # fmt: skip


def test_the_ground_floor_imports_nothing_from_above():
    graph = module_graph()
    for name in GROUND_FLOOR:
        above = {target for target in graph[name] - GROUND_FLOOR if not target.startswith("_")}
        assert above == set(), name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_tell_how_they_are_used(example):
    result = subprocess.run(
        [sys.executable, str(example), "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("usage:")


def test_nothing_names_a_place_of_one_machine():
    texts = [
        path
        for pattern in ("src/**/*.py", "tests/**/*.py", "docs/**/*.md", "examples/*.py",
                        "benchmarks/**/*.py", "benchmarks/**/*.md", "*.md", "Makefile")
        for path in ROOT.glob(pattern)
    ]  # fmt: skip
    place = re.compile(r"(?<![\w.])/(root|home/\w+|work|Users/\w+)/\w")
    assert len(texts) > 50
    assert [str(p) for p in texts if place.search(p.read_text("utf-8"))] == []


def silenced_without_a_reason(text):
    """Comments that silence a checker without naming its rule and saying why."""
    comment = re.compile(r"# (?:type: ignore|pyright: ignore|noqa)\b.*")
    sound = re.compile(r"# (type: ignore\[[\w-]+\]|pyright: ignore\[\w+\]|noqa: [A-Z]+\d+) - \w.*")
    return [found for found in comment.findall(text) if not sound.fullmatch(found)]


def test_whatever_silences_a_checker_names_the_rule_and_says_why():
    for path in sorted((ROOT / "src").rglob("*.py")):
        assert silenced_without_a_reason(path.read_text("utf-8")) == [], path.name
    assert silenced_without_a_reason("x = 1  # type: ignore") == ["# type: ignore"]
    assert silenced_without_a_reason("x = 1  # noqa: F401") == ["# noqa: F401"]
    assert silenced_without_a_reason("x = 1  # pyright: ignore[rule] - the stub lacks it") == []
