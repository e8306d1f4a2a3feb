"""Annotation files: every form read right, every fault named, nothing half done."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from deeplab_fashion import samples
from deeplab_fashion.annotations import (
    AnnotationSet,
    ImageAnnotation,
    SkippedRecord,
    read_fashionpedia,
    read_imaterialist,
    split,
    write_coco,
    write_fashionpedia,
    write_imaterialist,
    write_submission,
)
from deeplab_fashion.errors import AnnotationError, ImageError, TaxonomyError
from deeplab_fashion.rle import RunLengthMask
from deeplab_fashion.taxonomy import (
    CCP,
    CCP_TO_MAIN,
    FASHIONPEDIA,
    IMATERIALIST_2020,
    IMATERIALIST_TO_MAIN,
    IMATERIALIST_TO_MAIN_NOTEBOOK,
    Category,
    LabelMap,
    Taxonomy,
)

HEADER = "ImageId,EncodedPixels,Height,Width,ClassId,AttributesIds"


@pytest.fixture
def folder(tmp_path):
    """A folder with two photos, 3 pixels high and 2 wide."""
    for name in ("a", "b"):
        Image.new("RGB", (2, 3)).save(tmp_path / f"{name}.jpg")
    return tmp_path


def csv(folder, *rows, header=HEADER):
    path = folder / "rows.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def coco(folder, **changes):
    content = {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "height": 3, "width": 2, "file_name": "a.jpg"},
            {"id": 2, "height": 3, "width": 2, "file_name": "b.jpg"},
        ],
        "annotations": [annotation()],
        "categories": [{"id": 0, "name": "shirt"}, {"id": 47, "name": "tassel"}],
    } | changes
    path = folder / "rows.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def annotation(**changes):
    region = {"size": [3, 2], "counts": [1, 2, 3]}
    return {"image_id": 1, "category_id": 47, "segmentation": region} | changes


def one_pixel(folder, image_id="a", **changes):
    values = {
        "path": folder / f"{image_id}.jpg",
        "size": (3, 2),
        "regions": (RunLengthMask((3, 2), [0], [1]),),
        "category_ids": (4,),
    }
    return ImageAnnotation(image_id, **values | changes)


class TestImaterialist:
    def test_by_hand(self, folder):
        path = csv(folder, "a,1 2 5 1,3,2,23,", 'b,3 4,3,2,0,"115,136"', "a,,3,2,31,9")
        first, second = read_imaterialist(path, folder)
        assert (first.image_id, first.path, first.size) == ("a", folder / "a.jpg", (3, 2))
        assert first.category_ids == (23, 31)
        assert first.attribute_ids == ((), (9,))
        assert first.crowd == (False, False)
        assert first.regions[0].to_mask().tolist() == [[1, 0], [1, 1], [0, 0]]
        assert first.regions[1].area == 0
        assert second.attribute_ids == ((115, 136),)
        assert second.regions[0].to_mask().tolist() == [[0, 1], [0, 1], [1, 1]]

    def test_the_form_of_2019(self, folder):
        path = csv(
            folder, "a.jpg,1 2,3,2,6_12_34", "a.jpg,4 1,3,2,0", header=HEADER.rpartition(",")[0]
        )
        (record,) = read_imaterialist(path, folder)
        assert record.image_id == "a.jpg"
        assert record.path == folder / "a.jpg"
        assert record.category_ids == (6, 0)
        assert record.attribute_ids == ((12, 34), ())

    def test_columns_in_any_order_with_others_between(self, folder):
        path = csv(
            folder, "7,2,3,4,a,x,1 1", header="row,Width,Height,ClassId,ImageId,note,EncodedPixels"
        )
        (record,) = read_imaterialist(path, folder)
        assert record.regions[0].to_kaggle() == "1 1"

    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    def test_byte_order_mark_quotes_and_line_endings(self, folder, ending):
        path = folder / "rows.csv"
        text = ending.join(['"ImageId",' + HEADER[8:], '"a","1 2","3","2","4",""', "", ""])
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        (record,) = read_imaterialist(path, folder)
        assert (record.category_ids, record.attribute_ids) == ((4,), ((),))

    def test_a_mask_longer_than_the_standard_reader_allows(self, folder):
        size = 400, 400
        Image.new("L", size[::-1]).save(folder / "wide.png")
        checks = np.indices(size).sum(axis=0) % 2 == 1
        region = RunLengthMask.from_mask(checks)
        assert len(region.to_kaggle()) > 131_072 * 4
        path = csv(folder, f"wide,{region.to_kaggle()},400,400,4,")
        assert read_imaterialist(path, folder)[0].regions[0] == region

    @pytest.mark.parametrize("name", ["c.png", "c.jpeg", "c.JPG"])
    def test_photos_of_other_extensions_are_found(self, folder, name):
        Image.new("RGB", (2, 3)).save(folder / name)
        assert read_imaterialist(csv(folder, "c,1 1,3,2,4,"), folder)[0].path == folder / name

    def test_a_name_with_a_dot(self, folder):
        Image.new("RGB", (2, 3)).save(folder / "c.v2.jpg")
        record = read_imaterialist(csv(folder, "c.v2,1 1,3,2,4,"), folder)[0]
        assert record.path == folder / "c.v2.jpg"

    def test_a_turned_photo_has_its_upright_size(self, folder):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (3, 2)).save(folder / "turned.jpg", exif=exif)
        assert len(read_imaterialist(csv(folder, "turned,1 1,3,2,4,"), folder)) == 1

    def test_a_file_without_rows_has_no_records(self, folder):
        assert len(read_imaterialist(csv(folder), folder)) == 0

    def test_wanted_photos_only(self, folder):
        path = csv(folder, "a,1 1,3,2,4,", "b,damaged,3,2,4,", "absent,1 1,3,2,4,")
        records = read_imaterialist(path, folder, image_ids=["a"])
        assert [record.image_id for record in records] == ["a"]
        with pytest.raises(AnnotationError, match="'c': image_ids names it, but the file does not"):
            read_imaterialist(path, folder, image_ids=["a", "c"])
        with pytest.raises(TypeError, match="collection of ids, but is the str 'a'"):
            read_imaterialist(path, folder, image_ids="a")

    def test_sizes_from_the_photos(self, folder):
        path = csv(folder, "a,1 6,4", header="ImageId,EncodedPixels,ClassId")
        (record,) = read_imaterialist(path, folder, sizes="photos")
        assert record.size == (3, 2)
        with pytest.raises(AnnotationError, match="columns Height, Width are missing"):
            read_imaterialist(path, folder)

    def test_without_a_look_at_the_photos(self, folder):
        path = csv(folder, "absent,1 1,30,20,4,")
        (record,) = read_imaterialist(path, folder / "nowhere", check_images=False)
        assert record.path == folder / "nowhere" / "absent.jpg"

    def test_progress_reaches_the_end(self, folder):
        calls = []
        path = csv(folder, *["a,1 1,3,2,4,"] * 600)
        read_imaterialist(path, folder, progress=lambda *call: calls.append(call))
        assert len(calls) == 3
        assert [done for done, _ in calls] == sorted(done for done, _ in calls)
        assert {total for _, total in calls} == {path.stat().st_size}
        assert calls[-1][0] == path.stat().st_size

    def test_memory_is_bounded_by_the_records_kept(self, folder):
        mask = " ".join(f"{start} 1" for start in range(1, 20_000, 2))
        path = csv(
            folder,
            *[f"x{i},{mask},200,200,4," for i in range(100)],
            "a,1 1,3,2,4,",
        )
        assert path.stat().st_size > 5_000_000
        tracemalloc.start()
        read_imaterialist(path, folder, image_ids=["a"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


FAULTY_ROWS = [
    ("a,1 2 5,3,2,4,", "run|pairs|odd|even"),
    ("a,0 2,3,2,4,", "start"),
    ("a,6 2,3,2,4,", r"\b6\b"),
    ("a,1 x,3,2,4,", "digit|character"),
    ("a,1 1,3,2,,", "ClassId must be a whole number of at least 0, but is ''"),
    ("a,1 1,3,2,-4,", "ClassId .* '-4'"),
    ("a,1 1,3,2,4.0,", r"ClassId .* '4\.0'"),
    ("a,1 1,3,2,٤,", "ClassId must be a whole number"),
    ("a,1 1,3,2,6_x,", "an attribute .* 'x'"),
    ('a,1 1,3,2,6,"1,-2"', "an attribute .* '-2'"),
    ("a,1 1,-3,2,4,", "Height must be a whole number of at least 1, but is '-3'"),
    ("a,1 1,3,0,4,", "Width must be a whole number of at least 1, but is '0'"),
    ("a,1 1,3.0,2,4,", r"Height .* '3\.0'"),
    ("a,1 1," + "9" * 5000 + ",2,4,", "Height must be a whole number"),
    ("a,1 1,3,2", "the header has 6 columns, but this row has 4"),
    ("a,1 1,3,2,4,,", "the header has 6 columns, but this row has 7"),
    ('a,1 1,3,2,4,"1', "quotes must enclose whole fields"),
    ('a,1 1,3,2,4,1"2"', "quotes must enclose whole fields"),
    (",1 1,3,2,4,", "ImageId is empty"),
    (HEADER, "the header must occur once"),
]


class TestImaterialistFaults:
    @pytest.mark.parametrize(("row", "reason"), FAULTY_ROWS)
    def test_a_faulty_row_is_named_with_the_rule(self, folder, row, reason):
        path = csv(folder, "b,1 1,3,2,4,", row)
        with pytest.raises(AnnotationError, match=reason) as caught:
            read_imaterialist(path, folder)
        image_id = row.split(",")[0].replace("ImageId", "")
        assert str(caught.value).startswith(f"{path}, row 3, image {image_id!r}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("row", "reason"), FAULTY_ROWS)
    def test_skip_leaves_the_whole_photo_out_and_says_why(self, folder, row, reason):
        path = csv(folder, "a,1 1,3,2,4,", row, "a,2 1,3,2,4,", "b,1 1,3,2,4,")
        records = read_imaterialist(path, folder, on_error="skip")
        (fault,) = records.skipped
        assert (fault.source, fault.row) == (str(path), 3)
        assert fault.reason
        lost = [] if fault.image_id == "" else ["a"]
        assert [record.image_id for record in records] == sorted({"a", "b"} - set(lost))
        assert fault.image_id == "".join(lost)

    def test_every_fault_is_listed(self, folder):
        path = csv(
            folder,
            "a,9 9,3,2,4,",
            "a,1 1,3,2,x,",
            "absent,1 1,3,2,4,",
            "absent,0 0,3,2,4,",
            "b,1 1,3,2,4,",
        )
        records = read_imaterialist(path, folder, on_error="skip")
        assert [(f.row, f.image_id) for f in records.skipped] == [
            (2, "a"),
            (3, "a"),
            (4, "absent"),
            (5, "absent"),
        ]
        assert [record.image_id for record in records] == ["b"]
        assert repr(records) == "<AnnotationSet: 1 images, 1 regions, 2 skipped>"

    def test_rows_of_one_photo_must_agree_in_size(self, folder):
        path = csv(folder, "a,1 1,3,2,4,", "b,1 1,3,2,4,", "a,1 1,2,3,4,")
        with pytest.raises(
            AnnotationError, match=r"row 4, image 'a': size \(2, 3\) .* \(3, 2\) in row 2"
        ):
            read_imaterialist(path, folder)

    def test_a_missing_photo(self, folder):
        path = csv(folder, "absent,1 1,3,2,4,")
        with pytest.raises(
            ImageError, match=r"row 2, image 'absent': .*absent\.jpg does not exist"
        ):
            read_imaterialist(path, folder)

    def test_an_unreadable_photo(self, folder):
        (folder / "text.jpg").write_text("no photo")
        with pytest.raises(ImageError, match=r"row 2, image 'text': .*text\.jpg is not an image"):
            read_imaterialist(csv(folder, "text,1 1,3,2,4,"), folder)

    def test_a_photo_of_another_size(self, folder):
        path = csv(folder, "a,1 1,2,3,4,")
        with pytest.raises(
            ImageError, match=r"image 'a': photo .*a\.jpg has the size \(3, 2\) .* says \(2, 3\)"
        ):
            read_imaterialist(path, folder)

    def test_a_missing_folder(self, folder):
        with pytest.raises(ImageError, match=r"images_dir must be a folder .*nowhere"):
            read_imaterialist(csv(folder), folder / "nowhere")

    def test_an_unknown_category(self, folder):
        path = csv(folder, "a,1 1,3,2,45,", "a,1 1,3,2,46,")
        assert len(read_imaterialist(path, folder)) == 1
        with pytest.raises(AnnotationError, match=r"row 3, image 'a': .* no category with id 46"):
            read_imaterialist(path, folder, taxonomy=IMATERIALIST_2020)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "the file is empty"),
            (b"\n", "the file is empty"),
            (b"ImageId,ClassId\n", "columns EncodedPixels, Height, Width are missing; found"),
            (b'{"images": []}\n', "this is JSON; read_fashionpedia reads it"),
            (HEADER.replace(",", ";").encode(), "columns ImageId, .* are missing"),
            (HEADER.encode() + b",ClassId\n", "column ClassId must occur once, but occurs 2"),
            (HEADER.encode("utf-16"), "text must be UTF-8, but byte 1 is 0xff"),
            (bytes(range(256)) * 1000, "UTF-8|missing"),
        ],
    )
    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    def test_a_file_of_another_form_raises_in_any_case(self, folder, content, reason, on_error):
        path = folder / "rows.csv"
        path.write_bytes(content)
        with pytest.raises(AnnotationError, match=reason) as caught:
            read_imaterialist(path, folder, on_error=on_error)
        assert str(caught.value).startswith(f"{path}, row 1: ")

    def test_a_row_that_is_not_utf8_takes_its_photo_along(self, folder):
        path = folder / "rows.csv"
        path.write_bytes(f"{HEADER}\na,1 1,3,2,4,\na,1 1,3,2,4,\xe9\n".encode("latin-1"))
        with pytest.raises(AnnotationError, match=r"row 3, .* UTF-8, but byte 13 is 0xe9"):
            read_imaterialist(path, folder)
        records = read_imaterialist(path, folder, on_error="skip")
        assert (len(records), records.skipped[0].image_id) == (0, "a")

    def test_a_missing_file(self, folder):
        with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
            read_imaterialist(folder / "absent.csv", folder)

    def test_unknown_options_are_refused(self, folder):
        with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', but is 'warn'"):
            read_imaterialist(csv(folder), folder, on_error="warn")
        with pytest.raises(ValueError, match="sizes must be"):
            read_imaterialist(csv(folder), folder, sizes="none")


class TestFashionpedia:
    def test_the_real_sample(self, shared):
        path = shared / "data/fashionpedia/sample.json"
        records = read_fashionpedia(path, path.parent, taxonomy=FASHIONPEDIA)
        reference = COCO(path)
        assert [record.image_id for record in records] == [str(i) for i in reference.imgs]
        for record in records:
            rows = reference.imgToAnns[int(record.image_id)]
            assert record.category_ids == tuple(row["category_id"] for row in rows)
            assert record.attribute_ids == tuple(tuple(row["attribute_ids"]) for row in rows)
            for region, row in zip(record.regions, rows, strict=True):
                theirs = reference.annToMask(row).astype(bool)
                ours = region.to_mask()
                # Their outline takes in a border of about half a pixel.
                assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9

    def test_every_form_of_region(self, folder):
        square = [[0, 0, 2, 0, 2, 2, 0, 2]]
        two_parts = [[0, 0, 1, 0, 1, 1, 0, 1], [1, 2, 2, 2, 2, 3, 1, 3]]
        mask = np.array([[0, 1], [1, 1], [1, 0]], bool)
        path = coco(
            folder,
            annotations=[
                annotation(segmentation=square, iscrowd=0),
                annotation(segmentation=two_parts),
                annotation(segmentation={"size": [3, 2], "counts": [1, 4, 1]}, iscrowd=1),
                annotation(segmentation=RunLengthMask.from_mask(mask).to_coco()),
            ],
        )
        first, second = read_fashionpedia(path, folder)
        assert [region.to_mask().tolist() for region in first.regions] == [
            [[1, 1], [1, 1], [0, 0]],
            [[1, 0], [0, 0], [0, 1]],
            mask.tolist(),
            mask.tolist(),
        ]
        assert first.crowd == (False, False, True, False)
        assert first.category_ids == (47,) * 4
        assert (second.image_id, second.regions) == ("2", ())

    @pytest.mark.parametrize(
        "order",
        [
            ["annotations", "categories", "images", "info"],
            ["categories", "annotations", "images"],
            ["images", "categories", "annotations"],
        ],
    )
    def test_lists_in_any_order(self, folder, order):
        path = coco(folder)
        expected = read_fashionpedia(path, folder)
        content = json.loads(path.read_text())
        path.write_text("\ufeff" + json.dumps({key: content[key] for key in order}, indent=2))
        assert read_fashionpedia(path, folder) == expected
        assert len(expected[0].regions) == 1

    def test_ids_may_be_text_and_photos_may_lie_in_folders(self, folder):
        (folder / "sub").mkdir()
        Image.new("RGB", (2, 3)).save(folder / "sub" / "c.png")
        path = coco(
            folder,
            images=[{"id": "x7", "height": 3, "width": 2, "file_name": "sub/c.png"}],
            annotations=[annotation(image_id="x7", attribute_ids=[5, 3])],
        )
        (record,) = read_fashionpedia(path, folder)
        assert (record.image_id, record.path) == ("x7", folder / "sub" / "c.png")
        assert record.attribute_ids == ((5, 3),)

    def test_wanted_photos_only(self, folder):
        path = coco(folder, annotations=[annotation(), annotation(image_id=2, segmentation=7)])
        assert [r.image_id for r in read_fashionpedia(path, folder, image_ids=["1"])] == ["1"]

    def test_progress_reaches_the_end(self, folder):
        calls = []
        path = coco(folder, annotations=[annotation()] * 600)
        read_fashionpedia(path, folder, progress=lambda *call: calls.append(call))
        assert calls[-1] == (path.stat().st_size,) * 2
        assert len(calls) >= 3

    def test_memory_is_bounded_by_the_records_kept(self, folder):
        path = coco(folder, annotations=[annotation(image_id=2, extra="x" * 999)] * 20_000)
        assert path.stat().st_size > 20_000_000
        tracemalloc.start()
        read_fashionpedia(path, folder, image_ids=["1"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12_000_000


FAULTY_ANNOTATIONS = [
    ({"category_id": 46}, "category_id 46 is none of the file's categories"),
    ({"category_id": "47"}, "category_id must be int, but is '47'"),
    ({"category_id": True}, "category_id must be int, but is True"),
    ({"segmentation": None}, "segmentation must be list or dict, but is None"),
    ({"segmentation": [[0, 0, 1]]}, "polygon"),
    ({"segmentation": [[0, 0, 1, float("nan"), 1, 1]]}, "finite|NaN|nan"),
    ({"segmentation": {"size": [3, 2], "counts": [1, 2]}}, "sum|6"),
    ({"segmentation": {"size": [3, 2], "counts": [1.5, 2, 2.5]}}, "counts"),
    ({"segmentation": {"size": [2, 3], "counts": [6]}}, r"size \(2, 3\) differs .* \(3, 2\)"),
    ({"segmentation": {"size": [3, 2], "counts": "x~"}}, "counts|character|compressed"),
    ({"iscrowd": 2}, "iscrowd must be 0 or 1, but is 2"),
    ({"attribute_ids": ["1"]}, "attribute_ids must be a list of whole numbers"),
    ({"attribute_ids": 1}, "attribute_ids must be a list of whole numbers"),
]


class TestFashionpediaFaults:
    @pytest.mark.parametrize(("changes", "reason"), FAULTY_ANNOTATIONS)
    def test_a_faulty_annotation_is_named_with_the_rule(self, folder, changes, reason):
        rows = [annotation(image_id=2), annotation(**changes)]
        path = coco(folder, annotations=rows)
        with pytest.raises(AnnotationError, match=reason) as caught:
            read_fashionpedia(path, folder)
        assert str(caught.value).startswith(f"{path}, annotation 2, image '1': ")
        records = read_fashionpedia(path, folder, on_error="skip")
        assert [record.image_id for record in records] == ["2"]
        assert [(f.row, f.image_id, f.kind) for f in records.skipped] == [(2, "1", "annotation")]

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            ({}, "an object with 'image_id' is needed"),
            (7, "an object with 'image_id' is needed, but this is 7"),
            (annotation(image_id=3), "must be the id of one of the file's images"),
            (annotation(image_id=1.0), r"image_id must be int or str, but is 1\.0"),
            (annotation(image_id=""), "image_id is empty"),
        ],
    )
    def test_an_annotation_without_its_image(self, folder, item, reason):
        path = coco(folder, annotations=[item])
        with pytest.raises(AnnotationError, match=reason):
            read_fashionpedia(path, folder)
        records = read_fashionpedia(path, folder, on_error="skip")
        assert len(records) == 2
        assert len(records.skipped) == 1

    @pytest.mark.parametrize(
        ("changes", "error", "reason"),
        [
            ({"height": -3}, AnnotationError, "height must be at least 1, but is -3"),
            ({"height": 3.0}, AnnotationError, r"height must be int, but is 3\.0"),
            ({"file_name": None}, AnnotationError, "file_name must be str, but is None"),
            ({"file_name": "absent.jpg"}, ImageError, r"absent\.jpg does not exist"),
            ({"height": 2, "width": 3}, ImageError, r"has the size \(3, 2\) .* says \(2, 3\)"),
            ({"id": 2}, AnnotationError, "must occur once"),
        ],
    )
    def test_a_faulty_image(self, folder, changes, error, reason):
        good = {"id": 2, "height": 3, "width": 2, "file_name": "b.jpg"}
        faulty = {"id": 1, "height": 3, "width": 2, "file_name": "a.jpg"} | changes
        path = coco(folder, images=[good, faulty])
        with pytest.raises(error, match=reason) as caught:
            read_fashionpedia(path, folder)
        assert f"{path}, image 2, image " in str(caught.value)
        if changes != {"id": 2}:
            records = read_fashionpedia(path, folder, on_error="skip")
            assert [record.image_id for record in records] == ["2"]
            assert {fault.image_id for fault in records.skipped} == {"1"}

    @pytest.mark.parametrize(
        ("categories", "reason"),
        [
            ([{"id": 1}], "category 1: an object with 'name' is needed"),
            ([{"id": -1, "name": "a"}], "category 1: id must be at least 0"),
            ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category 2: id 1 must occur once"),
        ],
    )
    def test_faulty_categories(self, folder, categories, reason):
        path = coco(folder, categories=categories)
        with pytest.raises(AnnotationError, match=reason):
            read_fashionpedia(path, folder, on_error="skip")

    def test_categories_must_agree_with_a_given_taxonomy(self, folder):
        path = coco(folder)
        own = Taxonomy("own", (Category(0, "shirt"), Category(47, "tassel")))
        assert len(read_fashionpedia(path, folder, taxonomy=own)) == 2
        with pytest.raises(AnnotationError, match="id 0 is 'shirt' here, but 'shirt, blouse' in"):
            read_fashionpedia(path, folder, taxonomy=FASHIONPEDIA)
        with pytest.raises(AnnotationError, match=r"annotation 1, .* no category with id 47"):
            read_fashionpedia(path, folder, taxonomy=Taxonomy("less", (Category(0, "shirt"),)))

    @pytest.mark.parametrize("key", ["images", "annotations", "categories"])
    def test_a_missing_list(self, folder, key):
        path = coco(folder)
        content = json.loads(path.read_text())
        content["annotations"] = []
        del content[key]
        path.write_text(json.dumps(content))
        with pytest.raises(AnnotationError, match=f"the lists {key} are missing"):
            read_fashionpedia(path, folder)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "the file is empty"),
            ("[1]", r"not valid JSON at character 1: expected '\{', found '\['"),
            ('{"images": 3}', r"character 12: expected '\[', found '3'"),
            ('{"annotations": [1 2]}', r"character 20: expected ',' or '\]', found '2'"),
            ('{"images": [], "images": []}', "key 'images' .* occurs twice"),
            ('{"info": {}} tail', "character 14: nothing may follow"),
            ('{"info": {"a": [1, }}', "not valid JSON at character 20"),
            ('{"info": "unended', "not valid JSON"),
            ('{"info": {}', "expected ',' or '}', found end"),
            ("{1: 2}", "key 1 is no text"),
            ('{"info": ' + "[" * 100_000, "not valid JSON"),
            ('{"info": ' + "9" * 5000 + "}", "not valid JSON"),
            ('{"info": "\udce9"}', "UTF-8"),
        ],
    )
    def test_damaged_json(self, folder, text, reason):
        path = folder / "damaged.json"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(AnnotationError, match=reason) as caught:
            read_fashionpedia(path, folder)
        assert str(path) in str(caught.value)

    def test_a_file_that_was_cut_off(self, folder):
        path = coco(folder)
        whole = path.read_bytes()
        for end in range(len(whole)):
            path.write_bytes(whole[:end])
            with pytest.raises(AnnotationError):
                read_fashionpedia(path, folder)


class TestImageAnnotation:
    def test_the_parts_must_agree(self, folder):
        with pytest.raises(
            AnnotationError, match="'a' has 1 regions, but 2 entries in category_ids"
        ):
            one_pixel(folder, category_ids=(1, 2))
        with pytest.raises(AnnotationError, match="entries in crowd"):
            one_pixel(folder, crowd=(True, False))
        with pytest.raises(
            AnnotationError, match=r"size \(3, 3\), .* regions\[0\] has size \(3, 2"
        ):
            one_pixel(folder, size=(3, 3))

    def test_equality_and_hash(self, folder):
        assert one_pixel(folder) == one_pixel(folder)
        assert hash(one_pixel(folder)) == hash(one_pixel(folder))
        assert one_pixel(folder) != one_pixel(folder, category_ids=(5,))


class TestToLabels:
    def record(self, folder, *parts):
        regions = tuple(RunLengthMask.from_kaggle(text, (3, 2)) for text, _ in parts)
        ids = tuple(category_id for _, category_id in parts)
        return ImageAnnotation("a", folder / "a.jpg", (3, 2), regions, ids)

    def test_transparent_shows_what_lies_beneath(self, folder):
        coat, pocket = IMATERIALIST_2020.index("coat"), IMATERIALIST_2020.index("pocket")
        record = self.record(folder, ("1 3", coat), ("2 3", pocket))
        labels = record.to_labels(IMATERIALIST_TO_MAIN)
        assert labels.tolist() == [[3, 0], [3, 0], [3, 0]]
        assert labels.dtype == np.uint8

    def test_overlap_follows_the_map(self, folder):
        dress, belt, shirt = (
            IMATERIALIST_2020.index(n) for n in ("dress", "belt", "shirt, blouse")
        )
        record = self.record(folder, ("2 2", belt), ("1 6", dress), ("3 3", shirt))
        last = record.to_labels(IMATERIALIST_TO_MAIN)
        assert last.T.tolist() == [[3, 3, 1], [1, 1, 3]]
        maximum = record.to_labels(dataclasses.replace(IMATERIALIST_TO_MAIN, overlap="maximum"))
        assert maximum.T.tolist() == [[3, 5, 5], [3, 3, 3]]
        smallest = record.to_labels(dataclasses.replace(IMATERIALIST_TO_MAIN, overlap="smallest"))
        assert smallest.T.tolist() == [[3, 5, 5], [1, 1, 3]]

    def test_the_notebook_lets_background_lie_below(self, folder):
        cape, coat = IMATERIALIST_2020.index("cape"), IMATERIALIST_2020.index("coat")
        record = self.record(folder, ("1 3", coat), ("1 6", cape))
        assert record.to_labels(IMATERIALIST_TO_MAIN_NOTEBOOK).T.tolist() == [[3] * 3, [0] * 3]

    def test_another_output_size(self, folder):
        record = self.record(folder, ("1 3", 9))
        assert record.to_labels(IMATERIALIST_TO_MAIN, output_size=(1, 4)).tolist() == [[3, 3, 0, 0]]

    def test_without_regions_all_is_background(self, folder):
        assert self.record(folder).to_labels(IMATERIALIST_TO_MAIN).tolist() == [[0, 0]] * 3

    def test_an_unknown_category_names_the_image(self, folder):
        record = self.record(folder, ("1 3", 46))
        with pytest.raises(TaxonomyError, match=r"image 'a': .* no category with id 46"):
            record.to_labels(IMATERIALIST_TO_MAIN)

    def test_real_rows_do_not_overlap_so_every_rule_agrees(self):
        for record in samples.load():
            assert (
                sum(r.area for r in record.regions)
                == RunLengthMask(record.size, [], []).union(*record.regions).area
            )
            last = record.to_labels(CCP_TO_MAIN)
            by_pixel = np.zeros(record.size, int)
            for region, category_id in zip(record.regions, record.category_ids, strict=True):
                by_pixel[region.to_mask()] = category_id
            np.testing.assert_array_equal(last, CCP_TO_MAIN.apply(by_pixel))


class TestAnnotationSet:
    def test_is_a_sequence(self, folder):
        records = AnnotationSet([one_pixel(folder), one_pixel(folder, "b")])
        assert [r.image_id for r in records] == ["a", "b"]
        assert records[1].image_id == "b"
        assert isinstance(records[:1], AnnotationSet)
        assert len(records[:1]) == 1
        assert records[0] in records
        assert records == AnnotationSet(tuple(records))

    def test_a_skipped_record_reads_like_the_error(self, folder):
        path = csv(folder, "a,9 9,3,2,4,")
        with pytest.raises(AnnotationError) as caught:
            read_imaterialist(path, folder)
        (fault,) = read_imaterialist(path, folder, on_error="skip").skipped
        assert isinstance(fault, SkippedRecord)
        assert str(fault) == str(caught.value)


class TestSplit:
    def records(self, folder, number):
        return [one_pixel(folder, f"{i:04}") for i in range(number)]

    def test_sizes_and_order(self, folder):
        records = self.records(folder, 10)
        training, validation, test = split(records, (0.7, 0.2, 0.1), seed=5)
        assert [len(training), len(validation), len(test)] == [7, 2, 1]
        assert [*training] == [record for record in records if record in training]
        assert {r.image_id for part in (training, validation, test) for r in part} == {
            r.image_id for r in records
        }

    def test_a_known_split_stays_as_it_is(self, folder):
        _, validation = split(self.records(folder, 8), (0.75, 0.25), seed=0)
        assert [r.image_id for r in validation] == ["0003", "0006"]

    def test_the_order_of_records_does_not_matter(self, folder):
        records = self.records(folder, 30)
        one = {r.image_id for r in split(records, (0.5, 0.5), 1)[0]}
        assert one == {r.image_id for r in split(records[::-1], (0.5, 0.5), 1)[0]}
        assert one != {r.image_id for r in split(records, (0.5, 0.5), 2)[0]}

    def test_records_of_one_photo_stay_together(self, folder):
        records = self.records(folder, 10) * 3
        one, other = split(records, (0.5, 0.5), 1)
        assert len(one) == len(other) == 15
        assert not {r.image_id for r in one} & {r.image_id for r in other}

    @pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.6), (1.5, -0.5), (1.0, 0.0)])
    def test_fractions_are_checked(self, folder, fractions):
        with pytest.raises(ValueError, match="fractions must be above 0 and sum up to 1"):
            split(self.records(folder, 4), fractions, 0)


class TestWriters:
    def test_imaterialist_round_trip_is_exact(self, tmp_path):
        records = samples.load()
        write_imaterialist(tmp_path / "a.csv", records)
        assert read_imaterialist(tmp_path / "a.csv", samples.photo().parent) == records
        assert (tmp_path / "a.csv").read_bytes() == samples.annotations_path().read_bytes()

    def test_imaterialist_keeps_attributes_and_text_that_needs_quotes(self, folder):
        Image.new("RGB", (2, 3)).save(folder / "a,b.jpg")
        record = one_pixel(folder, "a,b", attribute_ids=((3, 141),))
        write_imaterialist(folder / "out.csv", [record])
        assert list(read_imaterialist(folder / "out.csv", folder)) == [record]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"regions": (), "category_ids": ()}, "0 regions"),
            ({"crowd": (True,)}, "1 crowd flags"),
            ({"image_id": 'a"b'}, "ImageId must be text without quotes"),
            ({"image_id": ""}, "ImageId must be text"),
        ],
    )
    def test_what_the_csv_cannot_hold_is_refused(self, folder, changes, reason):
        path = folder / "out.csv"
        path.write_text("old")
        with pytest.raises(AnnotationError, match=reason):
            write_imaterialist(
                path, [one_pixel(folder), one_pixel(folder, **{"image_id": "b"} | changes)]
            )
        assert path.read_text() == "old"
        assert sorted(p.name for p in folder.iterdir()) == ["a.jpg", "b.jpg", "out.csv"]

    def test_the_same_photo_twice_is_refused(self, folder):
        with pytest.raises(AnnotationError, match="'a' must occur once"):
            write_imaterialist(folder / "out.csv", [one_pixel(folder)] * 2)
        with pytest.raises(AnnotationError, match="'a' must occur once"):
            write_fashionpedia(folder / "out.json", [one_pixel(folder)] * 2, IMATERIALIST_2020)

    def test_submission_round_trip(self, tmp_path):
        records = samples.load()
        write_submission(tmp_path / "s.csv", records)
        back = read_imaterialist(tmp_path / "s.csv", samples.photo().parent, sizes="photos")
        assert back == records

    def test_submission_by_hand(self, folder):
        rows = [
            {"ImageId": "a", "EncodedPixels": "1 2 4 1", "ClassId": 3, "Height": 3, "Width": 2},
            {
                "ImageId": "b",
                "EncodedPixels": RunLengthMask((3, 2), [1], [2]),
                "ClassId": "23",
                "AttributesIds": [7, 9],
            },
            one_pixel(folder),
        ]
        write_submission(folder / "s.csv", iter(rows))
        assert (folder / "s.csv").read_text() == (
            'ImageId,EncodedPixels,ClassId,AttributesIds\na,1 2 4 1,3,\nb,2 2,23,"7,9"\na,1 1,4,\n'
        )

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"EncodedPixels": "1 2 3"}, "row 2: "),
            ({"EncodedPixels": None}, "row 2: "),
            ({"ClassId": -1}, "row 2: ClassId must be a whole number of at least 0, but is '-1'"),
            ({"ClassId": 1.5}, "row 2: ClassId"),
            ({"AttributesIds": "1;2"}, "row 2: an attribute"),
            ({"ImageId": "a\nb"}, "row 2: ImageId must be text without quotes, line breaks"),
        ],
    )
    def test_a_faulty_submission_row_leaves_no_file(self, folder, changes, reason):
        good = {"ImageId": "a", "EncodedPixels": "1 2", "ClassId": 3}
        with pytest.raises(AnnotationError, match=reason):
            write_submission(folder / "s.csv", [good, good | changes])
        assert sorted(p.name for p in folder.iterdir()) == ["a.jpg", "b.jpg"]

    def test_a_missing_column_is_named(self, folder):
        with pytest.raises(AnnotationError, match="row 1: column 'ClassId' is missing"):
            write_submission(folder / "s.csv", [{"ImageId": "a", "EncodedPixels": "1 2"}])
        with pytest.raises(TypeError, match="row 1 is 'a,1 2,3'"):
            write_submission(folder / "s.csv", ["a,1 2,3"])

    @pytest.mark.parametrize("compressed", [True, False])
    def test_coco_results_round_trip(self, tmp_path, compressed):
        records = samples.load()
        write_coco(tmp_path / "r.json", records, compressed=compressed)
        items = json.loads((tmp_path / "r.json").read_text())
        regions = [region for record in records for region in record.regions]
        assert [RunLengthMask.from_coco(item["segmentation"]) for item in items] == regions
        assert [item["category_id"] for item in items] == [
            category_id for record in records for category_id in record.category_ids
        ]
        assert {item["image_id"] for item in items} == {record.image_id for record in records}

    def test_pycocotools_takes_the_data_set_and_the_results(self, tmp_path, capsys):
        records = [
            dataclasses.replace(record, image_id=str(number))
            for number, record in enumerate(samples.load(), start=1)
        ]
        write_fashionpedia(tmp_path / "d.json", records, CCP)
        write_coco(tmp_path / "r.json", records)
        data_set = COCO(tmp_path / "d.json")
        results = data_set.loadRes(str(tmp_path / "r.json"))
        assert len(results.anns) == sum(len(record.regions) for record in records)
        for annotation_id, row in results.anns.items():
            theirs = data_set.anns[annotation_id]
            np.testing.assert_array_equal(results.annToMask(row), data_set.annToMask(theirs))
            np.testing.assert_allclose(row["bbox"], theirs["bbox"])
            assert row["area"] == theirs["area"]

    def test_coco_by_hand(self, folder):
        region = RunLengthMask((3, 2), [1], [2])
        row = {"image_id": np.int64(12), "category_id": np.uint8(3), "score": np.float32(0.5)}
        write_coco(
            folder / "r.json",
            [row | {"segmentation": region}, row | {"segmentation": region.to_coco()}],
            compressed=False,
        )
        expected = {
            "image_id": 12,
            "category_id": 3,
            "segmentation": {"size": [3, 2], "counts": [1, 2, 3]},
            "score": 0.5,
        }
        assert json.loads((folder / "r.json").read_text()) == [expected, expected]
        write_coco(folder / "r.json", [])
        assert json.loads((folder / "r.json").read_text()) == []

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"score": float("nan")}, "row 1: score must be finite"),
            ({"score": "high"}, "row 1: .*high"),
            ({"segmentation": [[0, 0, 1, 1]]}, "row 1: "),
            ({"category_id": None}, "row 1: category_id must be a whole number"),
        ],
    )
    def test_a_faulty_result_leaves_the_old_file(self, folder, changes, reason):
        path = folder / "r.json"
        path.write_text("old")
        row = {"image_id": 1, "category_id": 2, "segmentation": RunLengthMask((3, 2), [], [])}
        with pytest.raises(AnnotationError, match=reason):
            write_coco(path, [row | changes])
        with pytest.raises(AnnotationError, match="row 2: key 'category_id' is missing"):
            write_coco(path, [row, {key: row[key] for key in ("image_id", "segmentation")}])
        assert path.read_text() == "old"

    def test_fashionpedia_round_trip_is_exact(self, shared, tmp_path):
        path = shared / "data/fashionpedia/sample.json"
        records = read_fashionpedia(path, path.parent)
        write_fashionpedia(tmp_path / "f.json", records, FASHIONPEDIA)
        assert read_fashionpedia(tmp_path / "f.json", path.parent) == records
        assert Taxonomy.from_json(tmp_path / "f.json", name="Fashionpedia") == FASHIONPEDIA

    def test_fashionpedia_keeps_crowds_and_photos_without_regions(self, folder):
        records = AnnotationSet(
            [
                one_pixel(folder, crowd=(True,), attribute_ids=((1, 2),)),
                one_pixel(folder, "b", regions=(), category_ids=()),
            ]
        )
        write_fashionpedia(folder / "f.json", records, IMATERIALIST_2020)
        assert read_fashionpedia(folder / "f.json", folder) == records

    def test_fashionpedia_refuses_an_unknown_category(self, folder):
        record = one_pixel(folder, category_ids=(46,))
        with pytest.raises(TaxonomyError, match="no category with id 46"):
            write_fashionpedia(folder / "f.json", [record], IMATERIALIST_2020)
        assert not (folder / "f.json").exists()


def test_a_map_of_one_class_serves_a_whole_file():
    bags = LabelMap.from_names({"bag": ["bag", "purse"]}, taxonomy=CCP)
    areas = [int((record.to_labels(bags) == 1).sum()) for record in samples.load()]
    expected = [
        sum(
            region.area
            for region, category_id in zip(record.regions, record.category_ids, strict=True)
            if CCP.names[category_id] in ("bag", "purse")
        )
        for record in samples.load()
    ]
    assert areas == expected
    assert any(areas)


def test_paths_may_be_text(folder):
    path = csv(folder, "a,1 1,3,2,4,")
    assert read_imaterialist(str(path), str(folder)) == read_imaterialist(path, folder)
    assert isinstance(read_imaterialist(str(path), str(folder))[0].path, Path)
