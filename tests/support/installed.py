"""What the image holds, installed without a container engine: same lock, same files, same user.

Paths of the image lie below a folder of our own here; everything else is read from the Dockerfile.
Two steps differ, to save minutes: packages come from uv's cache instead of pip's index, and bytecode
is copied from the environment of the tests where it has some; else only what runs import is compiled.
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.dockerfile import context, stages
from tests.support.runs import REPOSITORY

APPUSER = 1000
_INSTALL_SECONDS = 600
_COMMAND_SECONDS = 600


class Installed:
    """The image's files below a folder, which the user who runs can't write to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / "opt/venv"
        self.app = root / "opt/app"
        self.scratch = root / "scratch"
        self.environment = {
            name: self.placed(value.replace("${REVISION}", "of-this-test"))
            for name, value in stages()[-1].environment().items()
        }

    @property
    def packages(self) -> Path:
        """Folder ``site-packages`` of the virtual environment."""
        (found,) = self.venv.glob("lib/python3*/site-packages")
        return found

    def placed(self, text: str) -> str:
        """Move the image's absolute paths below our folder."""
        text = text.replace("/layers/project/", "/")
        return re.sub(r"(?<![\w}])/(opt|scratch|build|tmp)\b", rf"{self.root}/\1", text)

    def run(
        self, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a container does: its user, variables and working directory, no others."""
        with self.start(*arguments, environment=environment) as process:
            try:
                out, err = process.communicate(timeout=_COMMAND_SECONDS)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        log: int = subprocess.PIPE,
    ) -> "subprocess.Popen[str]":
        """Start such a command; what it prints goes to the file with this descriptor, if any."""
        is_root = os.getuid() == 0
        program, *rest = map(str, arguments)
        return subprocess.Popen(
            [shutil.which(program, path=self.environment["PATH"]) or program, *rest],
            cwd=self.app,
            env={**self.environment, **(environment or {})},
            user=APPUSER if is_root else None,
            group=APPUSER if is_root else None,
            extra_groups=[] if is_root else None,
            stdout=log,
            stderr=log,
            text=True,
        )

    def listing(self) -> set[tuple[str, int]]:
        """Names and times of change of everything below ``/opt``."""
        return {
            (entry.path, entry.stat(follow_symlinks=False).st_mtime_ns)
            for entry in _entries(self.root / "opt")
        }


@contextmanager
def installed() -> Iterator[Installed]:
    """Install what the image holds, and remove it in the end."""
    # Not pytest's folder, which only its owner may enter.
    with TemporaryDirectory(prefix="pollen-image-") as folder:
        image = Installed(Path(folder).resolve())
        image.root.chmod(0o755)
        _install_packages(image)
        _install_project(image)
        _copy_app(image)
        _copy_bytecode(image)
        _compile(image)
        _make_writable_folders(image)
        _protect(image, writable=False)
        try:
            yield image
        finally:
            _protect(image, writable=True)


def _install_packages(image: Installed) -> None:
    image.venv.parent.mkdir()
    _told(_python_for(image), "-m", "venv", "--without-pip", image.venv)
    uv = Path(sys.executable).with_name("uv")
    sync = (uv, "pip", "sync", "--quiet", "--require-hashes", "--python", image.venv / "bin/python")
    lock = REPOSITORY / "requirements.lock"
    # The cache and an index of the machine's own are found from the real home.
    _told(*sync, lock, environment={"HOME": pwd.getpwuid(os.getuid()).pw_dir})


def _install_project(image: Installed) -> None:
    source = image.root / "build/source"
    for name in context():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)
    (project,) = [stage for stage in stages() if stage.name == "project"]
    # Placed first: this interpreter may lie below a folder that has the name of one in the image.
    command = image.placed(project.values("RUN")[0]).replace(
        image.placed("/build/installer/bin/pip"), f"{sys.executable} -m pip"
    )
    assert f"{sys.executable} -m pip" in command, "the image installs the project in another way"
    _told("sh", "-c", command)


def _copy_app(image: Installed) -> None:
    for sources, target in stages()[-1].copied():
        for source in sources:
            where = Path(image.placed(target))
            where.parent.mkdir(parents=True, exist_ok=True)
            found = image.root / "build/source" / source
            if found.is_dir():
                shutil.copytree(found, where)
            else:
                where.mkdir(exist_ok=True)
                shutil.copy(found, where)


def _copy_bytecode(image: Installed) -> None:
    """Take over the bytecode of packages; Python itself passes over that of other files than ours."""
    ours = Path(sysconfig.get_path("purelib"))
    for folder, _, _ in os.walk(ours):
        target = image.packages / Path(folder).relative_to(ours)
        if Path(folder).name == "__pycache__" and target.parent.is_dir():
            shutil.copytree(folder, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    """Save the time of a copy where both lie on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _compile(image: Installed) -> None:
    """Have Python write the bytecode that is still missing of what the health command imports."""
    with TemporaryDirectory() as home:
        writable = {"PYTHONDONTWRITEBYTECODE": "", "HOME": home}
        libraries = {"MPLCONFIGDIR": home, "YOLO_CONFIG_DIR": home}
        python = image.venv / "bin/python"
        _told(python, "-m", "services.health", environment=writable | libraries, folder=image.app)


def _make_writable_folders(image: Installed) -> None:
    for folder in (image.scratch, image.root / "tmp"):
        folder.mkdir()
        if os.getuid() == 0:
            os.chown(folder, APPUSER, APPUSER)


def _protect(image: Installed, *, writable: bool) -> None:
    """Take the right to write from whoever isn't root; root's files are out of the user's reach.

    Packages are hard links into uv's cache, so only folders and our own files may change.
    """
    if os.getuid() == 0:
        return
    for entry in _entries(image.root / "opt"):
        if entry.is_dir(follow_symlinks=False):
            Path(entry.path).chmod(0o755 if writable else 0o555)


def _python_for(image: Installed) -> Path:
    """An interpreter like ours that user 1000 can run: ours often lies in root's home."""
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    ours = Path(sys.base_prefix, "bin", f"python{wanted}")
    for candidate in (ours, Path("/usr/local/bin/python3"), Path("/usr/bin/python3")):
        if _runs_for_user(candidate, wanted):
            return candidate
    copied = image.root / "usr"
    shutil.copytree(
        sys.base_prefix,
        copied,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__", "share"),
    )
    return copied / "bin" / ours.name


def _runs_for_user(python: Path, wanted: str) -> bool:
    code = f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != {wanted!r})"
    is_root = os.getuid() == 0
    try:
        told = subprocess.run(
            [python, "-I", "-c", code],
            user=APPUSER if is_root else None,
            group=APPUSER if is_root else None,
            extra_groups=[] if is_root else None,
            cwd="/",
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return told.returncode == 0


def _told(
    *command: str | Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> None:
    told = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(environment or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    assert told.returncode == 0, f"{command}\n{told.stdout}\n{told.stderr}"


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
