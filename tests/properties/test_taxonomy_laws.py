"""Laws of taxonomies and label maps, for any categories and any assignment of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplab_fashion.scores import confusion_matrix
from deeplab_fashion.taxonomy import Category, LabelMap, Taxonomy

laws = settings(deadline=None, derandomize=True, max_examples=60)

NAMES = st.text(min_size=1, max_size=6)


@st.composite
def taxonomies(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    ids = draw(st.lists(st.integers(0, 20), min_size=len(names), max_size=len(names), unique=True))
    groups = [draw(st.sampled_from(["", "up", "down", "äöü"])) for _ in names]
    return Taxonomy(draw(NAMES), tuple(map(Category, ids, names, groups)))


@st.composite
def label_maps(draw, taxonomy=None):
    taxonomy = draw(taxonomies()) if taxonomy is None else taxonomy
    number = draw(st.integers(1, 4))
    targets = [draw(st.sampled_from([None, *range(number)])) for _ in taxonomy]
    names = ("background", *(f"class {i}" for i in range(1, number)))
    overlap = draw(st.sampled_from(["last", "maximum", "smallest"]))
    return LabelMap(taxonomy, names, tuple(targets), overlap)


@st.composite
def maps_and_counts(draw):
    """A label map, and fine labels of truth and prediction that are ids of its taxonomy."""
    label_map = draw(label_maps())
    ids = st.sampled_from(label_map.taxonomy.ids)
    shape = draw(st.tuples(st.just(2), st.integers(0, 30)))
    truth, prediction = draw(hnp.arrays(np.uint8, shape, elements=ids))
    return label_map, truth, prediction


@laws
@given(taxonomies())
def test_a_taxonomy_survives_json(taxonomy):
    assert Taxonomy.from_json(taxonomy.to_json()) == taxonomy


@laws
@given(taxonomies())
def test_places_names_and_ids_agree(taxonomy):
    for place, category in enumerate(taxonomy):
        assert taxonomy.index(category.name) == place
        assert taxonomy.category(taxonomy.ids[place]) == category
    assert {c.supercategory for c in taxonomy} - {""} == set(taxonomy.supercategories)


@laws
@given(label_maps())
def test_a_label_map_survives_json(label_map):
    assert LabelMap.from_json(label_map.to_json()) == label_map


@laws
@given(label_maps(), st.randoms(use_true_random=False))
def test_a_map_is_the_same_from_names_in_any_order(label_map, random):
    names = dict(zip(label_map.taxonomy.names, label_map.targets, strict=True))
    shuffled = random.sample(sorted(names), len(names))
    classes = {name: [] for name in label_map.target_names}
    for name in shuffled:
        if names[name] is not None:
            classes[label_map.target_names[names[name]]].append(name)
    assert label_map == LabelMap.from_names(
        classes,
        taxonomy=label_map.taxonomy,
        transparent=[name for name in shuffled if names[name] is None],
        rest="error",
        overlap=label_map.overlap,
    )


@laws
@given(taxonomies())
def test_by_supercategory_agrees_with_each_category(taxonomy):
    label_map = LabelMap.by_supercategory(taxonomy=taxonomy)
    for category in taxonomy:
        label = label_map.label_of(category.id)
        assert label_map.target_names[label] == (category.supercategory or "background")


@laws
@given(maps_and_counts())
def test_apply_is_label_of_at_each_pixel(case):
    label_map, labels, _ = case
    expected = [label_map.label_of(int(label)) for label in labels]
    assert label_map.apply(labels).tolist() == [255 if n is None else n for n in expected]


def count_fine(label_map, truth, prediction):
    return confusion_matrix(truth, prediction, max(label_map.taxonomy.ids) + 1)


@laws
@given(maps_and_counts())
def test_collapse_equals_counting_the_mapped_labels(case):
    label_map, truth, prediction = case
    mapped = label_map.apply(prediction)
    mapped[mapped == 255] = 0
    np.testing.assert_array_equal(
        label_map.collapse(count_fine(*case)),
        confusion_matrix(label_map.apply(truth), mapped, label_map.num_classes, ignore_index=255),
    )


@laws
@given(maps_and_counts(), st.integers(0, 30))
def test_collapse_is_the_sum_over_any_batches(case, cut):
    label_map, truth, prediction = case
    parts = [
        label_map.collapse(count_fine(label_map, t, p))
        for t, p in ((truth[:cut], prediction[:cut]), (truth[cut:], prediction[cut:]))
    ]
    np.testing.assert_array_equal(sum(parts), label_map.collapse(count_fine(*case)))


@laws
@given(maps_and_counts())
def test_collapse_loses_only_transparent_truth(case):
    label_map, truth, _ = case
    known = sum(label_map.label_of(int(label)) is not None for label in truth)
    assert label_map.collapse(count_fine(*case)).sum() == known


@laws
@given(maps_and_counts())
def test_collapse_in_two_steps_equals_one(case):
    label_map, _, _ = case
    names = {f"only {c.id}": [c.name] for c in label_map.taxonomy}
    finest = LabelMap.from_names(names, taxonomy=label_map.taxonomy, rest="error")
    counts = count_fine(*case)
    np.testing.assert_array_equal(
        label_map.collapse(finest.collapse(counts), fine=finest), label_map.collapse(counts)
    )
