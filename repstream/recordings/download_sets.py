"""Public data sets that `repstream recordings download` knows: where their publishers keep them, and their hashes."""

from __future__ import annotations

from dataclasses import dataclass

_UCI = "https://archive.ics.uci.edu/static/public"
_GITHUB = "https://github.com"


@dataclass(frozen=True)
class PublicFile:
    """A file of a data set.

    Attributes
    ----------
    name : str
        What it is called on disk, and below a mirror's address.
    address : str
        Where its publisher keeps it.
    sha256 : str
        Empty where it is not known; then the hash of the first download is recorded and later ones are held to it.
    size : int
        Bytes; 0 where not known.
    """

    name: str
    address: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class PublicSet:
    """A data set.

    Attributes
    ----------
    name : str
        That of the format which imports it; title and licence are the format's.
    about : str
        What is in it.
    files : tuple of PublicFile
    """

    name: str
    about: str
    files: tuple[PublicFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files; 0 where one of them is not known."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if all(sizes) else 0


# RecoFit's hashes and sizes are those that its repository states for Git LFS. UCI publishes none: these are of its
# archives as several projects that pin them have found them.
SETS: dict[str, PublicSet] = {
    one.name: one
    for one in (
        PublicSet(
            "recofit",
            "94 people, gym exercises with pauses between, right arm, 50 Hz",
            tuple(
                PublicFile(
                    name,
                    "https://media.githubusercontent.com/media/microsoft/"
                    f"Exercise-Recognition-from-Wearable-Sensors/main/{name}",
                    sha256,
                    size,
                )
                for name, sha256, size in (
                    (
                        "exercise_data.50.0000_singleonly.mat",
                        "70eea039362555daccb00065e3775ce37fff421f18d533c60933a9d859f33f8a",
                        1_562_300_284,
                    ),
                    (
                        "exercise_data.50.0000_multionly.mat",
                        "d14a8fa3a6ddb6740ff09f7aa4a3039d3ee5524513a8d4b65ac66e00d14ab509",
                        1_571_881_721,
                    ),
                )
            ),
        ),
        PublicSet(
            "uci-har",
            "30 people, six everyday activities, phone at the waist, 50 Hz",
            (
                PublicFile(
                    "uci-har.zip",
                    f"{_UCI}/240/human+activity+recognition+using+smartphones.zip",
                    "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
                    61_005_872,
                ),
            ),
        ),
        PublicSet(
            "uci-hapt",
            "30 people, the same activities and the transitions between them, unbroken, 50 Hz",
            (
                PublicFile(
                    "uci-hapt.zip",
                    f"{_UCI}/341/smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
                    "4ac4ae064227c07045a99551876b54d204837e995e298b6488559e209b3deb09",
                    79_596_192,
                ),
            ),
        ),
        PublicSet(
            "motionsense",
            "24 people, six activities, phone in a front pocket, 50 Hz",
            (
                PublicFile(
                    "A_DeviceMotion_data.zip",
                    f"{_GITHUB}/mmalekzadeh/motion-sense/raw/master/data/A_DeviceMotion_data.zip",
                ),
            ),
        ),
        PublicSet(
            "spar",
            "20 people, seven shoulder exercises, watch on either wrist, 50 Hz",
            (PublicFile("SPAR-dataset.zip", f"{_GITHUB}/dmbee/SPAR-dataset/archive/refs/heads/master.zip"),),
        ),
    )
}
