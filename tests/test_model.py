"""A model is loaded only as it was made; the one that comes with the project is whole."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from repstream.errors import FeatureError, ModelError
from repstream.recognition import estimators
from repstream.recognition.card import (
    SHIPPED_CARDS,
    SHIPPED_DIR,
    available_models,
    card_digest,
    default_models_dir,
    find_model,
    load_card,
    next_version,
    sha256,
)
from repstream.recognition.model import LIBRARIES, load_model
from repstream.recognition.scoring import score
from repstream.recordings.spar import recordings
from repstream.windows.cut import cut
from tests.support import exercising, failure, success
from training.division import Division
from training.recipes import find_recipe
from training.train import train

ANEW = "retrain it: repstream train"
SHIPPED = Path(__file__).resolve().parents[1] / "models"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with tiny/1, quickly trained."""
    folder = tmp_path_factory.mktemp("models")
    people = [r for s in ("p1", "p2", "p3") for r in exercising(s, "ABC")]
    train(
        find_recipe("logistic"), Division("subject", "chosen", people[:6], people[6:]), "tiny", "1", folder, 151, 50, 0
    )
    return folder


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "models"))


def change_card(models: Path, **changes: Any) -> None:
    """Change a card as its own maker would: with a digest that fits."""
    path = models / "tiny" / "1" / "card.json"
    card = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(card | {"card_sha256": card_digest(card)}))


def refused(models: Path, spec: str = "tiny") -> str:
    with pytest.raises(ModelError) as error:
        load_model(spec, models)
    return str(error.value)


@pytest.mark.slow
def test_a_model_is_loaded_with_what_its_card_says(models: Path) -> None:
    model = load_model("tiny/1", models)
    assert model.id == "tiny/1"
    assert model.labels == ("A", "B", "C")
    assert (model.window, model.hop, model.features.name) == (151, 50, "motion-shape")
    assert model.folder == models / "tiny" / "1"
    (recording,) = exercising("p4", "B")
    scores = score(recording, model)
    assert {model.labels[i] for i in scores.probabilities.argmax(axis=1)} == {"B"}


def test_probabilities_are_those_of_the_labels_in_their_order_and_sum_to_one(models: Path) -> None:
    model = load_model("tiny", models)
    features = np.random.default_rng(0).normal(size=(50, len(model.features.names)))
    probabilities = model.predict(features)
    assert probabilities.shape == (50, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert (probabilities >= 0).all()
    assert model.predict(features[:0]).shape == (0, 3)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("shipped", [False, True])
def test_predictions_do_not_depend_on_the_batch(models: Path, batch: int, shipped: bool) -> None:
    model = load_model("spar", SHIPPED) if shipped else load_model("tiny", models)
    scores = [score(r, model) for r in recordings()[:3]]
    features = np.concatenate([s.features for s in scores])
    whole = model.predict(features)
    parts = [model.predict(features[i : i + batch]) for i in range(0, len(features), batch)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-9)


# What is refused


@pytest.mark.parametrize("name", ["model.skops", "reference.parquet"])
@pytest.mark.parametrize("position", [0, -1])
def test_a_file_of_which_one_bit_was_altered_is_not_loaded(models: Path, name: str, position: int) -> None:
    path = models / "tiny" / "1" / name
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert refused(models) == (
        f"{path}: its SHA-256 is not the card's: the file was altered or damaged, and is not loaded; "
        f"download the model again, or {ANEW}"
    )


def test_an_altered_file_is_never_unpickled(models: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    as_a_pickle(models)
    assert load_model("tiny", models).id == "tiny/1"
    (models / "tiny" / "1" / "model.joblib").write_bytes(pickle.dumps(Trap(trap)))
    refused(models)
    assert not trap.exists()


# What of a model may run


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def store(models: Path, name: str, content: bytes) -> None:
    """Put a file in the place of the stored classifier, as its own maker would: with a card that fits."""
    folder = models / "tiny" / "1"
    reference = json.loads((folder / "card.json").read_text())["files"]["reference.parquet"]
    (folder / "model.skops").unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    change_card(models, files={name: hashlib.sha256(content).hexdigest(), "reference.parquet": reference})


def as_a_pickle(models: Path, content: object = None) -> None:
    """Make of tiny/1 a model as earlier releases wrote it."""
    card = json.loads((models / "tiny" / "1" / "card.json").read_text())
    data = io.BytesIO()
    joblib.dump(content or load_model("tiny", models).estimator, data)
    change_card(models, libraries=card["libraries"] | {"joblib": joblib.__version__})
    store(models, "model.joblib", data.getvalue())


def test_a_pickled_model_of_an_earlier_release_loads_from_a_folder_that_was_named(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = np.random.default_rng(0).normal(size=(50, 105))
    expected = load_model("tiny", models).predict(features)
    as_a_pickle(models)
    assert load_model("tiny", models).predict(features).tobytes() == expected.tobytes()
    monkeypatch.setenv("REPSTREAM_MODELS", str(models))
    assert load_model("tiny").predict(features).tobytes() == expected.tobytes()


def test_a_pickled_model_never_runs_from_a_folder_that_nobody_named(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "sprung"
    as_a_pickle(models, Trap(trap))
    monkeypatch.delenv("REPSTREAM_MODELS", raising=False)
    monkeypatch.setattr("repstream.recognition.card.SHIPPED_DIR", models)
    with pytest.raises(ModelError) as error:
        load_model("tiny")
    assert str(error.value) == (
        f"{models / 'tiny' / '1' / 'model.joblib'}: a pickle, which can run code of whoever made it when it is loaded; "
        "if you trust it, name its folder with --models-dir or REPSTREAM_MODELS, "
        "else retrain the model: repstream train"
    )
    assert not trap.exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["evil", "spar"])
@pytest.mark.parametrize("command", ["score {file} --out {out}", "predict", "monitor", "demo {file} --no-browser"])
def test_models_in_the_current_folder_are_not_run(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, model: str
) -> None:
    trap = tmp_path / "sprung"
    as_a_pickle(models, Trap(trap))
    (models / "tiny").rename(models / model)
    monkeypatch.chdir(tmp_path)
    # With its own model in the way of a stranger's, each would go on and on.
    monkeypatch.setattr("repstream.recognition.card.SHIPPED_DIR", tmp_path / "release")
    line = command.format(file="spar/s01-left-ROW-1", out=tmp_path / "out.csv").split()
    assert failure(*line, "--model", model).startswith(f"there is no model {model!r} in {tmp_path / 'release'} (there")
    assert not trap.exists()


def test_the_shipped_model_scores_whatever_folder_one_stands_in(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "sprung"
    as_a_pickle(models, Trap(trap))
    (models / "tiny").rename(models / "spar")
    monkeypatch.chdir(tmp_path)
    success("score", "spar/s01-left-ROW-1", "--out", tmp_path / "out.csv")
    assert not trap.exists()


def rebuilt(stored: bytes, change: Any) -> bytes:
    """A stored classifier whose tree of types `change` has changed."""
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    change(schema)
    files["schema.json"] = json.dumps(schema).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("loader", "kind", "content"),
    [
        ("ObjectNode", "subprocess.Popen", None),
        ("FunctionNode", "os.system", None),
        ("FunctionNode", "numpy.core._multiarray_umath.add", None),  # skops itself would trust it
        ("ObjectNode", "sklearn.naive_bayes.GaussianNB", None),  # and this
        ("ConstructorFromReduceNode", "pathlib.PosixPath", {"content": []}),
        ("MethodNode", "sklearn.pipeline.Pipeline", {"func": "fit", "obj": {}}),
        ("TypeNode", "sklearn.pipeline.Pipeline", None),
        ("DictNode", "collections.OrderedDict", {}),
    ],
)
def test_a_stored_model_makes_only_objects_of_types_that_are_listed(
    models: Path, loader: str, kind: str, content: object
) -> None:
    module, _, name = kind.rpartition(".")
    stranger = {"__class__": name, "__module__": module, "__loader__": loader, "content": content}

    def change(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["verbose"] = stranger

    store(models, "model.skops", rebuilt((models / "tiny" / "1" / "model.skops").read_bytes(), change))
    assert refused(models) == (
        f"{models / 'tiny' / '1' / 'model.skops'}: it holds {kind} (by {loader}), which is not among the types that "
        f"a model may hold, and is not loaded; download the model again, or {ANEW}"
    )


def test_a_pickle_in_the_place_of_a_stored_model_is_not_loaded(models: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    store(models, "model.skops", pickle.dumps(Trap(trap)))
    assert refused(models).startswith(f"{models / 'tiny' / '1' / 'model.skops'}: not a readable classifier (BadZipFile")
    array = io.BytesIO()
    np.save(array, np.array([Trap(trap)], dtype=object), allow_pickle=True)
    estimator = zipfile.ZipFile(io.BytesIO(estimators.pack(load_model("spar").estimator)))
    files = {name: estimator.read(name) for name in estimator.namelist()} | {"2.npy": array.getvalue()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    store(models, "model.skops", buffer.getvalue())
    assert "not a readable classifier (ValueError" in refused(models)
    assert not trap.exists()


def test_what_is_loaded_are_the_bytes_that_were_hashed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read once, so that nothing can be put in its place between look and use."""
    read: list[str] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or original(path))  # type: ignore[func-returns-value]
    load_model("tiny", models)
    assert sorted(read) == ["model.skops", "reference.parquet"]


def test_a_file_is_held_against_the_card_whenever_it_is_read(models: Path) -> None:
    model = load_model("tiny", models)
    path = model.folder / "reference.parquet"
    assert model.read_file("reference.parquet") == path.read_bytes()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match=r"reference.parquet: its SHA-256 is not the card's"):
        model.read_file("reference.parquet")


def test_a_model_in_the_place_of_the_shipped_one_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"spar/1": card_digest(json.loads((SHIPPED / "spar" / "1" / "card.json").read_text()))} == SHIPPED_CARDS
    (models / "tiny").rename(models / "spar")
    assert load_model("spar", models).name == "tiny"  # in a folder of the user's own
    monkeypatch.setattr("repstream.recognition.card.SHIPPED_DIR", models.resolve())
    assert refused(models, "spar") == (
        f"{models / 'spar' / '1' / 'card.json'}: this is not the model that this release came with; fetch the release "
        "anew, or keep a model of your own under another name or in a folder given by --models-dir"
    )


@pytest.mark.parametrize(
    "change", [{"labels": ["C", "B", "A"]}, {"hop": 1}, {"scores": {}}, {"subjects": {"train": [], "held_out": []}}]
)
def test_a_card_that_was_altered_is_refused(models: Path, change: dict[str, Any]) -> None:
    path = models / "tiny" / "1" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert refused(models) == (f"{path}: the card was altered after training; download the model again, or {ANEW}")


def test_a_card_may_be_laid_out_anew(models: Path) -> None:
    path = models / "tiny" / "1" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=4))
    assert load_model("tiny", models).id == "tiny/1"


@pytest.mark.parametrize(
    ("library", "made_with", "loads"),
    [
        ("scikit-learn", "0.1.0", False),
        ("scikit-learn", None, False),
        ("numpy", "1.0.0", False),
        ("numpy", ".99", True),
        ("scipy", "1.0.0", False),
        ("skops", "0.1", True),
        ("skops", None, True),
    ],
)
def test_a_model_of_other_libraries_is_refused_with_the_version_to_install(
    models: Path, library: str, made_with: str | None, loads: bool
) -> None:
    card = json.loads((models / "tiny" / "1" / "card.json").read_text())
    now = card["libraries"][library]
    if loads and str(made_with).startswith("."):  # another patch release of the same minor one
        made_with = ".".join(now.split(".")[:2]) + str(made_with)
    versions = {k: v for k, v in (card["libraries"] | {library: made_with}).items() if v}
    change_card(models, libraries=versions)
    if loads:
        assert load_model("tiny", models).id == "tiny/1"
        return
    shown = made_with or "unknown"
    assert refused(models) == (
        f"{models / 'tiny' / '1'}: the model was made with {library} {shown}, installed is {now}; "
        f"install {library}=={shown}, or retrain it: repstream train"
    )


@pytest.mark.parametrize("name", ["model.skops", "reference.parquet"])
def test_a_model_that_lacks_a_file_is_refused(models: Path, name: str) -> None:
    (models / "tiny" / "1" / name).unlink()
    assert refused(models) == (
        f"{models / 'tiny' / '1'}: {name} is missing; download the model again, or train it: repstream train"
    )


def test_a_card_that_is_none_is_refused(models: Path) -> None:
    path = models / "tiny" / "1" / "card.json"
    card = json.loads(path.read_text())
    path.write_text("{")
    assert refused(models).startswith(f"{path}: not a readable card (")
    for text in ("[]", "3", "{}"):
        path.write_text(text)
        assert refused(models).startswith(f"{path}: the card lacks name, version, labels, ")
    del card["window"]
    path.write_text(json.dumps(card))
    assert refused(models) == f"{path}: the card lacks window; retrain the model: repstream train"


def test_features_of_another_version_are_refused(models: Path) -> None:
    change_card(models, feature_set_version="0")
    assert refused(models) == (
        f"{models / 'tiny' / '1'}: the model was trained on version 0 of the feature set motion-shape, "
        "this release computes version 2; retrain it: repstream train"
    )
    change_card(models, feature_set="gone")
    with pytest.raises(FeatureError, match=r"^unknown feature set 'gone'; choose one of motion-shape, naive-freq"):
        load_model("tiny", models)


def test_features_of_the_first_version_are_read_at_the_window_where_they_are_the_same(models: Path) -> None:
    change_card(models, feature_set_version="1")
    assert load_card("tiny", models).window == 151
    change_card(models, window=128)
    assert "was trained on version 1 of the feature set motion-shape" in refused(models)


@pytest.mark.parametrize("spec", ["other", "tiny/2", "tiny/1/x", "", "/"])
def test_an_unknown_model_is_refused_with_those_there_are(models: Path, spec: str) -> None:
    assert refused(models, spec) == (
        f"there is no model {spec!r} in {models} (there: tiny/1); train one with: repstream train"
    )


def test_a_folder_without_models_is_said_so(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert refused(missing) == f"there is no model 'tiny' in {missing} (there: none); train one with: repstream train"


# Versions


def test_a_name_alone_means_its_newest_version(models: Path) -> None:
    for version in ("9", "10", "2"):
        shutil.copytree(models / "tiny" / "1", models / "tiny" / version)
    shutil.copytree(models / "tiny" / "1", models / "zzz" / "11")
    assert available_models(models) == [*[("tiny", v) for v in ("1", "2", "9", "10")], ("zzz", "11")]
    assert find_model("tiny", models) == models / "tiny" / "10"
    assert find_model("tiny/9", models) == models / "tiny" / "9"


@pytest.mark.parametrize(("older", "newer"), [("1.9", "1.10"), ("2024-12", "2025-1"), ("v9", "v10"), ("1", "1.1")])
def test_numbers_within_a_version_count_as_numbers(models: Path, older: str, newer: str) -> None:
    for version in (older, newer):
        shutil.copytree(models / "tiny" / "1", models / "other" / version)
    assert find_model("other", models).name == newer


def test_the_environment_names_the_folder_of_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPSTREAM_MODELS", str(tmp_path))
    assert default_models_dir() == tmp_path
    monkeypatch.delenv("REPSTREAM_MODELS")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert default_models_dir() == SHIPPED_DIR == SHIPPED


def test_a_wheel_keeps_models_of_ones_own_in_the_users_data_folder_and_finds_the_releases(
    monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path
) -> None:
    monkeypatch.delenv("REPSTREAM_MODELS", raising=False)
    monkeypatch.setattr("repstream.recognition.card.is_checkout", lambda: False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    own = tmp_path / "repstream" / "models"
    assert default_models_dir() == own
    assert find_model("spar") == SHIPPED / "spar" / "1"
    shutil.copytree(models / "tiny" / "1", own / "spar" / "1")
    assert find_model("spar/1") == SHIPPED / "spar" / "1"
    assert next_version("spar") == "2"
    shutil.copytree(models / "tiny" / "1", own / "spar" / "2")
    assert find_model("spar") == own / "spar" / "2"
    with pytest.raises(ModelError, match=r"no model 'spar' in .*nowhere \(there: none\)"):
        find_model("spar", tmp_path / "nowhere")


def test_services_refuse_a_damaged_model_before_they_connect(models: Path) -> None:
    (models / "tiny" / "1" / "model.skops").write_bytes(b"")
    said = failure("predict", "--model", "tiny", "--models-dir", models, "--bootstrap-servers", "127.0.0.1:1")
    assert said.startswith(f"{models / 'tiny' / '1' / 'model.skops'}: its SHA-256 is not the card's")


# The model that comes with the project


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    loaded: dict[str, Any] = load_model("spar", SHIPPED).card
    return loaded


def test_the_shipped_models_card_says_all_that_the_contract_asks(card: dict[str, Any]) -> None:
    model = load_model(f"spar/{card['version']}", SHIPPED)
    assert card["labels"] == sorted({str(r.labels[0]) for r in recordings() if r.labels is not None})
    assert (card["feature_set"], card["features"]) == (model.features.name, list(model.features.names))
    assert (card["window"], card["hop"], card["rate_hz"]) == (151, 25, 50)
    assert (card["units"]["accel"], card["units"]["gyro"]) == ("g", "deg/s")
    assert set(card["libraries"]) == set(LIBRARIES)
    assert all(card[k] for k in ("commit", "python", "made", "recipe", "recipe_text"))
    assert card["files"] == {name: sha256(model.folder / name) for name in ("model.skops", "reference.parquet")}
    for scores in card["scores"].values():
        assert scores["how"]
        assert 0.5 < scores["window_accuracy"] <= 1.0
        assert scores["windows"] > 100


def test_the_shipped_models_numbers_are_those_whose_scores_the_card_tells() -> None:
    """They were a pickle once; storing them without one changed no bit."""
    scaler, logistic = load_model("spar", SHIPPED).estimator
    numbers = (scaler.mean_, scaler.scale_, logistic.coef_, logistic.intercept_)
    assert hashlib.sha256(b"".join(n.tobytes() for n in numbers)).hexdigest() == (
        "eb65c3b7690bb136fea34e3c40c2da023ed45764e34473053b71b58a872a54ee"
    )


@pytest.mark.parametrize("n", [1, 2, 7, 500])
def test_the_linear_models_probabilities_are_those_of_scikit_learn_to_the_bit(n: int) -> None:
    model = load_model("spar", SHIPPED)
    features = np.random.default_rng(n).normal(scale=30.0, size=(n, 105))
    assert model.predict(features).tobytes() == model.estimator.predict_proba(features).tobytes()


def test_a_service_with_the_shipped_model_does_not_wait_for_scikit_learn() -> None:
    """It takes 2 s to import, and longer where all services start at once."""
    code = (
        "import sys, numpy\nfrom repstream.recognition.model import load_model\n"
        "load_model('spar').predict(numpy.zeros((1, 105)))\nassert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_who_needs_the_card_alone_needs_nothing_that_makes_classifiers() -> None:
    code = (
        "import sys\nfrom repstream.recognition.card import load_card\nload_card('spar').read_file('reference.parquet')\n"
        "assert not {'sklearn', 'joblib', 'skops', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_card_is_read_though_its_classifier_was_made_by_other_libraries(models: Path) -> None:
    card = json.loads((models / "tiny" / "1" / "card.json").read_text())
    change_card(models, libraries=card["libraries"] | {"scikit-learn": "0.1"})
    assert load_card("tiny", models).id == "tiny/1"
    assert "made with scikit-learn 0.1" in refused(models)


@pytest.mark.parametrize(
    ("labels", "steps"),
    [
        (2, [StandardScaler(), LogisticRegression()]),
        (3, [StandardScaler(with_mean=False), LogisticRegression()]),
        (3, [LogisticRegression()]),
        (3, [StandardScaler(), LinearDiscriminantAnalysis()]),
    ],
)
def test_what_is_not_quite_the_linear_model_is_read_as_scikit_learns(labels: int, steps: list[Any]) -> None:
    rng = np.random.default_rng(0)
    features, truth = rng.normal(size=(90, 4)), np.arange(90) % labels
    fitted = make_pipeline(*steps).fit(features, truth)
    read = estimators.unpack(estimators.pack(fitted), Path("here"))
    assert not isinstance(read, estimators.Linear)
    assert read.predict_proba(features).tobytes() == fitted.predict_proba(features).tobytes()


def test_the_shipped_models_data_are_those_that_are_installed(card: dict[str, Any]) -> None:
    by_name = {r.name: r for r in recordings()}
    for entry in card["data"]:
        recording = by_name[entry["name"]]
        content = recording.times_us.tobytes() + recording.values.tobytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert (entry["subject"], entry["samples"]) == (recording.subject, recording.n_samples)
    assert {entry["subject"] for entry in card["data"]} == set(card["subjects"]["train"])


def test_the_shipped_model_has_not_seen_the_people_it_is_tested_on(card: dict[str, Any]) -> None:
    train_subjects, held_out = set(card["subjects"]["train"]), set(card["subjects"]["held_out"])
    assert not train_subjects & held_out
    assert train_subjects | held_out == {r.subject for r in recordings()}


def test_the_shipped_models_score_on_unseen_people_is_what_it_does_here(card: dict[str, Any]) -> None:
    model = load_model("spar", SHIPPED)
    unseen = [r for r in recordings() if r.subject in card["subjects"]["held_out"]]
    right = []
    for recording in unseen:
        scores = score(recording, model, hop=model.window)
        assert scores.windows.labels is not None
        right += [
            model.labels[i] == t
            for i, t in zip(scores.probabilities.argmax(axis=1), scores.windows.labels, strict=True)
        ]
    promised = card["scores"]["held_out_subjects"]
    assert len(right) == promised["windows"]
    assert round(float(np.mean(right)), 4) == promised["window_accuracy"]


def test_the_shipped_models_reference_has_a_row_a_window(card: dict[str, Any]) -> None:
    table = pq.read_table(SHIPPED / "spar" / card["version"] / "reference.parquet")
    assert set(card["features"]) | {"prediction", "label"} <= set(table.column_names)
    windows = sum(len(cut(r, 151, 151).index) for r in recordings() if r.subject in card["subjects"]["train"])
    assert table.num_rows == windows
