"""Sphinx configuration."""

import importlib
import pkgutil
import re
from importlib.metadata import version as installed_version
from operator import attrgetter

from numpy.typing import ArrayLike, DTypeLike
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import stringify_annotation

import deeplab_fashion

project = "deeplab-fashion"
author = "The deeplab-fashion developers"
copyright = "2026, The deeplab-fashion developers"
release = version = installed_version("deeplab-fashion")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "deeplab-fashion"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
exclude_patterns = ["_build", "**/_*", "node_modules"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
default_role = "py:obj"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
# The build reads no network, so names of other packages are text, not links.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|tensorflow|tf|keras|PIL|collections|pathlib|typing|argparse)(\..+)?"),
    (r"py:.*", r"(NDArray|ArrayLike|DTypeLike|Image|Path|Any|Self|Unpack|Callable|Iterable)"),
    (r"py:.*", r"(Iterator|Sequence|Mapping|Literal|Collection)"),
    (r"py:.*", r"(int64|uint8|float32|float64|integer|bool_|bool)"),
    (r"py:exc", r"\w*(Error|Warning)"),  # Python's own; ours are found by `resolve_short_name`
    (r"py:class", r"deeplab_fashion\..*\._\w+"),  # private bases, shown for what they inherit
]

_LOG = logging.getLogger(__name__)


def convert_properties(app, what, name, obj, options, lines):
    """Convert the sections of a property's or constant's docstring.

    Napoleon takes the first line of these for ``type: text`` and leaves their sections alone.
    """
    if what in ("attribute", "data", "property"):
        app.env.temp_data[name] = GoogleDocstring(lines, app.config, what="function").lines()


def keep_properties(app, what, name, obj, options, lines):
    """Put back what `convert_properties` made, after Napoleon had its turn."""
    if name in app.env.temp_data:
        lines[:] = app.env.temp_data.pop(name)


def name_array_types(app, what, name, obj, options, signature, returns):
    """Write numpy's names of types in signatures, where autodoc shows what they stand for."""

    def named(text):
        for alias, short in ((ArrayLike, "ArrayLike"), (DTypeLike, "DTypeLike")):
            text = text.replace(stringify_annotation(alias, "smart"), short)
        text = re.sub(r"<function (\w+)>", r"\1", text)  # a default; else it cannot be parsed
        array = r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[(.+?)\]\]"
        return re.sub(array, r"NDArray[\1]", text)

    return signature and named(signature), returns and named(returns)


def resolve_short_name(app, env, node, contnode):
    """Find our own names where a docstring gives them without their module."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains["py"].objects
    found = [name for name in objects if name.endswith("." + node["reftarget"])]
    if len(found) > 1:
        found = [name for name in found if name.startswith(node.get("py:module") or "?")]
    if len(found) != 1:
        return None
    place = objects[found[0]]
    return make_refnode(
        app.builder, node["refdoc"], place.docname, place.node_id, contnode, found[0]
    )


def check_completeness(app, env):
    """Warn of every public name that no page documents."""
    documented = set()
    for name in env.domains["py"].objects:
        try:
            documented.add(id(attrgetter(name.removeprefix("deeplab_fashion."))(deeplab_fashion)))
        except AttributeError:
            continue  # an attribute that only instances have
    for _, module_name, _ in pkgutil.iter_modules(deeplab_fashion.__path__):
        if not module_name.startswith("_"):
            module = importlib.import_module(f"deeplab_fashion.{module_name}")
            for name in module.__all__:
                if id(getattr(module, name)) not in documented:
                    _LOG.warning("%s.%s is public, but on no page", module_name, name)


def setup(app):
    """Register what is defined above."""
    app.connect("autodoc-process-docstring", convert_properties, priority=400)
    app.connect("autodoc-process-docstring", keep_properties, priority=600)
    app.connect("autodoc-process-signature", name_array_types)
    app.connect("missing-reference", resolve_short_name)
    app.connect("env-check-consistency", check_completeness)
