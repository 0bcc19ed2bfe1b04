"""FFmpeg's shared libraries for torchcodec on a system without them: those in PyAV's wheel, under
their usual names.

`LD_LIBRARY_PATH=$(python -m tests.support.ffmpeg_from_wheel FOLDER) pytest ...` fills FOLDER with
links and prints the path. For tests alone: a run with torchcodec needs the system's own libraries.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import av

_BUNDLED = re.compile(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]{8}(\.so\.[0-9]+)\.")


def borrow(folder: Path) -> str:
    """The search path: links like `libavcodec.so.62` in `folder`, then the wheel's folder for what
    those need.
    """
    wheel = Path(av.__file__).resolve().parents[1] / "av.libs"
    folder.mkdir(parents=True, exist_ok=True)
    for library in wheel.iterdir():
        match = _BUNDLED.match(library.name)
        if match is not None:
            link = folder / (match[1] + match[2])
            link.unlink(missing_ok=True)
            link.symlink_to(library)
    return f"{folder.resolve()}:{wheel}"


if __name__ == "__main__":
    sys.stdout.write(borrow(Path(sys.argv[1])) + "\n")
