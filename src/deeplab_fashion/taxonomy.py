"""Categories of fashion data sets, and maps from them to the classes that a network learns."""

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplab_fashion._files import replacing
from deeplab_fashion.errors import TaxonomyError

__all__ = [
    "CCP",
    "CCP_TO_MAIN",
    "FASHIONPEDIA",
    "FASHIONPEDIA_TO_MAIN",
    "IMATERIALIST_2020",
    "IMATERIALIST_TO_MAIN",
    "IMATERIALIST_TO_MAIN_NOTEBOOK",
    "MAIN_CLASSES",
    "Category",
    "LabelMap",
    "Taxonomy",
]

Overlap = Literal["last", "maximum", "smallest"]
_OVERLAPS: tuple[Overlap, ...] = ("last", "maximum", "smallest")

MAIN_CLASSES = ("background", "upper-body", "lower-body", "whole-body", "feet", "accessories")
"""Background and the five main classes; a class's label is its place here."""


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that resembles ``name`` most, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True)
class Category:
    """One category of a taxonomy.

    Args:
        id: The number that annotation files use, at least 0.
        name: The category's name.
        supercategory: The group that it belongs to; empty where the data set has no groups.

    Raises:
        TypeError: If ``id`` is no int, or a name is no str.
        TaxonomyError: If ``id`` is negative or ``name`` empty.

    Example:
        >>> Category(23, "shoe", "legs and feet")
        Category(id=23, name='shoe', supercategory='legs and feet')
    """

    id: int
    name: str
    supercategory: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int):
            raise TypeError(f"a category's id must be an int, but it is {self.id!r}")
        if not isinstance(self.name, str) or not isinstance(self.supercategory, str):
            raise TypeError(
                f"a category's names must be str, but those of category {self.id} are "
                f"{self.name!r} and {self.supercategory!r}"
            )
        if self.id < 0 or not self.name:
            raise TaxonomyError(
                "a category needs an id of at least 0 and a name, "
                f"but it has id {self.id} and name {self.name!r}"
            )


def _parse_json(source: str | Path) -> tuple[Any, str]:
    """Return the content of JSON text or of a JSON file, and where it came from."""
    if isinstance(source, str) and source.lstrip()[:1] in ("{", "["):
        text, origin = source, "JSON text"
    else:
        origin = str(source)
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise TaxonomyError(f"{origin}: not UTF-8 text: {error}") from None
    try:
        return json.loads(text), origin
    except ValueError as error:
        raise TaxonomyError(f"{origin}: not valid JSON: {error}") from None


@dataclass(frozen=True)
class Taxonomy:
    """The categories of a data set, each with an id, a name and a super-category.

    ``len`` and iteration go over the categories in their order.

    Args:
        name: The data set's name.
        categories: The categories; ids and names each occur once.

    Raises:
        TaxonomyError: If an id or a name occurs twice.

    Example:
        >>> IMATERIALIST_2020.index("shoe")
        23
        >>> len(IMATERIALIST_2020), IMATERIALIST_2020.names[0]
        (46, 'shirt, blouse')
    """

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        by_id: dict[int, Category] = {}
        by_name: dict[str, Category] = {}
        for category in self.categories:
            if category.id in by_id:
                raise TaxonomyError(
                    f"taxonomy {self.name!r} has id {category.id} twice: "
                    f"{by_id[category.id].name!r} and {category.name!r}"
                )
            if category.name in by_name:
                raise TaxonomyError(
                    f"taxonomy {self.name!r} has the name {category.name!r} twice: "
                    f"ids {by_name[category.name].id} and {category.id}"
                )
            by_id[category.id] = by_name[category.name] = category

    def __len__(self) -> int:
        return len(self.categories)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The categories' names, in their order."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The categories' ids, in their order."""
        return tuple(category.id for category in self.categories)

    @cached_property
    def supercategories(self) -> tuple[str, ...]:
        """The super-categories, each once, in the order of their first category."""
        return tuple(dict.fromkeys(c.supercategory for c in self.categories if c.supercategory))

    @cached_property
    def _by_id(self) -> dict[int, Category]:
        return {category.id: category for category in self.categories}

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Return a category's place, so that ``names[index(name)] == name``.

        Where ids count from 0 without a gap, as in the taxonomies here, it is the id as well.

        Args:
            name: A category's name.

        Returns:
            Its place, from 0.

        Raises:
            TaxonomyError: If no category has this name; the message gives the nearest one.

        Example:
            >>> IMATERIALIST_2020.index("sho")
            Traceback (most recent call last):
            deeplab_fashion.errors.TaxonomyError: taxonomy 'iMaterialist 2020' has no category \
'sho'; did you mean 'shoe'?
        """
        try:
            return self._index_of[name]
        except KeyError:
            raise TaxonomyError(
                f"taxonomy {self.name!r} has no category {name!r}{_nearest(name, self.names)}"
            ) from None

    def category(self, category_id: int) -> Category:
        """Return the category with an id.

        Args:
            category_id: An id as annotation files use it.

        Returns:
            The category.

        Raises:
            TaxonomyError: If no category has this id.

        Example:
            >>> IMATERIALIST_2020.category(9).name
            'coat'
        """
        try:
            return self._by_id[category_id]
        except KeyError:
            raise TaxonomyError(
                f"taxonomy {self.name!r} has no category with id {category_id}; "
                f"its ids lie between {min(self.ids)} and {max(self.ids)}"
                if self.ids
                else f"taxonomy {self.name!r} has no categories, so none with id {category_id}"
            ) from None

    def to_json(self, path: str | Path | None = None) -> str:
        """Write the taxonomy as JSON, in the form of iMaterialist's ``label_descriptions.json``.

        Args:
            path: A file to write as well; None writes nothing.

        Returns:
            The JSON text; `from_json` gives back an equal taxonomy from it.

        Example:
            >>> Taxonomy.from_json(CCP.to_json()) == CCP
            True
        """
        text = json.dumps({"name": self.name, "categories": _category_dicts(self)}, indent=1)
        if path is not None:
            with replacing(path) as part:
                part.write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, path: str | Path, *, name: str | None = None) -> Self:
        """Read a taxonomy from JSON with a list of ``categories``.

        iMaterialist's ``label_descriptions.json`` and Fashionpedia's or COCO's annotation files
        have that form; whatever else they hold is left alone.

        Args:
            path: A file, or JSON text.
            name: The taxonomy's name. None takes the one in the file, else the file's stem.

        Returns:
            The taxonomy, in the file's order.

        Raises:
            TaxonomyError: If the text is no such JSON, or an id or name occurs twice.
            FileNotFoundError: If there is no such file.

        Example:
            >>> Taxonomy.from_json('{"name": "two", "categories": [{"id": 3, "name": "hat"}]}')
            Taxonomy(name='two', categories=(Category(id=3, name='hat', supercategory=''),))
        """
        content, origin = _parse_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("categories"), list):
            raise TaxonomyError(f"{origin}: a taxonomy needs a list named 'categories'")
        given = content.get("name")
        if name is None:
            name = given if isinstance(given, str) else Path(origin).stem
        categories = []
        for position, item in enumerate(content["categories"]):
            try:
                categories.append(
                    Category(item["id"], item["name"], item.get("supercategory") or "")
                )
            except (KeyError, TypeError, AttributeError, TaxonomyError) as error:
                raise TaxonomyError(
                    f"{origin}: categories[{position}] needs 'id' (a whole number from 0) "
                    f"and 'name' (text), but is {item!r} ({type(error).__name__}: {error})"
                ) from None
        try:
            return cls(name, tuple(categories))
        except TaxonomyError as error:
            raise TaxonomyError(f"{origin}: {error}") from None


def _category_dicts(taxonomy: Taxonomy) -> list[dict[str, int | str]]:
    return [
        {"id": c.id, "name": c.name, "supercategory": c.supercategory} for c in taxonomy.categories
    ]


_GROUPS = {
    "upperbody": (
        "shirt, blouse",
        "top, t-shirt, sweatshirt",
        "sweater",
        "cardigan",
        "jacket",
        "vest",
    ),
    "lowerbody": ("pants", "shorts", "skirt"),
    "wholebody": ("coat", "dress", "jumpsuit", "cape"),
    "head": ("glasses", "earmuffs", "hat", "headband, head covering, hair accessory"),
    "neck": ("tie",),
    "arms and hands": ("glove", "watch"),
    "waist": ("belt",),
    "legs and feet": ("leg warmer", "tights, stockings", "sock", "shoe"),
    "others": ("bag, wallet", "scarf", "umbrella"),
    "garment parts": (
        "hood",
        "collar",
        "lapel",
        "epaulette",
        "sleeve",
        "garment belt",
        "pocket",
        "neckline",
    ),
    "closures": ("buckle", "zipper"),
    "decorations": (
        "applique",
        "bead",
        "bow",
        "flower",
        "fringe",
        "ribbon",
        "rivet",
        "ruffle",
        "sequin",
        "tassel",
    ),
}
_NOT_IN_IMATERIALIST_2020 = ("earmuffs", "garment belt")


def _grouped(name: str, *, without: Collection[str] = ()) -> Taxonomy:
    pairs = [(n, group) for group, names in _GROUPS.items() for n in names if n not in without]
    return Taxonomy(name, tuple(Category(i, n, group) for i, (n, group) in enumerate(pairs)))


FASHIONPEDIA = _grouped("Fashionpedia")
"""The 48 categories of Fashionpedia; its ids from 14 on differ from iMaterialist 2020's."""

IMATERIALIST_2020 = _grouped("iMaterialist 2020", without=_NOT_IN_IMATERIALIST_2020)
"""The 46 categories of iMaterialist (Fashion) 2020: Fashionpedia's but for two, numbered anew."""

_CCP_NAMES = (
    "null accessories bag belt blazer blouse bodysuit boots bra bracelet cape cardigan clogs coat "
    "dress earrings flats glasses gloves hair hat heels hoodie intimate jacket jeans jumper "
    "leggings loafers necklace panties pants pumps purse ring romper sandals scarf shirt shoes "
    "shorts skin skirt sneakers socks stockings suit sunglasses sweater sweatshirt swimwear "
    "t-shirt tie tights top vest wallet watch wedges"
)

CCP = Taxonomy("CCP", tuple(Category(i, name) for i, name in enumerate(_CCP_NAMES.split())))
"""The 59 tags of Clothing Co-Parsing; it has no super-categories."""


@dataclass(frozen=True)
class LabelMap:
    """A map from a taxonomy's categories to the labels of a few target classes.

    Each category goes to a class, to background (label 0), or is *transparent* (None): what lies
    beneath it stays, so that a pocket on a coat is coat.

    `from_names` and `by_supercategory` are the handy ways to make one.

    Args:
        taxonomy: The categories mapped from.
        target_names: The target classes; a class's label is its place here, 0 is background.
        targets: The label of each category, in the taxonomy's order; None is transparent.
        overlap: Which region wins where several lie over each other: the "last" in the file,
            the "maximum" label, or the "smallest" region.

    Raises:
        TaxonomyError: If a target is missing or not a label of ``target_names``, if a target name
            occurs twice, or if ``overlap`` is unknown.

    Example:
        >>> IMATERIALIST_TO_MAIN.label_of(9), IMATERIALIST_TO_MAIN.label_of(32)
        (3, None)
    """

    taxonomy: Taxonomy
    target_names: tuple[str, ...]
    targets: tuple[int | None, ...]
    overlap: Overlap = "last"

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_names", tuple(self.target_names))
        object.__setattr__(self, "targets", tuple(self.targets))
        if len(set(self.target_names)) != len(self.target_names) or not self.target_names:
            raise TaxonomyError(
                f"target_names must name each class once, but are {self.target_names}"
            )
        if len(self.targets) != len(self.taxonomy):
            raise TaxonomyError(
                f"targets must have one entry for each of the {len(self.taxonomy)} categories of "
                f"taxonomy {self.taxonomy.name!r}, but have {len(self.targets)}"
            )
        for name, label in zip(self.taxonomy.names, self.targets, strict=True):
            if label is None:
                continue
            if isinstance(label, bool) or not isinstance(label, int):
                raise TypeError(f"category {name!r} must go to an int or None, not to {label!r}")
            if not 0 <= label < len(self.target_names):
                raise TaxonomyError(
                    f"category {name!r} must go to a label from 0 to "
                    f"{len(self.target_names) - 1} or to None, not to {label}"
                )
        if self.overlap not in _OVERLAPS:
            raise TaxonomyError(f"overlap must be one of {_OVERLAPS}, but is {self.overlap!r}")

    @property
    def num_classes(self) -> int:
        """The number of target classes, background among them."""
        return len(self.target_names)

    @cached_property
    def _label_by_id(self) -> dict[int, int | None]:
        return dict(zip(self.taxonomy.ids, self.targets, strict=True))

    def label_of(self, category_id: int) -> int | None:
        """Return a category's label.

        Args:
            category_id: An id of the taxonomy.

        Returns:
            The label, or None where the category is transparent.

        Raises:
            TaxonomyError: If the taxonomy has no such id.

        Example:
            >>> CCP_TO_MAIN.label_of(7)
            4
        """
        try:
            return self._label_by_id[category_id]
        except KeyError:
            self.taxonomy.category(category_id)
            raise

    def _table(self, transparent: int) -> NDArray[np.int64]:
        """Return the label of every number up to the largest id; -1 where it is no id."""
        table = np.full(max(self.taxonomy.ids, default=-1) + 1, -1, np.int64)
        for category_id, label in self._label_by_id.items():
            table[category_id] = transparent if label is None else label
        return table

    def apply(self, labels: ArrayLike, ignore_index: int = 255) -> NDArray[Any]:
        """Turn an array of category ids into one of target labels.

        A flat array no longer tells what lies beneath a transparent category, so such pixels
        become ``ignore_index``. To keep what lies beneath, paint the regions instead
        (`ImageAnnotation.to_labels`).

        Args:
            labels: Category ids, of any shape, or ``ignore_index``, which stays.
            ignore_index: The value of pixels to ignore.

        Returns:
            The labels, same shape; uint8 if labels and ``ignore_index`` fit, else int64.

        Raises:
            TypeError: If ``labels`` holds no whole numbers.
            TaxonomyError: If a value is neither an id of the taxonomy nor ``ignore_index``.

        Example:
            >>> IMATERIALIST_TO_MAIN.apply([0, 6, 23, 32, 255])
            array([  1,   2,   4, 255, 255], dtype=uint8)
        """
        given = np.asarray(labels)
        if given.dtype.kind not in "iu" and given.size:
            raise TypeError(f"labels must be whole numbers, but have dtype {given.dtype}")
        table = self._table(ignore_index)
        ignored = given == ignore_index
        inside = (given >= 0) & (given < len(table)) & ~ignored
        result = np.full(given.shape, ignore_index, np.int64)
        result[inside] = table[given[inside].astype(np.int64)]
        unknown = ~ignored & ~inside
        unknown[inside] = ~np.isin(given[inside], self.taxonomy.ids)
        if unknown.any():
            self.taxonomy.category(int(given[unknown][0]))
        fits = 0 <= ignore_index <= 255 and self.num_classes <= 256
        return result.astype(np.uint8) if fits else result

    def collapse(self, confusion: ArrayLike) -> NDArray[np.int64]:
        """Turn the confusion counts of category ids into those of the target classes.

        No second pass over the photos is needed: with ``fine`` the counts of two label maps,

            collapse(fine) = confusion_matrix(apply(y_true), apply(y_pred, ignore_index=0),
                                              num_classes, ignore_index=255)

        A pixel whose truth is transparent has no known class and is left out, like any ignored
        pixel. A pixel predicted as a transparent category has been given no class, so it counts
        as predicted background.

        Args:
            confusion: Counts, shape (n, n), rows are truth; row and column ``i`` belong to the
                category with id ``i``, so n is the largest id + 1.

        Returns:
            Counts, shape (num_classes, num_classes), rows are truth.

        Raises:
            TypeError: If the counts are no whole numbers.
            TaxonomyError: If the shape is another, a count is negative, or a row or column that
                belongs to no category holds counts.

        Example:
            >>> shirts_and_hats = LabelMap.from_names({"clothes": ["shirt"], "hats": ["hat"]},
            ...     taxonomy=Taxonomy("tiny", (Category(0, "hat"), Category(1, "shirt"))))
            >>> shirts_and_hats.collapse([[5, 1], [2, 7]])
            array([[0, 0, 0],
                   [0, 7, 2],
                   [0, 1, 5]])
        """
        counts = np.asarray(confusion)
        table = self._table(-2)
        if counts.dtype.kind not in "iu":
            raise TypeError(f"confusion must hold whole numbers, but has dtype {counts.dtype}")
        if counts.shape != (len(table), len(table)):
            raise TaxonomyError(
                f"confusion must have shape {(len(table), len(table))}, one row for each id of "
                f"taxonomy {self.taxonomy.name!r}, but has shape {counts.shape}"
            )
        if (counts < 0).any():
            raise TaxonomyError(f"confusion must hold no negative count, but has {counts.min()}")
        for index in np.flatnonzero(table == -1):
            if counts[index].any() or counts[:, index].any():
                self.taxonomy.category(int(index))
        truth = np.equal.outer(np.arange(self.num_classes), table).astype(np.int64)
        predicted = np.where(table == -2, 0, table)
        prediction = np.equal.outer(predicted, np.arange(self.num_classes)).astype(np.int64)
        collapsed: NDArray[np.int64] = truth @ counts.astype(np.int64) @ prediction
        return collapsed

    @classmethod
    def from_names(
        cls,
        classes: Mapping[str, Collection[str]],
        *,
        taxonomy: Taxonomy | None = None,
        transparent: Collection[str] = (),
        rest: Literal["background", "transparent", "error"] = "background",
        overlap: Overlap = "last",
    ) -> Self:
        """Make a label map from the names of categories.

        Args:
            classes: Target class -> the names of its categories. The classes get the labels
                1, 2, … in this order; a class called "background" gets 0.
            taxonomy: The categories mapped from; None means `IMATERIALIST_2020`.
            transparent: The names of the categories that show what lies beneath them.
            rest: What becomes of categories that are named nowhere.
            overlap: See `LabelMap`.

        Returns:
            The label map.

        Raises:
            TypeError: If a class's categories are given as one str.
            TaxonomyError: If a category is unknown, assigned twice or, with ``rest="error"``,
                not assigned.

        Example:
            >>> bags = LabelMap.from_names({"bag": ["bag, wallet"]})
            >>> bags.target_names, bags.label_of(24), bags.label_of(0)
            (('background', 'bag'), 1, 0)
        """
        taxonomy = IMATERIALIST_2020 if taxonomy is None else taxonomy
        if rest not in ("background", "transparent", "error"):
            raise TaxonomyError(
                f"rest must be 'background', 'transparent' or 'error', but is {rest!r}"
            )
        target_names = ("background", *(name for name in classes if name != "background"))
        assigned: dict[str, str | None] = {}
        wanted: list[tuple[str | None, Collection[str]]] = [*classes.items(), (None, transparent)]
        for class_name, names in wanted:
            where = "transparent" if class_name is None else f"class {class_name!r}"
            if isinstance(names, str):
                raise TypeError(f"{where} needs a list of category names, not the str {names!r}")
            for name in names:
                taxonomy.index(name)
                if name in assigned:
                    before = assigned[name]
                    raise TaxonomyError(
                        f"category {name!r} is assigned twice: to "
                        f"{'transparent' if before is None else f'class {before!r}'} and {where}"
                    )
                assigned[name] = class_name
        missing = [name for name in taxonomy.names if name not in assigned]
        if rest == "error" and missing:
            raise TaxonomyError(f"no class is given for {', '.join(map(repr, missing))}")
        assigned |= dict.fromkeys(missing, None if rest == "transparent" else "background")
        label = {name: index for index, name in enumerate(target_names)}
        goals = (assigned[name] for name in taxonomy.names)
        return cls(
            taxonomy,
            target_names,
            tuple(None if goal is None else label[goal] for goal in goals),
            overlap,
        )

    @classmethod
    def by_supercategory(
        cls,
        classes: Mapping[str, Collection[str]] | None = None,
        *,
        taxonomy: Taxonomy | None = None,
        exceptions: Mapping[str, str | None] | None = None,
        transparent: Collection[str] = (),
        rest: Literal["background", "transparent", "error"] = "background",
        overlap: Overlap = "last",
    ) -> Self:
        """Make a label map from the names of super-categories.

        Args:
            classes: Target class -> the names of its super-categories, labelled as in
                `from_names`. None makes each super-category that is not transparent a class.
            taxonomy: The categories mapped from; None means `IMATERIALIST_2020`.
            exceptions: Category -> the class that it goes to against its super-category's rule;
                None makes it transparent.
            transparent: The super-categories that show what lies beneath them.
            rest: What becomes of super-categories that are named nowhere.
            overlap: See `LabelMap`.

        Returns:
            The label map.

        Raises:
            TypeError: If a class's super-categories are given as one str.
            TaxonomyError: If a category, super-category or class is unknown, or a super-category
                is assigned twice.

        Example:
            >>> LabelMap.by_supercategory(
            ...     {"body": ["upperbody", "lowerbody", "wholebody"]}
            ... ).label_of(IMATERIALIST_2020.index("coat"))
            1
        """
        taxonomy = IMATERIALIST_2020 if taxonomy is None else taxonomy
        if classes is None:
            classes = {g: [g] for g in taxonomy.supercategories if g not in transparent}
        groups = Taxonomy(
            f"{taxonomy.name}, super-categories",
            tuple(Category(i, name) for i, name in enumerate(taxonomy.supercategories)),
        )
        coarse = cls.from_names(classes, taxonomy=groups, transparent=transparent, rest=rest)
        label = {name: index for index, name in enumerate(coarse.target_names)}
        ungrouped = None if rest == "transparent" else 0
        targets = []
        for category in taxonomy:
            group = category.supercategory
            targets.append(coarse.targets[groups.index(group)] if group else ungrouped)
        for name, goal in (exceptions or {}).items():
            if goal is not None and goal not in label:
                raise TaxonomyError(
                    f"exceptions send {name!r} to the unknown class {goal!r}{_nearest(goal, label)}"
                )
            targets[taxonomy.index(name)] = None if goal is None else label[goal]
        return cls(taxonomy, coarse.target_names, tuple(targets), overlap)

    def to_json(self, path: str | Path | None = None) -> str:
        """Write the label map, with its taxonomy, as JSON.

        Args:
            path: A file to write as well; None writes nothing.

        Returns:
            The JSON text; `from_json` gives back an equal label map from it.

        Example:
            >>> LabelMap.from_json(CCP_TO_MAIN.to_json()) == CCP_TO_MAIN
            True
        """
        content = {
            "taxonomy": {"name": self.taxonomy.name, "categories": _category_dicts(self.taxonomy)},
            "target_names": self.target_names,
            "targets": {
                name: None if label is None else self.target_names[label]
                for name, label in zip(self.taxonomy.names, self.targets, strict=True)
            },
            "overlap": self.overlap,
        }
        text = json.dumps(content, indent=1)
        if path is not None:
            with replacing(path) as part:
                part.write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a label map that `to_json` wrote, or that was written by hand in that form.

        Args:
            path: A file, or JSON text.

        Returns:
            The label map.

        Raises:
            TaxonomyError: If the text is no such JSON, or a category or class is unknown or left
                out; the message names it and the nearest known name.
            FileNotFoundError: If there is no such file.

        Example:
            >>> LabelMap.from_json(IMATERIALIST_TO_MAIN.to_json()).target_names[1]
            'upper-body'
        """
        content, origin = _parse_json(path)
        fields = {"taxonomy": dict, "target_names": list, "targets": dict, "overlap": str}
        if not isinstance(content, dict):
            raise TaxonomyError(f"{origin}: a label map must be a JSON object")
        for key, kind in fields.items():
            if not isinstance(content.get(key), kind):
                raise TaxonomyError(
                    f"{origin}: a label map needs {key!r} as {kind.__name__}, "
                    f"but has {content.get(key)!r:.60}"
                )
        try:
            taxonomy = Taxonomy.from_json(json.dumps(content["taxonomy"]))
            label = {name: index for index, name in enumerate(content["target_names"])}
            targets: list[int | None] = [None] * len(taxonomy)
            for name, goal in content["targets"].items():
                place = taxonomy.index(name)
                if goal is not None and goal not in label:
                    raise TaxonomyError(
                        f"category {name!r} goes to the unknown class {goal!r}"
                        f"{_nearest(str(goal), label)}"
                    )
                targets[place] = None if goal is None else label[goal]
            missing = [name for name in taxonomy.names if name not in content["targets"]]
            if missing:
                raise TaxonomyError(f"no class is given for {', '.join(map(repr, missing))}")
            return cls(taxonomy, tuple(content["target_names"]), tuple(targets), content["overlap"])
        except (TaxonomyError, TypeError) as error:
            raise TaxonomyError(f"{origin}: {error}") from None


_MAIN_GROUPS = {
    "upper-body": ["upperbody"],
    "lower-body": ["lowerbody"],
    "whole-body": ["wholebody"],
    "feet": ["legs and feet"],
    "accessories": ["head", "neck", "arms and hands", "waist", "others"],
}


def _to_main(taxonomy: Taxonomy) -> LabelMap:
    return LabelMap.by_supercategory(
        _MAIN_GROUPS,
        taxonomy=taxonomy,
        exceptions={"tights, stockings": "lower-body"},
        transparent=["garment parts", "closures", "decorations"],
        rest="error",
    )


IMATERIALIST_TO_MAIN = _to_main(IMATERIALIST_2020)
"""The default map: by super-category, tights and stockings to the lower body; garment parts,
closures and decorations are transparent."""

FASHIONPEDIA_TO_MAIN = _to_main(FASHIONPEDIA)
"""The same rule for Fashionpedia's own ids."""

_NOTEBOOK_LABELS = (
    dict.fromkeys(range(6), 1)
    | dict.fromkeys(range(6, 9), 2)
    | dict.fromkeys(range(9, 12), 3)
    | dict.fromkeys((20, 22, 23), 4)
    | dict.fromkeys((*range(13, 20), *range(24, 27), 34, 37), 5)
)

IMATERIALIST_TO_MAIN_NOTEBOOK = LabelMap(
    IMATERIALIST_2020,
    MAIN_CLASSES,
    tuple(_NOTEBOOK_LABELS.get(i, 0) for i in IMATERIALIST_2020.ids),
    overlap="maximum",
)
"""The lists of the original study to the letter: what they leave out (cape, tights, most parts) is
background, and where regions overlap the greatest label wins."""

_CCP_CLASSES = {
    "background": "null hair skin",
    "upper-body": (
        "blazer blouse bra cardigan hoodie jacket jumper shirt suit sweater sweatshirt t-shirt "
        "top vest"
    ),
    "lower-body": "jeans leggings panties pants shorts skirt stockings tights",
    "whole-body": "bodysuit cape coat dress intimate romper swimwear",
    "feet": "boots clogs flats heels loafers pumps sandals shoes sneakers socks wedges",
    "accessories": (
        "accessories bag belt bracelet earrings glasses gloves hat necklace purse ring scarf "
        "sunglasses tie wallet watch"
    ),
}

CCP_TO_MAIN = LabelMap.from_names(
    {name: tags.split() for name, tags in _CCP_CLASSES.items()}, taxonomy=CCP, rest="error"
)
"""CCP's tags to the main classes; a suit is always the jacket there."""
