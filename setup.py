"""What pyproject.toml cannot say: the wheel carries files that lie beside the code, for `repstream.shipped`."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithShipped(build_py):
    """Copies them into the package; an editable installation finds them where they are."""

    def _copies(self) -> dict[str, str]:
        """Return where each file goes, by its path in the checkout."""
        found = {}
        for pattern in (ROOT / "repstream" / "shipped.txt").read_text(encoding="utf-8").split():
            files = [path.relative_to(ROOT) for path in sorted(ROOT.glob(pattern)) if path.is_file()]
            if not files:
                raise FileNotFoundError(f"there is no {pattern} here, which the wheel must carry")
            found |= {str(path): str(Path(self.build_lib) / "repstream" / "_shipped" / path) for path in files}
        return found

    def run(self) -> None:
        """Build as always, then copy."""
        super().run()
        if not self.editable_mode:
            for source, target in self._copies().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        """Name them for the source distribution, too."""
        return [*super().get_source_files(), *self._copies()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name what is built."""
        copied = [] if self.editable_mode else self._copies().values()
        return [*super().get_outputs(include_bytecode), *copied]


setup(cmdclass={"build_py": BuildWithShipped})
