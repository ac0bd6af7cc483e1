"""Data flows one way, and so do imports: read from the source, without running it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each package or module of repstream imports only those before it.
ORDER = [
    "errors",
    "shipped",
    "arrays",
    "palette",
    "processes",
    "service",
    "recordings",
    "messages",
    "windows",
    "features",
    "faults",
    "recognition",
    "alarms",
    "kafka",
    "broker",
]

# Nothing here needs more than numpy: a producer's image, or someone's notebook, stays small.
LIGHT = (
    "errors.py",
    "arrays.py",
    "palette.py",
    "recordings/recording.py",
    "windows",
    "features",
    "faults",
)

SERVICES = ("producer", "predictor", "monitor", "store")
ABOVE_REPSTREAM = (*SERVICES, "training", "demo", "bench")

KAFKA_IMPORTERS = {f"repstream/kafka/{name}.py" for name in ("clients", "connection", "lives", "records", "topics")}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place_of(file: Path) -> str:
    """Name a file of repstream as ORDER does."""
    return file.relative_to(ROOT / "repstream").with_suffix("").parts[0]


def offences(package: str, forbidden: tuple[str, ...], excepting: str = "") -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sources(package)
        if not excepting or excepting not in str(file.relative_to(ROOT))
        for name in imported(file)
        if any(name == f or name.startswith(f + ".") for f in forbidden)
    ]


def test_repstream_imports_no_service() -> None:
    assert offences("repstream", (*ABOVE_REPSTREAM, "cli")) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service_nor_training(service: str) -> None:
    others = tuple(p for p in ABOVE_REPSTREAM if p != service)
    assert offences(service, others) == []


@pytest.mark.slow
@pytest.mark.parametrize("package", ABOVE_REPSTREAM)
def test_nobody_imports_the_roof(package: str) -> None:
    assert offences(package, ("cli",)) == []


def test_training_imports_no_service() -> None:
    assert offences("training", (*SERVICES, "demo", "bench", "repstream.kafka", "kafka")) == []


def test_every_module_of_repstream_has_its_place_in_the_order() -> None:
    there = {place_of(f) for f in sources("repstream")} - {"__init__", "__main__"}
    assert there == set(ORDER)
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.slow
def test_each_package_of_repstream_imports_only_those_before_it() -> None:
    wrong = []
    for file in sources("repstream"):
        here = place_of(file)
        if here in ("__init__", "__main__"):
            continue
        for name in imported(file):
            parts = name.split(".")
            if parts[0] == "repstream" and parts[1] in ORDER and ORDER.index(parts[1]) > ORDER.index(here):
                wrong.append(f"{here} imports {parts[1]}")
    assert wrong == []


@pytest.mark.parametrize("part", LIGHT)
def test_the_core_needs_nothing_beyond_numpy(part: str) -> None:
    files = [ROOT / "repstream" / part] if part.endswith(".py") else sources(f"repstream/{part}")
    roots = {name.split(".")[0] for file in files for name in imported(file)}
    assert roots - set(sys.stdlib_module_names) <= {"numpy", "repstream"}


def test_the_defaults_of_options_cost_no_library() -> None:
    """What a command takes its defaults from is imported for ``--help``."""
    modules = "monitor.settings, producer.settings, producer.options, demo.settings"
    heavy = "{'numpy', 'msgspec', 'kafka', 'pyarrow', 'prometheus_client'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "[]\n"


@pytest.mark.slow
def test_kafka_python_is_imported_in_one_place() -> None:
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("repstream", *(p for p in ABOVE_REPSTREAM if (ROOT / p).is_dir()))
        for file in sources(package)
        if any(name.split(".")[0] == "kafka" for name in imported(file))
    }
    assert found == KAFKA_IMPORTERS


# What a service works out, apart from where its messages come from.
CORES = ("monitor/drift", "monitor/alarms", "predictor/engine", "producer/replay", "producer/faults")
# The monitor without its screens, which are handed to it as observers.
MONITOR_CORE = (
    "drift",
    "alarms",
    "reports",
    "service.py",
    "intake.py",
    "places.py",
    "settings.py",
    "ledger_sums.py",
    "metrics.py",
)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for package in ("repstream", *ABOVE_REPSTREAM, "cli") for file in sources(package)}


def our_imports(file: Path) -> set[str]:
    """Name the modules of ours that a file imports."""
    names = set(imported(file))
    return {name for name in names if name in MODULES} | {
        parent for name in names if (parent := name.rpartition(".")[0]) in MODULES and name not in MODULES
    }


def reached_from(files: Iterable[Path]) -> set[str]:
    """Name all modules of ours that are imported, directly or by what is imported."""
    left, reached = {m for file in files for m in our_imports(file)}, set[str]()
    while left:
        module = left.pop()
        reached.add(module)
        left |= our_imports(MODULES[module]) - reached
    return reached


def files_of(places: Iterable[str]) -> list[Path]:
    return [f for place in places for f in ([ROOT / place] if place.endswith(".py") else sources(place))]


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_a_core_knows_no_kafka(core: str) -> None:
    assert sources(core)
    reached = reached_from(sources(core))
    assert {m for m in reached if m.startswith("repstream.kafka")} == set()
    assert offences(core, ("kafka",)) == []


def test_the_monitor_does_not_know_who_looks_at_it() -> None:
    reached = reached_from(files_of(f"monitor/{place}" for place in MONITOR_CORE))
    assert {m for m in reached if m.startswith(("monitor.live", "monitor.page", "monitor.command"))} == set()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["repstream", *ABOVE_REPSTREAM])
def test_there_are_no_circles_within_a_package(package: str) -> None:
    """Folders below a package, and the modules beside them, import each other in one direction only."""

    def place(module: str) -> str:
        return ".".join(module.split(".")[:2])

    graph: dict[str, set[str]] = {}
    for file in sources(package):
        here = place(module_of(file))
        graph.setdefault(here, set()).update(
            place(m) for m in our_imports(file) if m.startswith(f"{package}.") and place(m) != here
        )
    sorted_places = TopologicalSorter(graph)
    sorted_places.prepare()  # a circle is a CycleError, which names it


def test_what_this_test_reads_is_what_there_is() -> None:
    assert {"repstream.errors.ModelError", "repstream.features.sets.feature_set"} <= set(
        imported(ROOT / "repstream" / "recognition" / "card.py")
    )
    assert "predictor.service.Predictor" in set(imported(ROOT / "predictor" / "command.py"))
    assert len(sources("predictor")) > 3
    assert {"repstream.kafka.connection", "monitor.service"} <= reached_from([ROOT / "monitor" / "command.py"])
