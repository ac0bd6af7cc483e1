"""What the documentation mentions exists: commands, options, variables, modules, targets, tests, metrics, paths."""

from __future__ import annotations

import re
from functools import cache

import pytest

from bench.command import PARTS
from docs.generate.commands import OTHER_VARIABLES, arguments_of, commands, options_of, root
from docs.generate.metrics import PREFIX, SERVICES, metrics_of
from producer.faults.parse import FAULTS, parse_fault
from repstream.messages.fields import REJECT_REASONS
from repstream.messages.messages import ALARM_CAUSES, LEDGER_FATES
from repstream.messages.packet import decode_packet
from store.sql import ALARMS, PREDICTIONS
from tests.documents import PACKAGES, PAGES, ROOT, Code, codes, missing_part, names_in, slugs_of, sources, text_of

COMMANDS = dict(commands())
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
EVERYWHERE = {"--help", "--version", "--log-level", "-h"}


def options_by_command() -> dict[str, set[str]]:
    return {
        name: {opt for option in options_of(command) for opt in (*option.opts, *option.secondary_opts)} | EVERYWHERE
        for name, command in COMMANDS.items()
    }


OPTIONS = options_by_command()

# Commands of others, whose options are not ours to check.
OTHERS = (
    "docker ",
    "kubectl ",
    "kustomize ",
    "prometheus ",
    "pip ",
    "sqlite3 ",
    "uvx ",
    "pipx ",
    "apt-get ",
    "pip-audit",
    "kafka-transactions.sh ",
)

# Options of other tools that pages name without the tool: docker's and pip's.
OTHERS_OPTIONS = {"--build-arg", "--target", "--user"}


def invocations() -> list[tuple[Code, str, str]]:
    """Each ``repstream COMMAND …`` of the pages: where, the command, the rest."""
    found = []
    for code in (c for c in codes() if not c.text.startswith("kubectl")):
        # In compose, `tools` is the image whose entry point is repstream.
        for call in re.finditer(
            r"(?:(?<![\w./-])|\.venv/bin/)(?:repstream|run --rm tools) ([a-z][\w-]*)(?: ([a-z]+)\b)?([^|;&#]*)",
            code.text,
        ):
            first, second, rest = call[1], call[2] or "", call[3]
            if first in GROUPS:
                found.append((code, f"{first} {second}".strip(), rest))
            else:
                found.append((code, first, f"{second} {rest}"))
    return found


def test_every_command_that_is_mentioned_exists() -> None:
    wrong = [f"{code} ({name})" for code, name, _ in invocations() if name not in COMMANDS and name not in GROUPS]
    assert wrong == []
    assert len(invocations()) > 100


def test_every_option_of_a_command_that_is_mentioned_is_one_of_that_command() -> None:
    wrong = [
        f"{code} ({option})"
        for code, name, rest in invocations()
        if name in COMMANDS
        for option in re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", rest)
        if option not in OPTIONS[name]
    ]
    assert wrong == []


def test_every_option_that_is_mentioned_alone_is_one_of_some_command() -> None:
    ours = set().union(*OPTIONS.values())
    wrong = [
        f"{code} ({option})"
        for code in codes()
        if not any(other in f"{code.text} " for other in OTHERS) and "/python " not in code.text
        for option in re.findall(r"(?<![\w-])(--[a-z][\w-]*)", code.text.split("# ")[0])
        if option not in ours | OTHERS_OPTIONS
    ]
    assert wrong == []


def test_every_benchmark_that_is_mentioned_exists() -> None:
    wrong = [
        f"{code} ({word})"
        for code, name, rest in invocations()
        if name == "bench"
        for word in re.findall(r"^[a-z]+", rest.strip())
        if word not in PARTS
    ]
    assert wrong == []


def test_every_fault_that_is_injected_in_an_example_can_be() -> None:
    specs = [spec for code in codes() for spec in re.findall(r"--inject '?([a-z][^\s'\])]*)", code.text)]
    assert len(specs) > 8
    for spec in specs:
        parse_fault(spec.replace("LABEL", "ROW"))


def test_the_page_of_faults_has_each_kind_and_no_other() -> None:
    kinds = set(re.findall(r"^\| `([a-z-]+)` \|", text_of("docs/how-to/faults.md"), re.M))
    assert kinds == set(FAULTS)


@cache
def variables() -> set[str]:
    """The environment variables that there are: of options, of code, of tests and of the compose set-up."""
    options = {o.envvar for c in (root(), *COMMANDS.values()) for o in options_of(c) if isinstance(o.envvar, str)}
    options |= {a.envvar for c in COMMANDS.values() for a in arguments_of(c) if isinstance(a.envvar, str)}
    tests = {
        v
        for path, text in sources().items()
        if path.startswith("tests/")
        for v in re.findall(r"\bREPSTREAM_TEST_\w+", text)
    }
    return options | {name for name, *_ in OTHER_VARIABLES} | tests


def test_every_variable_of_ours_that_is_mentioned_is_read_somewhere() -> None:
    compose = set(re.findall(r"\bREPSTREAM_[A-Z_]*[A-Z]\b", text_of("docker-compose.yml")))
    wrong = {
        f"{page.name}: {name}"
        for page in PAGES
        for name in re.findall(r"\bREPSTREAM_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
        if name not in variables() | compose
    }
    assert wrong == set()


def test_every_variable_that_code_reads_is_in_the_reference() -> None:
    read = {
        name
        for path, text in sources().items()
        if not path.startswith(("tests/", "docs/"))
        for name in re.findall(r"\"(REPSTREAM_[A-Z_]+)\"", text)
    }
    assert read <= variables()


def test_every_other_name_in_capitals_stands_in_the_code_or_its_settings() -> None:
    files = [".env.example", "docker-compose.yml", "Dockerfile", "Makefile", "deploy/env.py", *sources()]
    files += [f.relative_to(ROOT).as_posix() for f in (ROOT / "deploy").rglob("*.y*ml")]
    known = set(re.findall(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]", "\n".join(map(text_of, files))))
    # glibc's and git's own.
    known |= {"MALLOC_MMAP_THRESHOLD_"}
    wrong = {
        f"{code.page}: {name}"
        for code in codes()
        for name in re.findall(r"(?<![\w$…])[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9_](?!…)", code.text)
        if name not in known
    }
    assert wrong == set()


def test_every_target_of_make_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.M))
    asked = [
        (code, word)
        for code in codes()
        for found in re.findall(r"^make ((?:[a-z-]+ ?)+)", code.text)
        for word in found.split()
    ]
    assert len(asked) > 10
    assert [f"{code} ({word})" for code, word in asked if word not in targets] == []


PATH = re.compile(
    rf"(?<![\w./-])((?:{'|'.join(PACKAGES)}|models|deploy|prometheus|experiments)/[\w./*-]*\w/?)(?![\w…])"
)


def is_there(path: str) -> bool:
    """Whether a path names files of the project, or an image that compose builds."""
    return bool(list(ROOT.glob(path))) or f"image: {path}\n" in text_of("docker-compose.yml")


def test_every_path_that_is_mentioned_exists() -> None:
    wrong = {
        f"{code.page}: {path}"
        for code in codes()
        for path in PATH.findall(code.text)
        if not is_there(path) and not re.search(r"[A-Z]{3}|build/", path)
    }
    assert wrong == set()


def test_every_page_that_code_names_exists() -> None:
    others = [".env.example", "docker-compose.yml", "Dockerfile", "prometheus/local.yml"]
    for path in [
        *sources(),
        *others,
        *(f.relative_to(ROOT).as_posix() for f in ROOT.glob("grafana/dashboards/*.json")),
    ]:
        for page in re.findall(r"\bdocs/[\w/-]+\.md", text_of(path)):
            assert (ROOT / page).is_file(), f"{path} names {page}"


DOTTED = re.compile(rf"(?<![\w./@:-])((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)(?![\w/])")


def test_every_module_and_name_that_is_mentioned_exists() -> None:
    wrong = {
        f"{code.page}: {dotted}"
        for code in codes()
        for dotted in DOTTED.findall(code.text)
        if missing_part(dotted) and dotted.rsplit(".", 1)[-1] not in {"db", "yml", "py", "md"}
    }
    assert wrong == set()


@pytest.mark.slow
def test_every_name_of_ours_that_a_docstring_points_to_exists() -> None:
    wrong = {
        f"{path}: {dotted}"
        for path, text in sources().items()
        for dotted in re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)`", text)
        if missing_part(dotted)
    }
    assert wrong == set()


def test_every_module_that_is_run_exists() -> None:
    asked = {(code.page, name) for code in codes() for name in re.findall(r"python3? -m ([\w.]+)", code.text)}
    assert {("docs/results.md", "bench.start")} <= asked
    for page, name in asked:
        file = ROOT / f"{name.replace('.', '/')}"
        assert (
            file.with_suffix(".py").is_file() or (file / "__main__.py").is_file() or name in {"pytest", "pip", "venv"}
        ), page


@pytest.mark.slow
def test_every_test_that_is_mentioned_exists() -> None:
    stems = {path.rsplit("/", 1)[-1].removesuffix(".py") for path in sources()}
    functions = {name for path in sources() if path.startswith("tests/") for name in names_in(path)}
    wrong = {
        f"{code.page}: {name}"
        for code in codes()
        for name in re.findall(r"\btest_\w+", code.text)
        if name not in stems | functions
    }
    assert wrong == set()


def test_every_metric_that_is_mentioned_exists() -> None:
    there = {name for service in SERVICES for name in metrics_of(service)}
    wrong = {
        f"{code.page}: {name}"
        for code in codes()
        for name in re.findall(
            rf"^(?:{PREFIX})?([a-z0-9_]+(?:_total|_seconds|_ratio|_score)|[a-z0-9_]+(?=\{{\w+))", code.text
        )
        if name not in there
    }
    assert wrong == set()


def test_every_address_on_a_service_that_is_mentioned_is_served() -> None:
    served = "\n".join(
        text for path, text in sources().items() if path.startswith(("monitor/page/", "repstream/service/"))
    )
    routes = set(re.findall(r"\"(/[a-z]+)", served))
    wrong = {
        f"{code.page}: {path}"
        for code in codes()
        if not code.is_block
        for path in re.findall(r"^(/[a-z]+)(?:[/?]\S*)?$", code.text)
        if path not in routes | {"/tmp", "/etc", "/var", "/proc"}
    }
    assert {"/healthz", "/livez", "/monitoring", "/reports"} <= routes
    assert wrong == set()


def test_the_example_of_a_packet_is_one() -> None:
    (example,) = re.findall(r"```json\n(.+?)```", text_of("docs/reference/messages.md"), re.S)
    assert decode_packet(example.encode(), b"spar-s01-left").seq == 17


def test_reasons_fates_and_causes_are_those_of_the_code() -> None:
    page = text_of("docs/reference/messages.md")
    refused = page.split("## Why a packet is refused\n")[1]
    assert set(re.findall(r"`([a-z-]+)`", refused)) == set(REJECT_REASONS)
    rows = re.findall(r"^\| (`.+?) \|", page.split("| of `samples` | |\n")[1].split("\n\n")[0], re.M)
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} == {"sent", *LEDGER_FATES}
    causes = re.search(r"^Causes: ([^.]+)\.", text_of("docs/explanation/alarms.md"), re.M)
    assert causes
    assert set(re.findall(r"`([a-z-]+)`", causes[1])) <= set(ALARM_CAUSES)


@pytest.mark.parametrize("table", [PREDICTIONS, ALARMS], ids=lambda t: t.name)
def test_every_column_that_the_store_is_said_to_have_exists(table: object) -> None:
    name = table.name  # type: ignore[attr-defined]
    columns = {column.name for column in table.columns}  # type: ignore[attr-defined]
    rows = text_of("docs/how-to/store.md").split(f"| `{name}` | type in SQL | |\n")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(row.split(" | ")[0] for row in rows.splitlines()))) == columns


def test_anchors_of_links_within_the_documentation_exist() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            there = (page.parent / target) if target else page
            assert anchor in slugs_of(there), f"{page.name}: {target}#{anchor}"


def test_defaults_told_in_words_are_those_of_the_options() -> None:
    defaults: dict[str, set[float]] = {}
    for command in COMMANDS.values():
        for option in options_of(command):
            if isinstance(option.default, int | float):
                defaults.setdefault(option.opts[0], set()).add(float(option.default))
    told = [
        (page.name, option, float(number.replace(",", "")) * (60 if unit == "min" else 1))
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for option, number, unit in re.findall(
            r"`(--[a-z-]+)`(?: messages)?\s\(([\d,.]+)\s?(s|min)?\b", page.read_text(encoding="utf-8")
        )
    ]
    assert len(told) > 5
    assert [one for one in told if one[2] not in defaults[one[1]]] == []


def test_labels_of_metrics_that_are_mentioned_exist() -> None:
    there = {name: set(metric._labelnames) for service in SERVICES for name, metric in metrics_of(service).items()}
    for code in codes():
        for name, labels in re.findall(r"\b([a-z0-9_]+)\{([a-z]+(?:=\"[^\"]*\")?(?:,[a-z]+)*)\}", code.text):
            said = {label.split("=")[0] for label in labels.split(",")}
            assert said <= there[name.removeprefix(PREFIX)], str(code)


def test_services_of_compose_that_are_mentioned_exist() -> None:
    services = set(re.findall(r"^  ([a-z]+):$", text_of("docker-compose.yml").split("\nservices:")[1], re.M))
    asked = [
        (code, name)
        for code in codes()
        for name in re.findall(r"docker compose (?:up -d|exec|logs -f|logs --tail \d+|ps) ([a-z]+)", code.text)
    ]
    assert len(asked) > 5
    assert [f"{code} ({name})" for code, name in asked if name not in services] == []


def test_every_other_name_with_an_underscore_stands_in_the_code() -> None:
    """Fields, keys of JSON, functions: whatever is named like one."""
    files = [*sources(), "docker-compose.yml", "pyproject.toml", "models/spar/1/card.json"]
    files += [
        f.relative_to(ROOT).as_posix()
        for pattern in ("deploy/**/*.y*ml", "prometheus/**/*.yml")
        for f in ROOT.glob(pattern)
    ]
    words = set(
        re.findall(r"[a-z0-9_]+", "\n".join(text_of(file) for file in files if file != "tests/test_docs_names.py"))
    )
    wrong = {
        str(code)
        for code in codes()
        # A decision names what was not taken, too.
        if not code.is_block and not code.page.startswith("docs/decisions/")
        if re.fullmatch(r"(?!test_)[a-z][a-z0-9]*(_[a-z0-9]+)+", code.text)
        if not {code.text, f"{PREFIX}{code.text}", code.text.removesuffix("_total")} & words
    }
    assert wrong == set()
