"""Real videos with seeded damage, through a real shard, beside the ffmpeg program and beside videos
that are whole.

    python -m tests.support.file_mutations VIDEO --count 200 --seed 1

makes a small copy of VIDEO in each container, `count` damaged ones of each, and a shard of all that
are of one of them, with a whole video after every tenth. Ends with status 1 if a damaged video has
fewer rows than ffmpeg decodes pictures and nothing says so, if a whole one ends otherwise than
alone, or if the parent of the decoder fails. What is told of besides: videos that have fewer rows
than before they were damaged, where neither ffmpeg nor anybody else notices.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.media.decode_settings import DecodeLimits
from pipeline.media.media_file import Media
from storage.base.paths import Layout
from storage.base.video_status import State, VideoStatus
from storage.features.manifest import ManifestEntry
from tasks.reporting.data_quality import frame_loss
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import FFMPEG, ffmpeg

CONTAINERS = {
    "mp4": ("-c:v", "libx264", "-c:a", "aac", "-movflags", "+faststart"),
    "mkv": ("-c:v", "libx264", "-c:a", "aac"),
    "webm": ("-c:v", "libvpx", "-b:v", "150k", "-c:a", "libopus"),
    "ts": ("-c:v", "libx264", "-c:a", "aac"),
    "flv": ("-c:v", "libx264", "-c:a", "aac"),
    "avi": ("-c:v", "mpeg4", "-c:a", "mp3"),
    "ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
}
BYSTANDER_EVERY = 10
FFMPEG_SECONDS = 60
LIMITS = DecodeLimits(max_pixels=4096 * 4096, stall_seconds=30)
VARIANT = tiny_variant("pictures", EveryFrame(), 1)


def flipped(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.choice((1, 2, 5, 20, 100))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def zeroed(whole: bytes, rng: random.Random) -> bytes:
    start, end = run_of(whole, rng)
    return whole[:start] + bytes(end - start) + whole[end:]


def deleted(whole: bytes, rng: random.Random) -> bytes:
    start, end = run_of(whole, rng)
    return whole[:start] + whole[end:]


def doubled(whole: bytes, rng: random.Random) -> bytes:
    start, end = run_of(whole, rng)
    return whole[:end] + whole[start:]


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole) // 20, len(whole))]


def run_of(whole: bytes, rng: random.Random) -> tuple[int, int]:
    length = rng.randint(1, max(1, len(whole) // rng.choice((10, 100, 1000))))
    start = rng.randrange(len(whole) - length)
    return start, start + length


KINDS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped,
    zeroed,
    deleted,
    doubled,
    cut,
)


@dataclass
class Outcome:
    """What became of the damaged files of one container."""

    container: str
    files: int = 0
    done: int = 0
    noted: int = 0
    """Done, with a note of what was lost."""
    fewer: int = 0
    """Done with fewer rows than there were, and noted."""
    refused: dict[str, int] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    """Files with fewer rows than ffmpeg decodes pictures, and no note."""
    unnoticed: list[str] = field(default_factory=list)
    """Files with fewer rows than there were, and no note; ffmpeg decodes no more."""
    bystanders: int = 0
    touched: list[str] = field(default_factory=list)
    """Whole videos that ended otherwise than alone."""

    @property
    def holds(self) -> bool:
        return not self.silent and not self.touched

    def __str__(self) -> str:
        refused = (
            ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items()))
            or "none"
        )
        parts = (
            f"{self.container}: {self.files} damaged files, {self.done} done",
            f"{self.noted} with a note, of which {self.fewer} have fewer rows than before",
            f"refused: {refused}",
            f"fewer rows than ffmpeg without a note: {len(self.silent)} {' '.join(self.silent)}".rstrip(),
            f"fewer rows than before, noticed by nobody: {len(self.unnoticed)} {' '.join(self.unnoticed)}".rstrip(),
            f"bystanders touched: {len(self.touched)} of {self.bystanders}",
        )
        return "; ".join(parts)


def small_copy(video: Path, path: Path) -> None:
    """Four seconds, 64 pixels wide, 10 pictures a second, with sound, which real files have between
    their pictures.
    """
    sound = ("-f", "lavfi", "-i", "sine=duration=4")
    maps = (
        "-map",
        "0:v:0",
        "-map",
        "1",
        "-t",
        "4",
        "-vf",
        "fps=10,scale=64:48",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "10",
    )
    ffmpeg(
        "-i", video, *sound, *maps, *CONTAINERS[path.suffix[1:]], "-metadata", "title=a film", path
    )


def ffmpegs_pictures(path: Path) -> int:
    """How many pictures ffmpeg decodes of the stream that it takes; 0 where it gives up at once."""
    command = [
        FFMPEG,
        "-v",
        "quiet",
        "-threads",
        "1",
        "-i",
        path,
        "-an",
        "-sn",
        "-dn",
        "-fps_mode",
        "passthrough",
    ]
    command += ["-f", "framemd5", "-"]
    try:
        told = subprocess.run(
            command, capture_output=True, check=False, timeout=FFMPEG_SECONDS
        ).stdout
    except subprocess.TimeoutExpired as late:
        told = late.stdout or b""
    return sum(not line.startswith(b"#") for line in told.splitlines())


def campaign(video: Path, container: str, count: int, seed: int, folder: Path) -> Outcome:
    """Damage, decode, compare: one shard. What raises here is a crash of the parent."""
    whole, bystander = folder / f"whole.{container}", folder / "bystander.mp4"
    small_copy(video, whole)
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=48x32:rate=5:duration=2",
        "-pix_fmt",
        "yuv420p",
        bystander,
    )
    rng = random.Random(f"{seed} {container}")
    files: dict[str, Path] = {}
    for number in range(count):
        video_id = f"v{number:05d}-{KINDS[number % len(KINDS)].__name__}"
        files[video_id] = folder / f"{video_id}.{container}"
        files[video_id].write_bytes(KINDS[number % len(KINDS)](whole.read_bytes(), rng))
        if number % BYSTANDER_EVERY == BYSTANDER_EVERY - 1:
            files[f"v{number:05d}-whole"] = bystander
    entries = through_a_shard(files, folder)
    outcome, before = Outcome(container), ffmpegs_pictures(whole)
    (alone,) = through_a_shard({"whole": bystander}, folder / "alone").values()
    for video_id, path in files.items():
        if path == bystander:
            outcome.bystanders += 1
            outcome.touched += [] if as_told(entries[video_id]) == as_told(alone) else [video_id]
        else:
            judge(outcome, video_id, entries[video_id], ffmpegs_pictures(path), before)
    return outcome


def as_told(entry: ManifestEntry) -> tuple[object, ...]:
    return entry.status, entry.rows, entry.facts.get("probe"), entry.facts.get("decode")


def judge(
    outcome: Outcome, video_id: str, entry: ManifestEntry, pictures: int, before: int
) -> None:
    outcome.files += 1
    if entry.status.state is not State.DONE:
        outcome.refused[entry.status.reason] = outcome.refused.get(entry.status.reason, 0) + 1
        return
    outcome.done += 1
    if frame_loss(entry):
        outcome.noted += 1
        outcome.fewer += entry.rows < before
    elif entry.rows < pictures:
        outcome.silent.append(f"{video_id} ({entry.rows} of {pictures})")
    elif entry.rows < before:
        outcome.unnoticed.append(f"{video_id} ({entry.rows} of {before})")


def through_a_shard(files: dict[str, Path], folder: Path) -> dict[str, ManifestEntry]:
    def fetch(video_id: str, _: bool) -> Media:
        content = files[video_id].read_bytes()
        return Media(files[video_id], hashlib.sha256(content).hexdigest(), len(content))

    def told(video_id: str, status: VideoStatus) -> None:
        return None

    job = ShardJob(
        Layout(folder / "data", "mutations"), 0, tuple(sorted(files)), (VARIANT,), 10_000_000
    )
    with SubprocessDecoder(limits=LIMITS) as decoder:
        process_shard(job, fetch=fetch, decoder=decoder, device="cpu", on_video=told)
    manifest = job.manifest(VARIANT)
    assert manifest is not None
    return dict(manifest.entries)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.file_mutations")
    parser.add_argument("video", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--container", choices=CONTAINERS, action="append")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the files, to look at them afterwards"
    )
    asked = parser.parse_args(arguments)
    holds = True
    for container in asked.container or CONTAINERS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (asked.keep or Path(temporary)) / container
            folder.mkdir(parents=True)
            outcome = campaign(asked.video, container, asked.count, asked.seed, folder)
        sys.stdout.write(f"{outcome}\n")
        holds = holds and outcome.holds
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
