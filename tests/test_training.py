"""Training: what a fit learns, keeps, resumes, refuses and reports."""

import errno
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplab_fashion as df
from deeplab_fashion.errors import CheckpointError, TrainingError
from deeplab_fashion.training import checkpoints, fitting, learning_rate_at

PROCESSES = Path(__file__).parent / "processes"
SIZE = (24, 24)


def small_model(classes: int = 6, *, activation: str | None = None) -> keras.Model:
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
        ],
        name="backbone",
    )
    x = layers.ReLU()(backbone(image))
    x = layers.Conv2D(classes, 1)(layers.Dropout(0.2)(x))
    return keras.Model(image, layers.Activation(activation)(x) if activation else x)


@pytest.fixture(scope="module")
def records() -> Any:
    return df.samples.load()


@pytest.fixture(scope="module")
def train(records: Any) -> tf.data.Dataset:
    return df.data.make_dataset(
        records, df.taxonomy.CCP_TO_MAIN, size=SIZE, batch_size=4, augment=True, shuffle=True
    )


@pytest.fixture(scope="module")
def validation(records: Any) -> tf.data.Dataset:
    return df.data.make_dataset(records[:5], df.taxonomy.CCP_TO_MAIN, size=SIZE, batch_size=2)


def fit(*arguments: Any, **options: Any) -> df.TrainingResult:
    return df.fit(*arguments, **{"progress": False, "epochs": 2, **options})


def run(script: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(PROCESSES / script), *map(str, arguments)],
        env={**os.environ, **quiet, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def same_weights(first: list[Any], second: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def colour_data(count: int = 8) -> tf.data.Dataset:
    """Images whose label is told by their colour, so that one convolution can learn it."""
    labels = np.random.default_rng(0).integers(0, 3, (count, 8, 8))
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.float32)
    return tf.data.Dataset.from_tensor_slices((colours[labels], labels.astype(np.uint8))).batch(4)


def colour_model() -> keras.Model:
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(3, 1, kernel_initializer="zeros"),
        ]
    )


def test_an_auxiliary_head_is_trained_beside_the_other(train, validation, tmp_path):
    model = df.DeepLabV3Plus(
        backbone="mobilenetv2", weights=None, auxiliary_head=True, aspp_filters=8, decoder_filters=8
    )
    heads = [layer for layer in model.layers if layer.name.startswith("auxiliary")]
    before = [weight.numpy() for layer in heads for weight in layer.trainable_weights]
    result = df.fit(model, train, validation, epochs=1, run_dir=tmp_path, progress=False)
    after = [weight.numpy() for layer in heads for weight in layer.trainable_weights]
    assert before
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert 0 <= result.best_score <= 1
    assert "Confusion matrix" in (tmp_path / "report.html").read_text()
    segmenter = df.Segmenter(model, df.taxonomy.MAIN_CLASSES, working_size=64)
    assert segmenter(np.zeros((40, 50, 3), np.uint8)).labels.shape == (40, 50)


class TestLearning:
    def test_a_plain_dataset_is_learnt_to_the_last_pixel(self) -> None:
        result = fit(colour_model(), colour_data(), colour_data(4), epochs=20, learning_rate=0.3)
        assert result.best_score == 1
        assert np.array_equal(result.confusion, np.diag(np.diag(result.confusion)))
        assert result.confusion.sum() == 4 * 64
        assert result.history["loss"][-1] < 0.2 * result.history["loss"][0]
        assert math.isclose(result.history["loss"][0], math.log(3), rel_tol=0.5)

    @pytest.mark.parametrize("optimizer", ["adam", "sgd", keras.optimizers.RMSprop()])
    def test_every_optimizer_learns(self, optimizer: Any) -> None:
        rate = 0.3 if optimizer != "sgd" else 5.0
        result = fit(
            colour_model(), colour_data(), epochs=6, optimizer=optimizer, learning_rate=rate
        )
        assert result.history["loss"][-1] < 0.6 * result.history["loss"][0]

    def test_the_first_sgd_step_is_the_gradient_times_the_rate(self) -> None:
        data = colour_data(4)
        model, other = colour_model(), colour_model()
        images, labels = next(iter(data))
        with tf.GradientTape() as tape:
            value = df.losses.CrossEntropy()(labels, other(images))
        gradient = tape.gradient(value, other.trainable_variables[0].value)
        plain = keras.optimizers.SGD(1.0)
        fit(model, data, epochs=1, optimizer=plain, learning_rate=0.5, schedule="constant")
        np.testing.assert_allclose(model.get_weights()[0], -0.5 * gradient, atol=1e-7)

    def test_the_global_norm_of_gradients_is_clipped(self) -> None:
        model = colour_model()
        fit(
            model,
            colour_data(4),
            epochs=1,
            optimizer=keras.optimizers.SGD(1.0),
            learning_rate=1.0,
            schedule="constant",
            clip_norm=1e-3,
        )
        norm = math.sqrt(sum(float(np.square(w).sum()) for w in model.get_weights()))
        assert math.isclose(norm, 1e-3, rel_tol=1e-4)

    def test_accumulated_parts_give_the_step_of_the_whole_batch(self) -> None:
        whole, parts = colour_model(), colour_model()
        options: dict[str, Any] = {"epochs": 3, "learning_rate": 0.1}
        fit(whole, colour_data(), **options)
        fit(parts, colour_data(), accumulate=2, **options)
        for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)

    def test_averaged_weights_are_those_of_the_formula(self) -> None:
        seen: list[Any] = []

        class Remember(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                seen.append(self.model.get_weights()[0].copy())

        model = colour_model()
        average = model.get_weights()[0].copy()
        fit(model, colour_data(), epochs=2, ema_decay=0.5, callbacks=[Remember()])
        for step, weights in enumerate(seen):
            decay = min(0.5, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * weights
        np.testing.assert_allclose(model.get_weights()[0], average, atol=1e-7)

    def test_a_frozen_backbone_stays_and_a_slow_one_moves_less(self, train: Any) -> None:
        model = small_model()
        before = model.get_layer("backbone").get_weights()
        fit(model, train, epochs=1, freeze_backbone_epochs=1)
        assert same_weights(before, model.get_layer("backbone").get_weights())
        moved = []
        for multiplier in (1.0, 0.01):
            model = small_model()
            fit(model, train, epochs=1, backbone_multiplier=multiplier)
            kernel = model.get_layer("backbone").trainable_weights[0].numpy()
            moved.append(float(np.abs(kernel - before[0]).max()))
        assert 0 < moved[1] < 0.05 * moved[0]

    def test_a_backbone_thaws_after_its_epochs(self, train: Any) -> None:
        model = small_model()
        before = model.get_layer("backbone").get_weights()
        fit(model, train, epochs=2, freeze_backbone_epochs=1)
        assert not same_weights(before, model.get_layer("backbone").get_weights())
        assert model.get_layer("backbone").trainable

    def test_balanced_class_weights_are_those_of_the_photos(self, train: Any) -> None:
        counts = train.source.label_counts()
        weights = df.losses.balanced_class_weights(counts, power=0.5).tolist()
        given, asked = (
            fit(small_model(), train, class_weights=choice).history
            for choice in (weights, "balanced")
        )
        assert given == asked
        with pytest.raises(ValueError, match="needs a dataset of make_dataset"):
            fit(colour_model(), colour_data(), class_weights="balanced")

    def test_softmax_outputs_are_not_taken_for_logits(self) -> None:
        ends = (None, keras.layers.Softmax(), keras.layers.Activation("softmax"))
        histories = []
        for end in ends:
            model = colour_model()
            if end is not None:
                model = keras.Model(model.inputs, end(model.outputs[0]))
            histories.append(fit(model, colour_data(), learning_rate=0.1).history["loss"])
        np.testing.assert_allclose(histories[0], histories[1], rtol=1e-4)
        np.testing.assert_allclose(histories[0], histories[2], rtol=1e-4)

    def test_one_hot_truth_trains_and_scores_like_labels(self) -> None:
        hot = colour_data().map(lambda x, y: (x, tf.one_hot(y, 3)))
        options: dict[str, Any] = {"epochs": 3, "learning_rate": 0.1}
        one = fit(colour_model(), colour_data(), colour_data(), **options)
        two = fit(colour_model(), hot, hot, **options)
        assert np.array_equal(one.confusion, two.confusion)
        np.testing.assert_allclose(one.history["loss"], two.history["loss"], rtol=1e-5)

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_mixed_precision_learns_and_leaves_a_float32_model(self, precision: Any) -> None:
        model = colour_model()
        result = fit(
            model, colour_data(), colour_data(), epochs=20, learning_rate=0.3, precision=precision
        )
        assert result.best_score == 1
        assert result.precision == precision
        assert result.model is model
        assert all(layer.compute_dtype == "float32" for layer in model.layers)

    @pytest.mark.parametrize(
        ("tensor_cores", "bfloat16", "large", "expected"),
        [
            (True, False, False, "float16"),
            (False, True, True, "bfloat16"),
            (False, True, False, "float32"),
            (False, False, True, "float32"),
        ],
    )
    def test_auto_takes_what_pays(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tensor_cores: bool,
        bfloat16: bool,
        large: bool,
        expected: str,
    ) -> None:
        monkeypatch.setattr(fitting, "_has_tensor_cores", lambda: tensor_cores)
        monkeypatch.setattr(fitting, "has_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(fitting, "_LARGE_MODEL", 5 if large else 10**9)
        result = fit(colour_model(), colour_data(), epochs=1, learning_rate=0.1)
        assert result.precision == expected

    def test_float16_overflow_lowers_the_scale_instead_of_stopping(self) -> None:
        data = colour_data(4).map(lambda x, y: (x * 20.0, y))
        loss = df.losses.CrossEntropy()
        result = fit(
            colour_model(),
            data,
            epochs=12,
            precision="float16",
            loss=lambda y, p: 30.0 * loss(y, p),
            learning_rate=0.01,
        )
        assert result.history["loss"][-1] < result.history["loss"][0]


class TestSchedules:
    def test_hand_worked_rates(self) -> None:
        options: dict[str, Any] = {"base": 2.0, "steps": 10, "warmup_steps": 2}
        assert learning_rate_at(0, **options) == pytest.approx(2 / 3)
        assert learning_rate_at(1, **options) == pytest.approx(4 / 3)
        assert learning_rate_at(2, **options) == 2.0
        assert learning_rate_at(6, schedule="poly", power=0.9, **options) == pytest.approx(
            2 * 0.5**0.9
        )
        assert learning_rate_at(6, schedule="cosine", **options) == pytest.approx(1.0)
        assert learning_rate_at(9, schedule="constant", **options) == 2.0
        assert learning_rate_at(10, schedule="poly", final=0.1, **options) == pytest.approx(0.1)

    def test_the_history_holds_the_rate_of_each_epochs_last_step(self) -> None:
        history = fit(colour_model(), colour_data(), epochs=3, learning_rate=0.1).history
        steps = [1, 3, 5]
        expected = [learning_rate_at(s, base=0.1, steps=6) for s in steps]
        assert history["learning_rate"] == expected


class TestKeeping:
    def test_the_best_weights_are_restored(self, tmp_path: Path) -> None:
        class Spoil(keras.callbacks.Callback):
            """Makes every epoch after the second a bad one."""

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if epoch == 2:
                    self.bad = [-10 * weights for weights in self.model.get_weights()]
                if epoch >= 2:
                    self.model.set_weights(self.bad)

        for run_dir in (None, tmp_path / "run"):
            result = fit(
                colour_model(),
                colour_data(),
                colour_data(),
                epochs=4,
                learning_rate=0.3,
                run_dir=run_dir,
                callbacks=[Spoil()],
            )
            scores = result.history["val_mean_iou"]
            assert result.best_epoch == 1 + int(np.argmax(scores))
            assert result.best_score == max(scores) > scores[-1]
            predicted, truth = [], []
            for images, labels in colour_data():
                predicted.append(np.argmax(result.model(images), -1))
                truth.append(labels)
            counts = df.scores.confusion_matrix(np.concatenate(truth), np.concatenate(predicted), 3)
            assert np.array_equal(counts, result.confusion)

    def test_early_stopping_counts_epochs_without_a_better_score(self) -> None:
        options: dict[str, Any] = {"epochs": 30, "learning_rate": 0.5, "early_stopping": 3}
        result = fit(colour_model(), colour_data(), colour_data(), **options)
        assert len(result.history["epoch"]) == result.best_epoch + 3 < 30

    def test_files_of_a_run(self, train: Any, validation: Any, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        result = fit(small_model(), train, validation, epochs=3, run_dir=run_dir, tensorboard=True)
        assert result.run_dir == run_dir
        rows = (run_dir / "history.csv").read_text().splitlines()
        assert rows[0].startswith("epoch,learning_rate,loss,val_loss,val_mean_iou")
        assert [float(row.split(",")[2]) for row in rows[1:]] == result.history["loss"]
        kept = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
        wanted = {2, 3, result.best_epoch}
        assert kept == [f"epoch-{epoch:05d}.npz" for epoch in sorted(wanted)]
        other = small_model()
        other.load_weights(run_dir / "best.weights.h5")
        assert same_weights(other.get_weights(), result.model.get_weights())
        events = list((run_dir / "tensorboard").iterdir())
        assert len(events) == 1
        tags = [
            value.tag
            for event in tf.compat.v1.train.summary_iterator(str(events[0]))
            for value in event.summary.value
        ]
        assert tags.count("val_mean_iou") == 3

    def test_the_report_stands_alone_and_tells_the_scores(
        self, train: Any, validation: Any, tmp_path: Path
    ) -> None:
        result = fit(small_model(), train, validation, run_dir=tmp_path)
        page = (tmp_path / "report.html").read_text()
        for name in result.class_names:
            assert f"<td>{name}</td>" in page
        assert f"{df.scores.mean_iou(result.confusion):.4f}" in page
        assert page.count("<svg") == 3
        assert page.count('src="data:image/png;base64,') == 1 + 2 * 5
        assert 'src="http' not in page
        assert "Worst photos" in page
        assert "&quot;learning_rate&quot;: 0.001" in page

    def test_callbacks_hear_of_everything_and_may_stop(self, train: Any) -> None:
        heard: list[str] = []

        class Listen(keras.callbacks.Callback):
            def on_train_begin(self, logs: Any = None) -> None:
                heard.append("begin")

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                heard.append(f"step {batch} {math.isfinite(logs['loss'])}")

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                heard.append(f"epoch {epoch} {sorted(logs)}")
                self.model.stop_training = True

            def on_train_end(self, logs: Any = None) -> None:
                heard.append("end")

        fit(small_model(), train, epochs=5, callbacks=[Listen()])
        steps = [f"step {i} True" for i in range(3)]
        assert heard == ["begin", *steps, "epoch 0 ['learning_rate', 'loss']", "end"]

    def test_progress_goes_to_standard_error(self, train: Any, capsys: Any) -> None:
        df.fit(small_model(), train, epochs=2)
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


class TestResuming:
    def test_the_same_seed_gives_the_same_bits_and_another_does_not(self, train: Any) -> None:
        weights = [fit(small_model(), train, seed=s).model.get_weights() for s in (3, 3, 4)]
        assert same_weights(weights[0], weights[1])
        assert not same_weights(weights[0], weights[2])

    def test_a_finished_run_is_not_trained_again(
        self, train: Any, validation: Any, tmp_path: Path
    ) -> None:
        first = fit(small_model(), train, validation, run_dir=tmp_path)
        again = fit(small_model(), train, validation, run_dir=tmp_path)
        assert again.history == first.history
        assert same_weights(again.model.get_weights(), first.model.get_weights())

    def test_resume_false_starts_anew(self, train: Any, tmp_path: Path) -> None:
        fit(small_model(), train, epochs=3, run_dir=tmp_path)
        result = fit(small_model(), train, epochs=1, run_dir=tmp_path, resume=False)
        assert len(result.history["epoch"]) == 1
        assert checkpoints.CheckpointFolder(tmp_path / "checkpoints").epochs() == [0, 1]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[: len(content) // 2],
            lambda content: content[:-1],
            lambda content: b"",
            lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        ],
        ids=["half", "cut", "empty", "one bit"],
    )
    def test_a_damaged_newest_checkpoint_falls_back(
        self, train: Any, tmp_path: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        options: dict[str, Any] = {"epochs": 3, "run_dir": tmp_path}
        first = fit(small_model(), train, **options)
        weights = first.model.get_weights()
        newest = tmp_path / "checkpoints" / "epoch-00003.npz"
        newest.write_bytes(damage(newest.read_bytes()))
        with pytest.warns(UserWarning, match=r"epoch-00003\.npz is damaged.*the one before"):
            again = fit(small_model(), train, **options)
        assert again.history == first.history
        assert same_weights(again.model.get_weights(), weights)

    def test_a_run_of_only_damaged_checkpoints_is_refused(self, train: Any, tmp_path: Path) -> None:
        fit(small_model(), train, run_dir=tmp_path)
        for path in (tmp_path / "checkpoints").iterdir():
            path.write_bytes(b"nothing")
        with (
            pytest.warns(UserWarning, match="is damaged"),
            pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"),
        ):
            fit(small_model(), train, run_dir=tmp_path)

    def test_another_configuration_is_refused_by_name(
        self, records: Any, train: Any, tmp_path: Path
    ) -> None:
        fit(small_model(), train, run_dir=tmp_path)
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with pytest.raises(CheckpointError) as caught:
            fit(small_model(), train, epochs=3, learning_rate=0.5, run_dir=tmp_path)
        text = str(caught.value)
        assert "epochs was 2 and is 3" in text
        assert "learning_rate was 0.001 and is 0.5" in text
        assert "seed" not in text
        other = df.data.make_dataset(
            records[:8], df.taxonomy.CCP_TO_MAIN, size=SIZE, batch_size=2, shuffle=True
        )
        with pytest.raises(CheckpointError, match=r"train\.batch_size was 4 and is 2.*samples"):
            fit(small_model(), other, run_dir=tmp_path)
        wider = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(6, 3)])
        with pytest.raises(CheckpointError, match="model was"):
            fit(wider, train, run_dir=tmp_path)
        assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def test_damaged_settings_are_refused(self, train: Any, tmp_path: Path) -> None:
        fit(small_model(), train, run_dir=tmp_path)
        (tmp_path / "settings.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"settings\.json is damaged"):
            fit(small_model(), train, run_dir=tmp_path)

    @pytest.mark.slow
    def test_killed_at_five_moments_it_ends_with_the_same_bits(self, tmp_path: Path) -> None:
        whole = run("train_tiny.py", tmp_path / "whole", tmp_path / "whole.npz", "never")
        assert whole.returncode == 0, whole.stderr
        killed = tmp_path / "killed"
        moments = ("step 1 3", "write 2", "step 3 1", "step 5 4", "renamed 6")
        for moment in moments:
            done = run("train_tiny.py", killed, tmp_path / "killed.npz", *moment.split())
            assert done.returncode == -signal.SIGKILL, (moment, done.stderr)
            partial = list((killed / "checkpoints").glob("*.partial"))
            assert bool(partial) == moment.startswith("write")
        assert not (tmp_path / "killed.npz").exists()
        last = run("train_tiny.py", killed, tmp_path / "killed.npz", "never")
        assert last.returncode == 0, last.stderr
        with np.load(tmp_path / "whole.npz") as one, np.load(tmp_path / "killed.npz") as two:
            assert one.files == two.files
            for name in one.files:
                assert one[name].tobytes() == two[name].tobytes()
        histories = [(tmp_path / n / "history.csv").read_bytes() for n in ("whole", "killed")]
        assert histories[0] == histories[1]


class TestReplicas:
    @pytest.mark.slow
    def test_two_devices_and_two_workers_give_the_weights_of_one(self, tmp_path: Path) -> None:
        for kind in ("one", "two"):
            done = run("train_on_replicas.py", kind, tmp_path / f"{kind}.npz", "-")
            assert done.returncode == 0, done.stderr
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            ports = [place.getsockname()[1] for place in (first, second)]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        workers = []
        for index in (0, 1):
            task = {"type": "worker", "index": index}
            variables = {
                "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_NUM_INTRAOP_THREADS": "1",
            }
            # Only the first has a folder of its own: the other must hear from it.
            run_dir = tmp_path / "run" if index == 0 else tmp_path / "unused"
            workers.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        str(PROCESSES / "train_on_replicas.py"),
                        "worker",
                        str(tmp_path / f"worker{index}.npz"),
                        str(run_dir),
                    ],
                    env={**os.environ, **variables},
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for worker in workers:
            _, errors = worker.communicate(timeout=300)
            assert worker.returncode == 0, errors
        assert (tmp_path / "run" / "report.html").exists()
        assert not (tmp_path / "unused").exists()
        with np.load(tmp_path / "one.npz") as one:
            assert int(one["confusion"].sum()) == 9 * 32 * 32
            for other in ("two", "worker0", "worker1"):
                with np.load(tmp_path / f"{other}.npz") as two:
                    names = [name for name in one.files if name.startswith("arr_")]
                    assert len(names) == 7
                    for name in names:
                        np.testing.assert_allclose(one[name], two[name], atol=1e-5, rtol=0)
                    assert np.array_equal(one["confusion"], two["confusion"])
                    histories = [json.loads(str(part["history"])) for part in (one, two)]
                    for name, values in histories[0].items():
                        np.testing.assert_allclose(values, histories[1][name], atol=1e-5)

    def test_data_of_any_make_is_shared_out(self, tmp_path: Path) -> None:
        for kind in ("one", "two"):
            done = run("train_on_replicas.py", kind, tmp_path / f"{kind}.npz", "-", "plain")
            assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
            weights = [name for name in one.files if name.startswith("arr_")]
            assert len(weights) == 3
            for name in weights:
                np.testing.assert_allclose(one[name], two[name], atol=1e-5, rtol=0)
            assert np.array_equal(one["confusion"], two["confusion"])

    def test_multi_worker_needs_its_environment(
        self, train: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
        with pytest.raises(TrainingError, match=r"needs the environment variable TF_CONFIG.*None"):
            fit(small_model(), train, strategy="multi-worker")

    def test_workers_that_meet_too_late_are_told_what_to_do(
        self, train: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = {
            "cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]},
            "task": {"type": "worker", "index": 0},
        }
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        with pytest.raises(TrainingError, match=r"join_workers\(\) as the program's first use"):
            fit(small_model(), train, strategy="multi-worker")

    def test_a_model_that_cannot_be_copied_is_refused_where_a_copy_is_needed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Opaque(keras.layers.Layer):
            def __init__(self, factor: float) -> None:
                super().__init__()
                self.factor = factor

            def call(self, x: Any) -> Any:
                return self.factor * x

        model = colour_model()
        model = keras.Model(model.inputs, Opaque(2.0)(model.outputs[0]))
        monkeypatch.setattr(fitting, "_fastest_precision", lambda model: "float16")
        assert fit(model, colour_data(), epochs=1).precision == "float32"
        with pytest.raises(
            TrainingError, match=r"precision 'bfloat16', 1 replicas: model .* cannot be copied"
        ):
            fit(model, colour_data(), precision="bfloat16")


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"epochs": 0}, "epochs must be at least 1, got 0"),
            ({"epochs": -1}, "epochs must be at least 1, got -1"),
            ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
            ({"learning_rate": math.nan}, "learning_rate must be above 0, got nan"),
            ({"ema_decay": 1.0}, "ema_decay must lie between 0 and 1, got 1.0"),
            ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
            ({"early_stopping": 0}, "early_stopping must be at least 1, got 0"),
            ({"seed": -1}, "seed must be at least 0, got -1"),
            ({"schedule": "step"}, "schedule must be one of .*'poly'.*, got 'step'"),
            ({"precision": "float64"}, "precision must be one of .*'auto'.*, got 'float64'"),
            ({"optimizer": "lion"}, "optimizer must be one of .*'adamw'.*, got 'lion'"),
            ({"strategy": "cloud"}, "strategy must be 'auto'.*, got 'cloud'"),
            ({"class_weights": [1.0, 2.0]}, "class_weights must hold one .*received 2"),
            ({"class_weights": "fair"}, "class_weights must be .* got 'fair'"),
            ({"early_stopping": 2}, "early_stopping needs validation data"),
            ({"tensorboard": True}, "tensorboard=True needs a run_dir"),
        ],
    )
    def test_arguments(self, train: Any, options: dict[str, Any], message: str) -> None:
        model = small_model()
        before = model.get_weights()
        with pytest.raises(ValueError, match=message):
            fit(model, train, **options)
        assert same_weights(before, model.get_weights())

    def test_weights_of_classes_go_with_the_default_loss_only(self, train: Any) -> None:
        with pytest.raises(ValueError, match="class_weights belong to the default loss"):
            fit(small_model(), train, loss=df.losses.CrossEntropy(), class_weights=[1.0] * 6)

    def test_models_of_other_forms(self) -> None:
        class Subclassed(keras.Model):
            def call(self, x: Any) -> Any:
                return x

        unbuilt = keras.Sequential([keras.layers.Conv2D(3, 1)])
        flat = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalMaxPool2D()])
        for model in (Subclassed(), unbuilt, flat):
            with pytest.raises(ValueError, match="model must be a functional Keras model"):
                fit(model, colour_data())

    def test_a_model_without_a_backbone_has_none_to_slow_or_freeze(self) -> None:
        for options in ({"backbone_multiplier": 0.1}, {"freeze_backbone_epochs": 1}):
            with pytest.raises(ValueError, match="backbone"):
                fit(colour_model(), colour_data(), **options)

    def test_data_of_another_form(self) -> None:
        model = colour_model()
        with pytest.raises(TypeError, match=r"train must be a tf\.data\.Dataset, got list"):
            fit(model, [])
        with pytest.raises(ValueError, match=r"validation must give batches of \(images, labels\)"):
            fit(model, colour_data(), colour_data().map(lambda x, y: x))
        with pytest.raises(ValueError, match="images of shape"):
            fit(model, colour_data().unbatch())

    def test_empty_and_endless_datasets(self) -> None:
        with pytest.raises(ValueError, match="at least one batch, but it is empty"):
            fit(colour_model(), colour_data().take(0))
        with pytest.raises(ValueError, match="repeats for ever"):
            fit(colour_model(), colour_data().repeat())

    def test_a_label_map_of_other_classes_than_the_models(self, train: Any) -> None:
        with pytest.raises(ValueError, match="gives 4 classes, but the label map of train has 6"):
            fit(small_model(4), train)

    def test_labels_beyond_the_classes(self, tmp_path: Path) -> None:
        wrong = colour_data().map(lambda x, y: (x, y + tf.cast(y == 2, tf.uint8)))
        with pytest.raises(ValueError, match=r"labels must be 0 to 2 .* step 1 of epoch 1"):
            fit(colour_model(), wrong, run_dir=tmp_path)
        with pytest.raises(ValueError, match="labels of the validation data must be 0 to 2"):
            fit(colour_model(), colour_data(), wrong)

    def test_one_class_alone_trains(self) -> None:
        only = colour_data().map(lambda x, y: (x, tf.zeros_like(y)))
        result = fit(colour_model(), only, only, epochs=3, learning_rate=0.3)
        assert result.best_score == 1

    def test_nothing_but_ignored_pixels_changes_nothing(self) -> None:
        ignored = colour_data().map(lambda x, y: (x, tf.fill(tf.shape(y), tf.uint8.max)))
        model = colour_model()
        before = model.get_weights()
        result = fit(model, ignored, ignored, weight_decay=0.0)
        assert result.history["loss"] == [0.0, 0.0]
        assert math.isnan(result.history["val_mean_iou"][0])
        assert same_weights(before, result.model.get_weights())

    def test_a_batch_larger_than_the_data_is_one_batch(self, records: Any) -> None:
        data = df.data.make_dataset(
            records, df.taxonomy.CCP_TO_MAIN, size=SIZE, batch_size=50, shuffle=True
        )
        assert len(fit(small_model(), data).history["loss"]) == 2

    def test_nan_stops_with_the_images_named_and_the_good_weights_kept(
        self, train: Any, validation: Any, tmp_path: Path
    ) -> None:
        good = fit(small_model(), train, validation, epochs=1, schedule="constant")
        calls = tf.Variable(0)

        def bad(y_true: Any, y_pred: Any) -> Any:
            """Give NaN at the second step of the second epoch."""
            value = df.losses.CrossEntropy()(y_true, y_pred)
            count = calls.assign_add(1)
            return tf.where(tf.equal(count, 3 + 3 + 2), tf.constant(math.nan), value)

        model = small_model()
        options: dict[str, Any] = {"schedule": "constant", "run_dir": tmp_path, "epochs": 4}
        with pytest.raises(TrainingError) as caught:
            fit(model, train, validation, loss=bad, **options)
        names = train.source.batch_ids(1, 1)
        assert f"the loss is nan in step 2 of epoch 2, images {', '.join(names)}" in str(
            caught.value
        )
        assert same_weights(model.get_weights(), good.model.get_weights())
        assert checkpoints.CheckpointFolder(tmp_path / "checkpoints").epochs() == [0, 1]

    def test_a_run_dir_that_cannot_be_made(self, train: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CheckpointError, match=r"run_dir .*file.* cannot be used"):
            fit(small_model(), train, run_dir=tmp_path / "file" / "run")
        with pytest.raises(CheckpointError, match="cannot be used"):
            fit(small_model(), train, run_dir=tmp_path / "file")

    def test_a_full_disk_loses_nothing(
        self, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = fit(small_model(), train, epochs=3)
        savez = np.savez
        full = [False]

        def until_full(file: Any, *arrays: Any, **named: Any) -> None:
            if full[0]:
                file.write(b"half of it")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            savez(file, *arrays, **named)

        class Fill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                full[0] = epoch == 2

        monkeypatch.setattr(np, "savez", until_full)
        options: dict[str, Any] = {"epochs": 3, "run_dir": tmp_path}
        with pytest.raises(CheckpointError, match=r"checkpoint of epoch 3.*No space left"):
            fit(small_model(), train, callbacks=[Fill()], **options)
        folder = tmp_path / "checkpoints"
        assert sorted(p.name for p in folder.iterdir()) == ["epoch-00001.npz", "epoch-00002.npz"]
        full[0] = False
        again = fit(small_model(), train, **options)
        assert again.history == whole.history
        assert same_weights(again.model.get_weights(), whole.model.get_weights())
