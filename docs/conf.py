"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "deeplab-fashion"
author = "The deeplab-fashion developers"
copyright = "2026, The deeplab-fashion developers"
release = version = installed_version("deeplab-fashion")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
html_theme = "furo"
html_title = "deeplab-fashion"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
# No network while building: the types of other packages are shown as text, not as links.
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}
nitpick_ignore_regex = [
    # Other packages' names: their sites are not read while building.
    (r"py:.*", r"(numpy|np|npt|tf|tensorflow|keras|PIL|collections|pathlib|typing|os|Path|ArrayLike|NDArray)(\..*)?"),
    (r"py:.*", r"(Any|Callable|Iterable|Iterator|Sequence|Mapping|Literal|Self|int64|uint8|float32|float64|bool|optional)"),
]
