"""Write beside this file what the ffprobe program says about the two real clips: `python
make_goldens.py FOLDER`.

Run by hand, on a machine that has ffprobe; the tests read only the JSON files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def _ffprobe(*arguments: str) -> str:
    return subprocess.run(
        ["ffprobe", *arguments], capture_output=True, check=True, text=True
    ).stdout


def golden(video: Path) -> dict[str, object]:
    """Every frame's time, and the stream's size and rate."""
    entries = "frame=pts_time:stream=width,height,avg_frame_rate,codec_name"
    told = _ffprobe(
        "-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json", str(video)
    )
    answer = json.loads(told)
    return {
        "made_by": _ffprobe("-version").splitlines()[0],
        "stream": answer["streams"][0],
        "pts_seconds": [float(frame["pts_time"]) for frame in answer["frames"]],
    }


if __name__ == "__main__":
    for clip in sorted(Path(sys.argv[1]).glob("*.m*")):
        text = json.dumps(golden(clip), indent=1) + "\n"
        Path(__file__).with_name(f"{clip.name}.json").write_text(text)
