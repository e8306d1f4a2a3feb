"""Laws of annotation files: what is written is read back, and damage is never taken in silence."""

import csv
import io
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplab_fashion import annotations, samples
from deeplab_fashion.annotations import (
    AnnotationSet,
    ImageAnnotation,
    read_fashionpedia,
    read_imaterialist,
    split,
    write_fashionpedia,
    write_imaterialist,
    write_submission,
)
from deeplab_fashion.errors import AnnotationError, ImageError
from deeplab_fashion.rle import RunLengthMask, paint_labels
from deeplab_fashion.taxonomy import Category, LabelMap, Taxonomy

laws = settings(deadline=None, derandomize=True, max_examples=60)

TAXONOMY = Taxonomy("ten", tuple(Category(i, f"category {i}") for i in range(10)))
IDS = st.one_of(
    st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters='"/.'),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 10**7).map(str),
)


@st.composite
def records(draw, *, min_regions=0, crowds=True):
    image_id = draw(IDS)
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    number = draw(st.integers(min_regions, 3))
    masks = [draw(hnp.arrays(bool, size)) for _ in range(number)]
    return ImageAnnotation(
        image_id,
        Path("photos", f"{image_id}.jpg"),
        size,
        tuple(map(RunLengthMask.from_mask, masks)),
        tuple(draw(st.integers(0, 9)) for _ in masks),
        tuple(tuple(draw(st.lists(st.integers(0, 340), max_size=3))) for _ in masks),
        tuple(draw(st.booleans()) if crowds else False for _ in masks),
    )


def many(**options):
    return st.lists(records(**options), max_size=4, unique_by=lambda record: record.image_id)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("laws")


@laws
@given(many(min_regions=1, crowds=False))
def test_imaterialist_round_trip(folder, written):
    write_imaterialist(folder / "a.csv", written)
    read = read_imaterialist(folder / "a.csv", "photos", check_images=False, taxonomy=TAXONOMY)
    assert read == AnnotationSet(tuple(written))


@laws
@given(many())
def test_fashionpedia_round_trip(folder, written):
    write_fashionpedia(folder / "a.json", written, TAXONOMY)
    read = read_fashionpedia(folder / "a.json", "photos", check_images=False, taxonomy=TAXONOMY)
    assert read == AnnotationSet(tuple(written))


@laws
@given(many(min_regions=1, crowds=False))
def test_a_submission_holds_each_region(folder, written):
    write_submission(folder / "s.csv", written)
    with (folder / "s.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["ImageId"], int(row["ClassId"]), row["EncodedPixels"]) for row in rows] == [
        (record.image_id, category_id, region.to_kaggle())
        for record in written
        for region, category_id in zip(record.regions, record.category_ids, strict=True)
    ]


@laws
@given(many(min_regions=1, crowds=False), st.randoms(use_true_random=False))
def test_rows_of_photos_may_stand_in_any_order(folder, written, random):
    write_imaterialist(folder / "a.csv", written)
    header, *rows = (folder / "a.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    random.shuffle(rows)
    (folder / "a.csv").write_text(header + "".join(rows), encoding="utf-8")
    read = read_imaterialist(folder / "a.csv", "photos", check_images=False)

    def content(records):
        return {
            record.image_id: sorted(
                (region.to_kaggle(), category_id)
                for region, category_id in zip(record.regions, record.category_ids, strict=True)
            )
            for record in records
        }

    assert content(read) == content(written)


@laws
@given(records(), st.data())
def test_labels_equal_painting_the_masks_one_by_one(record, data):
    targets = [data.draw(st.sampled_from([None, 0, 1, 2])) for _ in TAXONOMY]
    label_map = LabelMap(TAXONOMY, ("background", "a", "b"), tuple(targets))
    expected = np.zeros(record.size, np.uint8)
    for region, category_id in zip(record.regions, record.category_ids, strict=True):
        if targets[category_id] is not None:
            expected[region.to_mask()] = targets[category_id]
    np.testing.assert_array_equal(record.to_labels(label_map), expected)


FIELDS = st.text(st.characters(exclude_characters='"\r\n\0', exclude_categories=["Cs"]), max_size=5)


@laws
@given(st.lists(st.tuples(FIELDS, st.booleans()), min_size=1, max_size=6))
def test_a_line_splits_like_the_standard_reader_splits_it(fields):
    cells = [f'"{text}"' if quoted or "," in text else text for text, quoted in fields]
    line = ",".join(cells)
    ours = annotations._csv_fields((line + "\r\n").encode())
    assert ours == [text for text, _ in fields]
    if line:
        assert ours == next(csv.reader([line]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.fixed_dictionaries(
    {}, optional={"info": JSON, "images": st.lists(JSON, max_size=5), "more": JSON}
)


def items_in_pieces(text, piece):
    reader = annotations._JsonReader(io.StringIO(text), "text")
    with mock.patch.object(annotations._JsonReader, "_PIECE", piece):
        return [item for _, place, item in reader.items(["images"]) if place]


@laws
@given(OBJECTS, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_json_read_in_pieces_is_the_json(content, piece, indent, ascii_only):
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    assert items_in_pieces(text, piece) == content.get("images", [])


@laws
@given(OBJECTS, st.integers(1, 40), st.data())
def test_damaged_json_is_refused_wherever_the_pieces_end(content, piece, data):
    text = json.dumps(content)
    place = data.draw(st.integers(0, len(text) - 1))
    text = (
        text[:place]
        + data.draw(st.sampled_from(["", ",", '"', "[", "}", "\\"]))
        + text[place + 1 :]
    )
    try:
        whole = json.loads(text)
        valid = isinstance(whole, dict) and isinstance(whole.get("images", []), list)
    except ValueError:
        valid = False
    if valid and text.count('"images"') == len({"images"} & whole.keys()):
        assert items_in_pieces(text, piece) == whole.get("images", [])
    elif not valid:
        with pytest.raises(AnnotationError):
            items_in_pieces(text, piece)


@settings(laws, max_examples=150)
@given(st.data())
def test_damage_to_one_row_reaches_no_other_photo(folder, data):
    header, *rows = samples.annotations_path().read_bytes().splitlines(keepends=True)
    first = {row.split(b",")[0]: row for row in reversed(rows) if len(row) < 1500}
    rows = list(first.values())
    number = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(0, len(rows[number]) - 1))
    byte = data.draw(st.sampled_from([*b' ,"\n\r-+_.0127x', 0, 0xE9]))
    damaged = rows.copy()
    damaged[number] = rows[number][:place] + bytes([byte]) + rows[number][place + 1 :]
    path, photos_dir = folder / "damaged.csv", samples.photo().parent
    path.write_bytes(header + b"".join(rows))
    before = {record.image_id: record for record in read_imaterialist(path, photos_dir)}
    path.write_bytes(header + b"".join(damaged))
    records = read_imaterialist(path, photos_dir, on_error="skip")
    # A lost line break takes the next row along; a new one makes a row of the rest.
    near = [*rows[number : number + 2], *b"".join(damaged[number : number + 2]).splitlines()]
    touched = {row.split(b",")[0].decode("utf-8", "replace").strip().strip('"') for row in near}
    for record in records:
        if record.image_id not in touched:
            assert record == before[record.image_id]
    for image_id in before.keys() - {record.image_id for record in records}:
        assert image_id in touched
    if records.skipped:
        with pytest.raises((AnnotationError, ImageError)) as caught:
            read_imaterialist(path, photos_dir)
        assert str(caught.value) == str(records.skipped[0])


@laws
@given(
    st.lists(IDS, max_size=30, unique=True),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_a_split_is_a_partition_of_the_wanted_sizes(ids, weights, seed):
    region = RunLengthMask((1, 1), [0], [1])
    photos = [ImageAnnotation(i, Path(i), (1, 1), (region,), (0,)) for i in ids]
    fractions = [weight / sum(weights) for weight in weights]
    parts = split(photos, fractions, seed)
    assert sorted(r.image_id for part in parts for r in part) == sorted(ids)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * len(ids)) <= 1
    reordered = split(sorted(photos, key=lambda r: r.image_id), fractions, seed)
    assert [{r.image_id for r in part} for part in parts] == [
        {r.image_id for r in part} for part in reordered
    ]


def test_paint_labels_is_what_to_labels_uses():
    record = samples.load()[0]
    whole = LabelMap(TAXONOMY, ("background", "a"), (1,) * 10)
    renamed = ImageAnnotation(
        record.image_id, record.path, record.size, record.regions, (0,) * len(record.regions)
    )
    np.testing.assert_array_equal(
        renamed.to_labels(whole, output_size=(50, 40)),
        paint_labels(record.regions, [1] * len(record.regions), output_size=(50, 40)),
    )
