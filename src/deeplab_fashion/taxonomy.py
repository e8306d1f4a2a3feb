"""Categories of fashion data sets, and maps from them to the classes that a network learns."""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex

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

_TRANSPARENT, _NO_ID = -1, -2

MAIN_CLASSES = ("background", "upper-body", "lower-body", "whole-body", "feet", "accessories")
"""Background and the five main classes; a class's label is its place here."""


def _nearest(name: object, known: Iterable[str]) -> str:
    """Return a hint at the known name that has or resembles ``name`` most, or nothing."""
    known = list(known)
    holding = [other for other in known if str(name) in re.split(r"\W+", other)]
    close = holding or difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _int(value: object, name: str) -> int:
    """Return an integer of any kind as a plain one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an int, but is {value!r:.60}")
    return index(value)


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
        object.__setattr__(self, "id", _int(self.id, "a category's id"))
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


def _parse_json(source: str | Path) -> tuple[dict[str, Any], str]:
    """Return the object in JSON text or in a JSON file, and where it came from."""
    if isinstance(source, str) and source.lstrip()[:1] in ("{", "["):
        text, origin = source, "JSON text"
    else:
        origin = str(source)
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise TaxonomyError(f"{origin}: text must be UTF-8: {error}") from None
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except TaxonomyError as error:
        raise TaxonomyError(f"{origin}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise TaxonomyError(f"{origin}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise TaxonomyError(f"{origin}: a JSON object is needed, but this is {content!r:.60}")
    return content, origin


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise TaxonomyError(f"the key {twice!r} must occur once in its object")
    return content


def _write_json(content: dict[str, Any], path: str | Path | None) -> str:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    if path is not None:
        with replacing(path) as part:
            part.write_text(text + "\n", encoding="utf-8")
    return text


@dataclass(frozen=True)
class Taxonomy:
    """The categories of a data set, each with an id, a name and a super-category.

    ``len`` and iteration go over the categories in their order.

    Args:
        name: The data set's name.
        categories: The categories; ids and names each occur once.

    Raises:
        TypeError: If a category is no `Category`.
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
            if not isinstance(category, Category):
                raise TypeError(
                    f"categories must be Category objects, such as Category(1, 'coat'), "
                    f"but one is {category!r:.60}"
                )
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
        return _write_json(self._content(), path)

    def _content(self) -> dict[str, Any]:
        return {"name": self.name, "categories": [asdict(category) for category in self]}

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
        given = content.get("name")
        if name is None:
            name = given if isinstance(given, str) else Path(origin).stem
        try:
            return cls(name, tuple(_categories(content)))
        except TaxonomyError as error:
            raise TaxonomyError(f"{origin}: {error}") from None


def _categories(content: Mapping[str, Any]) -> Iterator[Category]:
    if not isinstance(content.get("categories"), list):
        raise TaxonomyError("a taxonomy needs a list named 'categories'")
    for place, item in enumerate(content["categories"]):
        try:
            yield Category(item["id"], item["name"], item.get("supercategory") or "")
        except (KeyError, TypeError, AttributeError, TaxonomyError) as error:
            raise TaxonomyError(
                f"categories[{place}] must be an object with 'id' (a whole number from 0) and "
                f"'name' (text), but is {item!r:.80} ({type(error).__name__}: {error})"
            ) from None


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
        target_names: The target classes; a class's label is its place here. The first is
            "background".
        targets: The label of each category, in the taxonomy's order; None is transparent.
        overlap: Which region wins where several lie over each other: the "last" in the file,
            the "maximum" label, or the "smallest" region.

    Raises:
        TypeError: If a target is neither an int nor None.
        TaxonomyError: If a target is missing or not a label of ``target_names``, if these do not
            begin with "background" or one occurs twice, or if ``overlap`` is unknown.

    Example:
        >>> IMATERIALIST_TO_MAIN.label_of(9), IMATERIALIST_TO_MAIN.label_of(32)
        (3, None)
    """

    taxonomy: Taxonomy
    target_names: tuple[str, ...]
    targets: tuple[int | None, ...]
    overlap: Overlap = "last"

    def __post_init__(self) -> None:
        names = tuple(self.target_names)
        if len(set(names)) != len(names) or names[:1] != ("background",):
            raise TaxonomyError(
                f"target_names must begin with 'background' and name each class once; got {names}"
            )
        if len(self.targets) != len(self.taxonomy):
            raise TaxonomyError(
                f"targets must have one entry for each of the {len(self.taxonomy)} categories of "
                f"taxonomy {self.taxonomy.name!r}, but have {len(self.targets)}"
            )
        targets = []
        for name, label in zip(self.taxonomy.names, self.targets, strict=True):
            targets.append(None if label is None else _int(label, f"the label of {name!r}"))
            if label is not None and not 0 <= label < len(names):
                raise TaxonomyError(
                    f"category {name!r} must go to a label from 0 to {len(names) - 1} or to None, "
                    f"not to {label}"
                )
        object.__setattr__(self, "target_names", names)
        object.__setattr__(self, "targets", tuple(targets))
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

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        """The label of every number up to the largest id, or what stands for one."""
        table = np.full(max(self.taxonomy.ids, default=-1) + 1, _NO_ID, np.int64)
        for category_id, label in self._label_by_id.items():
            table[category_id] = _TRANSPARENT if label is None else label
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
        table = self._table
        ignored = given == ignore_index
        inside = (given >= 0) & (given < len(table)) & ~ignored
        result = np.full(given.shape, _NO_ID, np.int64)
        result[inside] = table[given[inside].astype(np.int64)]
        unknown = (result == _NO_ID) & ~ignored
        if unknown.any():
            self.taxonomy.category(int(given[unknown][0]))
        result[ignored | (result == _TRANSPARENT)] = ignore_index
        fits = 0 <= ignore_index <= 255 and self.num_classes <= 256
        return result.astype(np.uint8) if fits else result

    def collapse(
        self, confusion: ArrayLike, *, fine: "LabelMap | None" = None
    ) -> NDArray[np.int64]:
        """Turn the confusion counts of fine labels into those of the target classes.

        No second pass over the photos is needed. With the counts of two arrays of category ids,

            collapse(confusion) = confusion_matrix(t, p, num_classes, ignore_index=255),
            t = apply(y_true), p = where(apply(y_pred) == 255, 0, apply(y_pred))

        A pixel whose truth is transparent has no known class and is left out, like any ignored
        pixel. A pixel predicted as a transparent category has been given no class, so it counts
        as predicted background.

        Args:
            confusion: Counts, shape (n, n), rows are truth. Row and column ``i`` belong to the
                category with id ``i``, so n is the largest id + 1; or with ``fine`` to the class
                with label ``i``.
            fine: The label map, over the same taxonomy, whose classes were counted. All categories
                of one of its classes must have one label here, and those of its background must
                go to background or be transparent.

        Returns:
            Counts, shape (num_classes, num_classes), rows are truth.

        Raises:
            TypeError: If the counts are no whole numbers.
            TaxonomyError: If the shape is another, a count is negative, a row or column that
                belongs to no category holds counts, or a class of ``fine`` is not within one here.

        Example:
            >>> shirts_and_hats = LabelMap.from_names({"clothes": ["shirt"], "hats": ["hat"]},
            ...     taxonomy=Taxonomy("tiny", (Category(0, "hat"), Category(1, "shirt"))))
            >>> shirts_and_hats.collapse([[5, 1], [2, 7]])
            array([[0, 0, 0],
                   [0, 7, 2],
                   [0, 1, 5]])
        """
        counts = np.asarray(confusion)
        table = self._table if fine is None else self._table_of(fine)
        if counts.dtype.kind not in "iu":
            raise TypeError(f"confusion must hold whole numbers, but has dtype {counts.dtype}")
        if counts.shape != (len(table), len(table)):
            raise TaxonomyError(
                f"confusion must have shape {(len(table), len(table))}, one row for each "
                f"{'id of the taxonomy' if fine is None else 'class of fine'}, "
                f"but has shape {counts.shape}"
            )
        if (counts < 0).any():
            raise TaxonomyError(f"confusion must hold no negative count, but has {counts.min()}")
        held = counts.any(axis=0) | counts.any(axis=1)
        misplaced = np.flatnonzero(held & (table == _NO_ID))
        if misplaced.size:
            raise TaxonomyError(
                "confusion must hold no counts where there is no category, but row or column "
                f"{misplaced[0]} does"
            )
        labels = np.arange(self.num_classes)
        truth = np.equal.outer(labels, table).astype(np.int64)
        predicted = np.equal.outer(np.where(table == _TRANSPARENT, 0, table), labels)
        collapsed: NDArray[np.int64] = truth @ counts.astype(np.int64) @ predicted.astype(np.int64)
        return collapsed

    def _table_of(self, fine: "LabelMap") -> NDArray[np.int64]:
        """Return the label here of each class of a finer label map."""
        if fine.taxonomy != self.taxonomy:
            raise TaxonomyError(
                f"fine must map the taxonomy {self.taxonomy.name!r}, but maps a different "
                f"{fine.taxonomy.name!r}"
            )
        table = np.full(fine.num_classes, _NO_ID, np.int64)
        table[0] = 0
        owner = {0: "background"}
        for category, label, own in zip(self.taxonomy, fine.targets, self.targets, strict=True):
            if label is None or (label == 0 and own is None):
                continue
            wanted = _TRANSPARENT if own is None else own
            if table[label] not in (_NO_ID, wanted):
                raise TaxonomyError(
                    f"class {fine.target_names[label]!r} of fine must lie within one class, but "
                    f"{owner[label]!r} and {category.name!r} go to different ones"
                )
            table[label] = wanted
            owner[label] = category.name
        return table

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
            classes: Target class -> the names of its categories, or the other way round,
                category -> the name of its class. The classes get the labels 1, 2, … in their
                order; a class called "background" gets 0.
            taxonomy: The categories mapped from; None means `IMATERIALIST_2020`.
            transparent: The names of the categories that show what lies beneath them.
            rest: What becomes of categories that are named nowhere.
            overlap: See `LabelMap`.

        Returns:
            The label map.

        Raises:
            TypeError: If ``classes`` is no mapping or mixes the two ways.
            TaxonomyError: If a category is unknown, assigned twice or, with ``rest="error"``,
                not assigned.

        Example:
            >>> bags = LabelMap.from_names({"bag": ["bag, wallet"]})
            >>> bags.target_names, bags.label_of(24), bags.label_of(0)
            (('background', 'bag'), 1, 0)
        """
        hint = "; categories of your own need taxonomy" if taxonomy is None else ""
        taxonomy = IMATERIALIST_2020 if taxonomy is None else taxonomy
        if rest not in ("background", "transparent", "error"):
            raise TaxonomyError(
                f"rest must be 'background', 'transparent' or 'error', but is {rest!r}"
            )
        if not isinstance(classes, Mapping):
            raise TypeError(
                "classes must map each class to the names of its categories, such as "
                f"{{'bag': ['bag', 'purse']}}, but is {classes!r:.60}"
            )
        if classes and all(isinstance(goal, str) for goal in classes.values()):
            one_way: dict[str, list[str]] = {}
            for name, goal in classes.items():
                one_way.setdefault(str(goal), []).append(name)
            classes = one_way
        target_names = ("background", *(name for name in classes if name != "background"))
        assigned: dict[str, str | None] = {}
        wanted: list[tuple[str | None, Collection[str]]] = [*classes.items(), (None, transparent)]
        for class_name, names in wanted:
            where = "transparent" if class_name is None else f"class {class_name!r}"
            if isinstance(names, str) or not isinstance(names, Collection):
                raise TypeError(f"{where} needs a list of names, but has {names!r:.60}")
            for name in names:
                try:
                    taxonomy.index(name)
                except TaxonomyError as error:
                    raise TaxonomyError(f"{error}{hint}") from None
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
            TypeError: If ``classes`` mixes the two ways.
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
        exceptions = exceptions or {}
        targets = []
        for category in taxonomy:
            group = category.supercategory
            if not group and rest == "error" and category.name not in exceptions:
                raise TaxonomyError(
                    f"no super-category and no class is given for {category.name!r}"
                )
            ungrouped = None if rest == "transparent" else 0
            targets.append(coarse.targets[groups.index(group)] if group else ungrouped)
        for name, goal in exceptions.items():
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
        classes: dict[str | None, list[str]] = {name: [] for name in (*self.target_names, None)}
        for name, label in zip(self.taxonomy.names, self.targets, strict=True):
            classes[None if label is None else self.target_names[label]].append(name)
        content = {
            "taxonomy": self.taxonomy._content(),
            "transparent": classes.pop(None),
            "classes": classes,
            "overlap": self.overlap,
        }
        return _write_json(content, path)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a label map that `to_json` wrote, or that was written by hand.

        The object has the arguments of `from_names`: ``classes``, and at will ``transparent``,
        ``rest``, ``overlap`` and ``taxonomy``. The last is an object with ``categories``, or the
        name of a taxonomy of this module, such as "iMaterialist 2020".

        Args:
            path: A file, or JSON text.

        Returns:
            The label map.

        Raises:
            TaxonomyError: If the text is no such JSON, or a category is unknown or assigned twice;
                the message names it and the nearest known name.
            FileNotFoundError: If there is no such file.

        Example:
            >>> LabelMap.from_json('{"classes": {"bag": ["bag, wallet"]}}').label_of(24)
            1
        """
        content, origin = _parse_json(path)
        known = {t.name: t for t in (IMATERIALIST_2020, FASHIONPEDIA, CCP)}
        try:
            options = dict(content)
            taxonomy = options.pop("taxonomy", IMATERIALIST_2020.name)
            if isinstance(taxonomy, dict):
                name = str(taxonomy.get("name", "unnamed"))
                options["taxonomy"] = Taxonomy(name, tuple(_categories(taxonomy)))
            elif taxonomy in known:
                options["taxonomy"] = known[taxonomy]
            else:
                raise TaxonomyError(
                    f"taxonomy must be an object or one of {', '.join(known)}, "
                    f"but is {taxonomy!r:.60}"
                )
            for key in options:
                if key not in ("taxonomy", "classes", "transparent", "rest", "overlap"):
                    raise TaxonomyError(f"a label map has no key {key!r}")
            if not isinstance(options.get("classes"), dict):
                raise TaxonomyError("a label map needs an object named 'classes'")
            return cls.from_names(**options)
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
