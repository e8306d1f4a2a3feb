"""Taxonomies and the maps between them, against the data sets' own files and by hand."""

import dataclasses
import inspect
import json
import pickle

import numpy as np
import pytest

from deeplab_fashion.errors import TaxonomyError
from deeplab_fashion.scores import confusion_matrix
from deeplab_fashion.taxonomy import (
    CCP,
    CCP_TO_MAIN,
    FASHIONPEDIA,
    FASHIONPEDIA_TO_MAIN,
    IMATERIALIST_2020,
    IMATERIALIST_TO_MAIN,
    IMATERIALIST_TO_MAIN_NOTEBOOK,
    MAIN_CLASSES,
    Category,
    LabelMap,
    Taxonomy,
)

TINY = Taxonomy(
    "tiny",
    (
        Category(2, "coat", "body"),
        Category(3, "pocket", "parts"),
        Category(5, "hat", "head"),
        Category(6, "scarf", "head"),
    ),
)
TINY_MAP = LabelMap.from_names(
    {"body": ["coat"], "head": ["hat", "scarf"]}, taxonomy=TINY, transparent=["pocket"]
)


class TestTaxonomy:
    def test_imaterialist_agrees_with_its_own_description_file(self, shared):
        path = shared / "data/fashionpedia/category_attributes_descriptions.json"
        assert Taxonomy.from_json(path, name="iMaterialist 2020") == IMATERIALIST_2020

    def test_fashionpedia_agrees_with_a_real_annotation_file(self, shared):
        path = shared / "data/fashionpedia/sample.json"
        assert Taxonomy.from_json(path, name="Fashionpedia") == FASHIONPEDIA

    def test_ccp_agrees_with_its_own_description_file(self, shared):
        path = shared / "data/ccp/label_descriptions.json"
        assert Taxonomy.from_json(path, name="CCP") == CCP

    def test_imaterialist_is_fashionpedia_without_two(self):
        kept = [c for c in FASHIONPEDIA if c.name not in ("earmuffs", "garment belt")]
        assert [c.name for c in kept] == list(IMATERIALIST_2020.names)
        assert [c.supercategory for c in kept] == [c.supercategory for c in IMATERIALIST_2020]
        assert IMATERIALIST_2020.ids == tuple(range(46))

    @pytest.mark.parametrize(
        ("category_id", "name", "supercategory"),
        [
            (0, "shirt, blouse", "upperbody"),
            (14, "hat", "head"),
            (20, "leg warmer", "legs and feet"),
            (24, "bag, wallet", "others"),
            (34, "buckle", "closures"),
            (37, "bead", "decorations"),
            (45, "tassel", "decorations"),
        ],
    )
    def test_known_categories(self, category_id, name, supercategory):
        assert IMATERIALIST_2020.category(category_id) == Category(category_id, name, supercategory)
        assert IMATERIALIST_2020.index(name) == category_id

    def test_views_agree_with_each_other(self):
        assert len(TINY) == 4
        assert [c.name for c in TINY] == list(TINY.names) == ["coat", "pocket", "hat", "scarf"]
        assert TINY.supercategories == ("body", "parts", "head")
        assert TINY.index("hat") == 2
        assert TINY.category(5).name == "hat"
        assert len(IMATERIALIST_2020.supercategories) == 12
        assert CCP.supercategories == ()

    def test_a_repeated_id_or_name_is_refused(self):
        with pytest.raises(TaxonomyError, match="'t' has id 1 twice: 'a' and 'b'"):
            Taxonomy("t", (Category(1, "a"), Category(1, "b")))
        with pytest.raises(TaxonomyError, match="'t' has the name 'a' twice: ids 1 and 2"):
            Taxonomy("t", (Category(1, "a"), Category(2, "a")))

    @pytest.mark.parametrize("categories", [["coat"], {1: "coat"}, [(1, "coat")]])
    def test_what_is_no_category_is_refused(self, categories):
        with pytest.raises(TypeError, match=r"must be Category objects, such as Category\(1"):
            Taxonomy("t", categories)

    def test_unknown_names_and_ids_are_named_with_the_nearest(self):
        with pytest.raises(TaxonomyError, match="no category 'dres'; did you mean 'dress'"):
            IMATERIALIST_2020.index("dres")
        with pytest.raises(TaxonomyError, match="'shirt'; did you mean 'shirt, blouse'"):
            IMATERIALIST_2020.index("shirt")
        with pytest.raises(TaxonomyError, match=r"no category 'qqqq'$"):
            IMATERIALIST_2020.index("qqqq")
        with pytest.raises(TaxonomyError, match=r"no category with id 46; .* between 0 and 45"):
            IMATERIALIST_2020.category(46)
        with pytest.raises(TaxonomyError, match="has no categories"):
            Taxonomy("none", ()).category(0)

    @pytest.mark.parametrize("wrong", ["3", 1.0, True, None])
    def test_an_id_is_an_integer(self, wrong):
        with pytest.raises(TypeError, match="id must be an int"):
            Category(wrong, "a")

    def test_an_id_of_numpy_becomes_a_plain_int(self):
        assert type(Category(np.int64(3), "a").id) is int

    def test_a_negative_id_or_an_empty_name_is_refused(self):
        with pytest.raises(TaxonomyError, match="id -1"):
            Category(-1, "a")
        with pytest.raises(TaxonomyError, match="name ''"):
            Category(1, "")


class TestTaxonomyJson:
    def test_round_trip_through_text_and_file(self, tmp_path):
        path = tmp_path / "t.json"
        assert Taxonomy.from_json(TINY.to_json(path)) == TINY
        assert Taxonomy.from_json(path) == TINY
        assert json.loads(path.read_text())["categories"][0] == {
            "id": 2,
            "name": "coat",
            "supercategory": "body",
        }

    def test_the_name_comes_from_the_file_name_where_none_is_given(self, tmp_path):
        path = tmp_path / "garments.json"
        path.write_text('\ufeff{"categories": [{"id": 4, "name": "hat"}], "attributes": [1]}')
        assert Taxonomy.from_json(path) == Taxonomy("garments", (Category(4, "hat"),))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("{", "not valid JSON"),
            ("[]", "JSON object is needed"),
            ("{}", "list named 'categories'"),
            ('{"categories": {}}', "list named 'categories'"),
            ('{"categories": [{"id": 1}]}', r"categories\[0\] .*'name'"),
            ('{"categories": [{"id": 1, "name": "a"}, 7]}', r"categories\[1\] .*7"),
            ('{"categories": [{"id": "1", "name": "a"}]}', "must be an int"),
            ('{"categories": [{"id": 1, "name": 2}]}', "must be str"),
            ('{"categories": [{"id": 1, "id": 2, "name": "a"}]}', "'id' must occur once"),
            ('{"categories": [{"id": 1, "name": "a", "name": "b"}]}', "'name' must occur once"),
            ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "id 1 twice"),
            ('{"a":' * 100_000, "not valid JSON"),
        ],
    )
    def test_a_faulty_file_is_named_with_the_rule(self, tmp_path, text, reason):
        path = tmp_path / "faulty.json"
        path.write_text(text)
        with pytest.raises(TaxonomyError, match=reason) as caught:
            Taxonomy.from_json(path)
        assert str(path) in str(caught.value)

    def test_bytes_that_are_not_utf8_are_refused(self, tmp_path):
        path = tmp_path / "latin.json"
        path.write_bytes(b'{"categories": [{"id": 1, "name": "caf\xe9"}]}')
        with pytest.raises(TaxonomyError, match="UTF-8"):
            Taxonomy.from_json(path)

    def test_a_missing_file_stays_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"absent\.json"):
            Taxonomy.from_json(tmp_path / "absent.json")


class TestShippedMaps:
    @pytest.mark.parametrize(
        "label_map",
        [
            IMATERIALIST_TO_MAIN,
            IMATERIALIST_TO_MAIN_NOTEBOOK,
            FASHIONPEDIA_TO_MAIN,
            CCP_TO_MAIN,
        ],
    )
    def test_targets_are_the_main_classes(self, label_map):
        assert label_map.target_names == MAIN_CLASSES
        assert label_map.num_classes == 6

    def test_default_map(self):
        expected = [1] * 6 + [2] * 3 + [3] * 4 + [5] * 7 + [4, 2, 4, 4] + [5] * 3 + [None] * 19
        assert [IMATERIALIST_TO_MAIN.label_of(i) for i in range(46)] == expected
        assert IMATERIALIST_TO_MAIN.overlap == "last"

    def test_notebook_map(self):
        lists = {
            1: [0, 1, 2, 3, 4, 5],
            2: [6, 7, 8],
            3: [9, 10, 11],
            4: [20, 22, 23],
            5: [13, 14, 15, 16, 17, 18, 19, 24, 25, 26, 34, 37],
        }
        label_of = {i: label for label, ids in lists.items() for i in ids}
        for i in range(46):
            assert IMATERIALIST_TO_MAIN_NOTEBOOK.label_of(i) == label_of.get(i, 0)
        assert IMATERIALIST_TO_MAIN_NOTEBOOK.overlap == "maximum"

    def test_fashionpedia_map_agrees_with_the_default_by_name(self):
        for category in IMATERIALIST_2020:
            own_id = FASHIONPEDIA.ids[FASHIONPEDIA.index(category.name)]
            assert FASHIONPEDIA_TO_MAIN.label_of(own_id) == IMATERIALIST_TO_MAIN.label_of(
                category.id
            )
        assert FASHIONPEDIA_TO_MAIN.label_of(14) == MAIN_CLASSES.index("accessories")
        assert FASHIONPEDIA_TO_MAIN.label_of(33) is None

    def test_ccp_map(self, shared):
        rows = (shared / "data/README.md").read_text().splitlines()
        table = [line.strip("|").split("|") for line in rows if line.startswith("|")]
        found = {}
        for cells in table:
            if cells[0].strip() in MAIN_CLASSES:
                for tag in cells[1].replace("(here always the jacket)", "").split(","):
                    found[tag.strip()] = MAIN_CLASSES.index(cells[0].strip())
        assert found == {tag.name: CCP_TO_MAIN.label_of(tag.id) for tag in CCP}


class TestLabelMap:
    def test_label_of(self):
        assert [TINY_MAP.label_of(i) for i in (2, 3, 5, 6)] == [1, None, 2, 2]
        with pytest.raises(TaxonomyError, match="'tiny' has no category with id 4"):
            TINY_MAP.label_of(4)

    def test_equal_maps_are_equal_and_hash_equal(self):
        other = LabelMap.from_names(
            {"body": ["coat"], "head": ["scarf", "hat"]}, taxonomy=TINY, transparent=["pocket"]
        )
        assert other == TINY_MAP
        assert hash(other) == hash(TINY_MAP)
        assert pickle.loads(pickle.dumps(TINY_MAP)) == TINY_MAP
        assert dataclasses.replace(TINY_MAP, overlap="smallest") != TINY_MAP

    def test_both_ways_of_naming_give_the_same_map(self):
        assert (
            LabelMap.from_names(
                {"coat": "body", "hat": "head", "scarf": "head"},
                taxonomy=TINY,
                transparent=["pocket"],
            )
            == TINY_MAP
        )

    def test_what_becomes_of_the_rest(self):
        def targets(rest):
            return LabelMap.from_names({"head": ["hat"]}, taxonomy=TINY, rest=rest).targets

        assert targets("background") == (0, 0, 1, 0)
        assert targets("transparent") == (None, None, 1, None)
        with pytest.raises(TaxonomyError, match="no class is given for 'coat', 'pocket', 'scarf'"):
            targets("error")
        with pytest.raises(TaxonomyError, match="rest must be"):
            targets("nothing")

    def test_background_can_be_named_anywhere(self):
        label_map = LabelMap.from_names({"head": ["hat"], "background": ["coat"]}, taxonomy=TINY)
        assert label_map.target_names == ("background", "head")
        assert label_map.label_of(2) == 0

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({"classes": {"a": ["scraf"]}}, "no category 'scraf'; did you mean 'scarf'"),
            (
                {"classes": {"a": ["hat"], "b": ["hat"]}},
                "'hat' is assigned twice: to class 'a' and class 'b'",
            ),
            ({"classes": {"a": ["hat", "hat"]}}, "'hat' is assigned twice"),
            (
                {"classes": {"a": ["hat"]}, "transparent": ["hat"]},
                "'hat' is assigned twice: to class 'a' and transparent",
            ),
            ({"classes": {"a": ["hat"]}, "overlap": "first"}, "overlap must be one of"),
        ],
    )
    def test_faulty_names_are_named(self, arguments, reason):
        with pytest.raises(TaxonomyError, match=reason):
            LabelMap.from_names(taxonomy=TINY, **arguments)

    def test_the_default_taxonomy_is_told_to_who_has_another(self):
        with pytest.raises(TaxonomyError, match=r"'iMaterialist 2020'.*own need taxonomy"):
            LabelMap.from_names({"trousers": ["trousers"]})
        with pytest.raises(TaxonomyError, match=r"'tiny' has no category 'trousers'$"):
            LabelMap.from_names({"trousers": ["trousers"]}, taxonomy=TINY)

    def test_what_is_no_mapping_is_refused(self):
        with pytest.raises(TypeError, match=r"classes must map .* but is \['shirt', 'bag'\]"):
            LabelMap.from_names(["shirt", "bag"])

    def test_mixing_both_ways_is_refused(self):
        with pytest.raises(TypeError, match="class 'hat' needs a list of names, but has 'head'"):
            LabelMap.from_names({"hat": "head", "body": ["coat"]}, taxonomy=TINY)

    def test_constructor_checks_its_targets(self):
        def build(names=("background", "a"), targets=(0, 1, None, 1)):
            return LabelMap(TINY, names, targets)

        assert build().num_classes == 2
        with pytest.raises(TaxonomyError, match="one entry for each of the 4"):
            build(targets=(0, 1))
        with pytest.raises(TaxonomyError, match="'coat' must go to a label from 0 to 1"):
            build(targets=(2, 0, 0, 0))
        with pytest.raises(TaxonomyError, match="'hat' must go to a label from 0 to 3 or to None"):
            build(names=("background", "a", "b", "c"), targets=(0, 3, 4, 0))
        with pytest.raises(TypeError, match="label of 'coat' must be an int"):
            build(targets=("a", 0, 0, 0))
        with pytest.raises(TaxonomyError, match="begin with 'background'"):
            build(names=("a", "background"))
        with pytest.raises(TaxonomyError, match="each class once"):
            build(names=("background", "a", "a"))

    def test_by_supercategory(self):
        every = LabelMap.by_supercategory(taxonomy=TINY, transparent=["parts"])
        assert every.target_names == ("background", "body", "head")
        assert every == TINY_MAP
        label_map = LabelMap.by_supercategory(
            {"clothes": ["body", "head"]},
            taxonomy=TINY,
            exceptions={"scarf": None, "hat": "background"},
        )
        assert label_map.targets == (1, 0, 0, None)
        assert LabelMap.by_supercategory().num_classes == 13

    def test_by_supercategory_names_its_faults(self):
        with pytest.raises(TaxonomyError, match="no category 'upper'; did you mean 'upperbody'"):
            LabelMap.by_supercategory({"a": ["upper"]})
        with pytest.raises(TaxonomyError, match="assigned twice"):
            LabelMap.by_supercategory({"a": ["head"], "b": ["head"]})
        with pytest.raises(TaxonomyError, match="unknown class 'cloth'; did you mean 'clothes'"):
            LabelMap.by_supercategory({"clothes": ["head"]}, exceptions={"hat": "cloth"})
        with pytest.raises(TaxonomyError, match="no category 'hats'; did you mean 'hat'"):
            LabelMap.by_supercategory({"clothes": ["head"]}, exceptions={"hats": "clothes"})

    def test_categories_without_group_follow_rest(self):
        taxonomy = Taxonomy("t", (Category(0, "a", "g"), Category(1, "b")))
        by = LabelMap.by_supercategory
        assert by({"x": ["g"]}, taxonomy=taxonomy).targets == (1, 0)
        assert by({"x": ["g"]}, taxonomy=taxonomy, rest="transparent").targets == (1, None)
        with pytest.raises(TaxonomyError, match="no super-category and no class is given for 'b'"):
            by({"x": ["g"]}, taxonomy=taxonomy, rest="error")


class TestLabelMapJson:
    @pytest.mark.parametrize(
        "label_map",
        [IMATERIALIST_TO_MAIN, IMATERIALIST_TO_MAIN_NOTEBOOK, FASHIONPEDIA_TO_MAIN, TINY_MAP],
    )
    def test_round_trip(self, label_map, tmp_path):
        assert LabelMap.from_json(label_map.to_json(tmp_path / "m.json")) == label_map
        assert LabelMap.from_json(tmp_path / "m.json") == label_map

    def test_a_map_written_by_hand(self):
        label_map = LabelMap.from_json(
            '{"taxonomy": "CCP", "classes": {"denim": ["jeans"]}, "rest": "transparent"}'
        )
        assert label_map.taxonomy == CCP
        assert label_map.label_of(CCP.index("jeans")) == 1
        assert label_map.label_of(CCP.index("coat")) is None

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"classes": {"a": ["hta"]}}', "no category 'hta'; did you mean 'hat'"),
            ('{"classes": {"a": ["hat"], "b": ["hat"]}}', "'hat' is assigned twice"),
            ('{"classes": {"hat": "a", "hat": "b"}}', "'hat' must occur once"),
            ('{"classes": {"a": 3}}', "class 'a' needs a list of names, but has 3"),
            ('{"classes": [1]}', "object named 'classes'"),
            ("{}", "object named 'classes'"),
            ('{"classes": {}, "overlapp": "last"}', "no key 'overlapp'"),
            ('{"classes": {}, "taxonomy": "DeepFashion"}', "one of iMaterialist 2020, Fashion"),
            ('{"classes": {}, "taxonomy": {"name": "x"}}', "list named 'categories'"),
        ],
    )
    def test_a_faulty_file_is_named_with_the_rule(self, tmp_path, text, reason):
        path = tmp_path / "faulty.json"
        path.write_text(text)
        with pytest.raises(TaxonomyError, match=reason) as caught:
            LabelMap.from_json(path)
        assert str(path) in str(caught.value)


class TestApply:
    def test_by_hand(self):
        result = TINY_MAP.apply([[2, 3], [6, 255]])
        assert result.tolist() == [[1, 255], [2, 255]]
        assert result.dtype == np.uint8

    def test_another_ignore_index(self):
        result = TINY_MAP.apply(np.array([2, 3, -1]), ignore_index=-1)
        assert result.tolist() == [1, -1, -1]
        assert result.dtype == np.int64

    def test_every_shape_and_integer_type(self):
        for dtype in (np.uint8, np.int16, np.uint64):
            assert TINY_MAP.apply(np.array([[[5]]], dtype)).tolist() == [[[2]]]
        assert TINY_MAP.apply(np.zeros((0, 4), int)).shape == (0, 4)
        assert TINY_MAP.apply([]).shape == (0,)

    @pytest.mark.parametrize("wrong", [0, 4, 7, -1, 254, 2**40])
    def test_an_unknown_id_is_named(self, wrong):
        with pytest.raises(TaxonomyError, match=f"no category with id {wrong};"):
            TINY_MAP.apply([2, wrong])

    def test_floats_are_refused(self):
        with pytest.raises(TypeError, match="whole numbers"):
            TINY_MAP.apply([2.0])


class TestCollapse:
    def test_by_hand(self):
        counts = np.zeros((7, 7), int)
        counts[2, [2, 3, 5]] = 10, 20, 30  # a coat: seen, called a pocket, called a hat
        counts[3, 2] = 40  # a pocket: its class is unknown
        counts[5, 6] = 50  # a hat called a scarf
        assert TINY_MAP.collapse(counts).tolist() == [[0, 0, 0], [20, 10, 30], [0, 0, 50]]

    def test_equals_counting_the_mapped_labels(self):
        random = np.random.default_rng(3)
        y_true, y_pred = random.integers(0, 46, (2, 5000))
        fine = confusion_matrix(y_true, y_pred, 46)
        predicted = IMATERIALIST_TO_MAIN.apply(y_pred)
        predicted[predicted == 255] = 0
        coarse = confusion_matrix(
            IMATERIALIST_TO_MAIN.apply(y_true), predicted, 6, ignore_index=255
        )
        collapsed = IMATERIALIST_TO_MAIN.collapse(fine)
        assert collapsed.dtype == np.int64
        np.testing.assert_array_equal(collapsed, coarse)

    def test_counts_of_a_finer_map(self):
        fine = LabelMap.from_names(
            {"hat": ["hat"], "scarf": ["scarf"], "coat": ["coat"]},
            taxonomy=TINY,
            transparent=["pocket"],
        )
        counts = np.arange(16).reshape(4, 4)
        by_hand = [
            [0, 3, 1 + 2],
            [12, 15, 13 + 14],
            [4 + 8, 7 + 11, 5 + 6 + 9 + 10],
        ]
        assert TINY_MAP.collapse(counts, fine=fine).tolist() == by_hand

    def test_a_finer_map_must_be_finer(self):
        across = LabelMap.from_names({"all": ["coat", "hat"]}, taxonomy=TINY)
        with pytest.raises(TaxonomyError, match=r"'all' of fine must lie within one class.*'hat'"):
            TINY_MAP.collapse(np.zeros((2, 2), int), fine=across)
        losing = LabelMap.from_names({"hat": ["hat"]}, taxonomy=TINY)
        with pytest.raises(TaxonomyError, match=r"'background' of fine .*'coat'"):
            TINY_MAP.collapse(np.zeros((2, 2), int), fine=losing)
        with pytest.raises(TaxonomyError, match="must map the taxonomy 'tiny'"):
            TINY_MAP.collapse(np.zeros((6, 6), int), fine=CCP_TO_MAIN)

    def test_a_taxonomy_of_nothing_has_no_counts(self):
        nothing = LabelMap(Taxonomy("nothing", ()), ("background",), ())
        assert nothing.collapse(np.zeros((0, 0), int)).tolist() == [[0]]

    def test_large_counts_stay_exact(self):
        counts = np.zeros((7, 7), np.int64)
        counts[5, 5] = 2**53 + 1
        assert TINY_MAP.collapse(counts)[2, 2] == 2**53 + 1

    @pytest.mark.parametrize(
        ("counts", "error", "reason"),
        [
            (np.zeros((6, 6), int), TaxonomyError, r"shape \(7, 7\).*\(6, 6\)"),
            (np.zeros((7, 7)), TypeError, "whole numbers"),
            (-np.ones((7, 7), int), TaxonomyError, "negative"),
            (np.ones((7, 7), int), TaxonomyError, "row or column 0 does"),
            (np.diag([0, 0, 1, 0, 1, 0, 0]), TaxonomyError, "row or column 4 does"),
            (
                np.outer([0, 0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 1, 0]),
                TaxonomyError,
                "column 4 does",
            ),
            (
                np.outer([0, 0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 1, 0]),
                TaxonomyError,
                "column 4 does",
            ),
        ],
    )
    def test_faulty_counts(self, counts, error, reason):
        with pytest.raises(error, match=reason):
            TINY_MAP.collapse(counts)


@pytest.mark.parametrize(
    ("function", "by_place", "by_name"),
    [
        (Taxonomy.from_json, "path", "name"),
        (LabelMap.collapse, "self confusion", "fine"),
        (LabelMap.from_names, "classes", "taxonomy transparent rest overlap"),
        (LabelMap.by_supercategory, "classes", "taxonomy exceptions transparent rest overlap"),
    ],
)
def test_options_are_given_by_name_alone(function, by_place, by_name):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.kind for p in parameters} == {
        **dict.fromkeys(by_place.split(), inspect.Parameter.POSITIONAL_OR_KEYWORD),
        **dict.fromkeys(by_name.split(), inspect.Parameter.KEYWORD_ONLY),
    }
