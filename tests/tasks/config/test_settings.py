"""Settings: every key documented, every fault told at once, nothing heavy imported for a look at
the help.
"""

from __future__ import annotations

import configparser
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.config.sections import SECTION_TYPES, section_descriptions
from tests.conftest import REPOSITORY
from tests.support.luigi_server import run_luigi


def luigi(
    folder: Path, *options: str, config: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {"LUIGI_CONFIG_PATH": str(config)} if config else {}
    return run_luigi(folder, "--module", "tasks", *options, environment=environment)


def changed_config(folder: Path, **changes: str) -> Path:
    """A copy of workflows.cfg with `section__key=value` changes."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "workflows.cfg")
    for place, value in changes.items():
        section, _, key = place.partition("__")
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, key, value)
    path = folder / "other.cfg"
    with path.open("w") as file:
        parser.write(file)
    return path


def test_every_setting_has_a_default_and_a_description() -> None:
    for name, kind in SECTION_TYPES.items():
        fields = {field.name: field for field in dataclasses.fields(kind)}
        described = section_descriptions(name)
        assert described.keys() == fields.keys(), f"[{name}]"
        assert all(field.default is not dataclasses.MISSING for field in fields.values()), name
        assert all(len(text) > 10 for text in described.values()), f"[{name}] {described}"


def test_the_settings_file_of_the_repository_changes_nothing() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "workflows.cfg")
    set_here = {section: dict(parser.items(section)) for section in parser.sections()}
    assert not any(set_here.values()), (
        "workflows.cfg of the repository changes nothing: put settings into a file of your own "
        "(--config mine.cfg) or on the command line, such as --extract-extractors NAME"
    )


def test_all_faults_are_told_at_once_and_nothing_starts(tmp_path: Path) -> None:
    done = luigi(
        tmp_path, "BuildFeatures", "--catalog", "phd2", "--shards", "7-3", "--retry", "tired",
        "--download-source", "ftp://x/{id}", "--decode-backend", "vlc", "--c3d-arrays", "conv5",
        "--extract-device", "tpu", "--frames-jpeg-quality", "0", "--decode-videos-at-once", "0",
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    for told in (
        "[c3d] arrays must list one or more of pool5, fc6, fc7, fc6_linear, fc7_linear, each once; got ('conv5',)",
        "[frames] jpeg_quality must be 1 to 100; got 0",
        "[download] source template 'ftp://x/{id}' must begin with http:// or https://",
        "[decode] backend must be one of pyav",
        "[decode] videos_at_once must be auto, or a whole number from 1 to 256; got '0'",
        "[extract] device must be auto, cpu, cuda, or like cuda:1; got 'tpu'",
        "--shards takes numbers and ranges like 3-7,12",
        "--retry takes all, or reasons among",
    ):
        assert told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_real_video_needs_real_weights_or_a_written_seed(tmp_path: Path) -> None:
    done = luigi(tmp_path, "BuildFeatures", "--catalog", "phd2", "--phd2-testing", "testing.csv")
    assert done.returncode == 2
    assert "[c3d] weights is empty, and phd2 is real video" in done.stderr
    assert "--c3d-weights" in done.stderr


@pytest.mark.parametrize(
    ("catalog", "option", "told"),
    [
        ("phd2", "--phd2-testing", "[phd2] testing 'absent' does not exist"),
        ("tvsum", "--tvsum-annotations", "[tvsum] annotations 'absent' does not exist"),
        ("cosum", "--cosum-annotations", "[cosum] annotations 'absent' does not exist"),
    ],
)
def test_annotations_that_are_not_there_are_told_beside_all_other_faults(
    tmp_path: Path, catalog: str, option: str, told: str
) -> None:
    done = luigi(
        tmp_path,
        "BuildFeatures",
        "--catalog",
        catalog,
        option,
        "absent",
        "--c3d-weights",
        "absent.pickle",
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "weights 'absent.pickle' are neither a file" in done.stderr


def test_published_weights_that_are_not_here_are_told_with_the_command_that_gets_them(
    tmp_path: Path,
) -> None:
    done = luigi(tmp_path, "BuildFeatures", "--catalog", "sample", "--c3d-weights", "c3d.pickle")
    assert done.returncode == 2
    assert "[c3d] weights c3d.pickle are not here" in done.stderr
    assert "python -m pipeline weights fetch c3d.pickle --weights-root" in done.stderr


def test_a_weights_file_must_exist(tmp_path: Path) -> None:
    done = luigi(tmp_path, "BuildFeatures", "--catalog", "sample", "--c3d-weights", "absent.pickle")
    assert done.returncode == 2
    assert "weights 'absent.pickle' are neither a file" in done.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"frames__jpeg_qualty": "50"},
            "[frames] jpeg_qualty is not a setting; did you mean jpeg_quality?",
        ),
        ({"farmes__jpeg_quality": "50"}, "there is no section [farmes]; did you mean [frames]?"),
        ({"data__shards": "many"}, "[data]"),
    ],
)
def test_a_misspelt_setting_is_an_error(tmp_path: Path, change: dict[str, str], told: str) -> None:
    config = changed_config(tmp_path, **change)
    done = luigi(tmp_path, "BuildPHD2Features", config=config)
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr


def test_a_second_group_of_settings_has_a_name_of_its_own(tmp_path: Path) -> None:
    config = changed_config(
        tmp_path, extract__extractors="frames, frames.large", **{"frames.large__height_pixels": "1"}
    )
    done = luigi(tmp_path, "BuildPHD2Features", config=config)
    assert done.returncode == 2
    assert "[frames.large]" in done.stderr


VARIANTS = """
import tasks
from tasks.config.settings import load_settings
for variant in load_settings("sample").variants:
    chosen = variant.settings
    print(variant.name, chosen.sampling, chosen.arrays, chosen.stride_frames)
"""


def test_what_a_second_group_leaves_out_is_as_in_the_first(tmp_path: Path) -> None:
    changes = {
        "c3d__arrays": "fc7_linear",
        "sample.c3d__stride_frames": "8",
        "c3d.dense__sampling": "consecutive",
    }
    config = changed_config(tmp_path, extract__extractors="c3d, c3d.segments, c3d.dense", **changes)
    environment = {**os.environ, "LUIGI_CONFIG_PATH": str(config)}
    done = subprocess.run(
        [sys.executable, "-c", VARIANTS],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env=environment,
    )
    assert done.stdout.splitlines() == [
        "c3d consecutive ('fc7_linear',) 8",
        "c3d.segments segments ('fc6', 'fc7_linear') 16",
        "c3d.dense consecutive ('fc7_linear',) 8",
    ]


def test_a_settings_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("luigi")), "--module", "tasks"]
    environment = {**os.environ, "LUIGI_CONFIG_PATH": str(tmp_path / "absent.cfg")}
    done = subprocess.run(
        [*command, "BuildPHD2Features"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode != 0
    assert "there is no settings file" in done.stderr


def test_help_and_planning_import_nothing_heavy() -> None:
    heavy = {"torch", "matplotlib", "ultralytics", "torchvision", "dask", "distributed"}
    code = f"import sys, tasks; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


LOOK = """
import tasks
from tasks.config.settings import load_settings
for catalog in ("sample", "sample-large"):
    variants = load_settings(catalog).variants
    print(catalog, [one.settings.stride_frames for one in variants if one.name == "c3d"])
variants = load_settings("category-sample").variants
print([(variant.name, variant.settings.frames_per_second) for variant in variants])
"""


def test_a_setting_can_be_changed_for_one_catalog(tmp_path: Path) -> None:
    config = changed_config(tmp_path, **{"sample.c3d__stride_frames": "32"})
    environment = {**os.environ, "LUIGI_CONFIG_PATH": str(config)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env=environment,
    )
    assert done.stdout.splitlines() == ["sample [32]", "sample-large [16]", "[('frames', 0.0)]"]


def test_a_misspelt_setting_for_one_catalog_is_an_error(tmp_path: Path) -> None:
    config = changed_config(tmp_path, **{"sample.c3d__strides": "32"})
    done = luigi(tmp_path, "BuildPHD2Features", config=config)
    assert done.returncode == 2
    assert "[sample.c3d] strides is not a setting; did you mean stride_frames?" in done.stderr


def test_an_unknown_dataset_is_told(tmp_path: Path) -> None:
    done = luigi(tmp_path, "BuildFeatures", "--catalog", "phd3")
    assert done.returncode == 2
    assert (
        "unknown dataset 'phd3'; choose one of activitynet, category-sample, cosum, dhf1k, phd2, "
        in done.stderr
    )


def run_with(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A build of the sample in a folder whose own settings file has this text."""
    (folder / "workflows.cfg").write_text(text)
    return luigi(folder, "BuildPHD2Features", *options)


SHOW = "from tasks.config.settings import load_settings; s = load_settings('sample'); print("


def shown(folder: Path, expression: str, *arguments: str) -> str:
    """What Python prints for an expression of the sample's settings `s`, in that folder."""
    code = f"import tasks; {SHOW}{expression})"
    environment = {key: value for key, value in os.environ.items() if key != "LUIGI_CONFIG_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=True, cwd=folder, env=environment,
    )  # fmt: skip
    return done.stdout.strip()


def test_without_a_settings_file_everything_has_its_default(tmp_path: Path) -> None:
    expression = "s.layout.root, [v.name for v in s.variants], s.limits.max_seconds"
    assert shown(tmp_path, expression) == (
        "data ['c3d', 'yolov5', 'keypoint_rcnn', 'tased', 'frames'] 43200.0"
    )


def test_a_file_of_two_lines_is_enough(tmp_path: Path) -> None:
    (tmp_path / "workflows.cfg").write_text("[decode]\nmax_seconds = 60\n")
    assert shown(tmp_path, "s.limits.max_seconds, len(s.variants)") == "60.0 5"


def test_the_command_line_names_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "workflows.cfg").write_text("[data]\nroot = from_folder\n")
    (tmp_path / "other.cfg").write_text("[data]\nroot = from_option\n")
    assert shown(tmp_path, "s.layout.root") == "from_folder"
    assert shown(tmp_path, "s.layout.root", "--config", "other.cfg") == "from_option"
    assert shown(tmp_path, "s.layout.root", "--config=other.cfg") == "from_option"


def test_an_option_names_a_settings_file_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "other.cfg").write_text("[decode]\nbackend = vlc\n")
    done = luigi(tmp_path, "BuildPHD2Features", "--config", "other.cfg")
    assert done.returncode == 2
    assert "[decode] backend must be one of pyav" in done.stderr


WRONG_FILES = {
    "three sections": ("[data]\nshards = many\n[decode]\nbackend = vlc\n[extract]\ndevice = tpu\n",
                       ["[data] shards", "[decode] backend", "[extract] device"]),
    "one extractor": ("[c3d]\narrays = conv5\nstride_frames = 0\npool5 = floor\n",
                      ["[c3d] arrays", "[c3d] stride_frames", "[c3d] pool5"]),
    "misspelt": ("[farmes]\na = 1\n[frames]\nhieght_pixels = 3\n[data]\nrot = x\n",
                 ["did you mean [frames]?", "did you mean height_pixels?", "did you mean root?"]),
    "numbers": ("[data]\npart_megabytes = 0\n[download]\nattempts = x\nmax_height = 1.5\n",
                ["[data] part_megabytes", "[download] attempts", "[download] max_height"]),
    "not finite": ("[decode]\nmax_seconds = inf\nstall_seconds = nan\nmax_pixels = 1e9\n",
                   ["[decode] max_seconds", "[decode] stall_seconds", "[decode] max_pixels"]),
    "cluster": ("[cluster]\nkind = ssh\nworkers = -1\ncores_per_worker = 0\n",
                ["[cluster] kind", "[cluster] workers", "[cluster] cores_per_worker"]),
    "slurm": ("[slurm]\njobs = 0\ngpus = 4\ntime = soon\n",
              ["[slurm] jobs", "[slurm] gpus", "[slurm] time"]),
    "catalog": ("[sample.c3d]\nstrides = 1\n[sample.frames]\nheight_pixels = tall\n[sample.extract]\n"
                "extractors = c4d\n",
                ["did you mean stride_frames?", "[sample.frames] height_pixels", "'c4d'"]),
    "second group": ("[extract]\nextractors = frames.big, frames.big\n[frames.big]\njpeg_quality = 0\n"
                     "height_pixels = 1\n",
                     ["each once", "[frames.big] jpeg_quality", "[frames.big] height_pixels"]),
    "detector": ("[yolov5]\nrelease = v9\ngrid = 0\nscore_threshold = 2\n",
                 ["[yolov5] release", "[yolov5] grid", "[yolov5] score_threshold"]),
    "persons": ("[keypoint_rcnn]\nbackend = onnx\nmax_persons = 0\nnms_threshold = -1\n",
                ["[keypoint_rcnn] backend", "[keypoint_rcnn] max_persons", "[keypoint_rcnn] nms_threshold"]),
    "words": ("[c3d]\nmirror = perhaps\n[decode]\nvideos_at_once = few\n[download]\nvideos_per_hour = x\n",
              ["[c3d] mirror", "[decode] videos_at_once", "videos_per_hour"]),
}  # fmt: skip
"""A settings file with three faults each, and a part of each of the three sentences."""


@pytest.mark.parametrize(("text", "faults"), WRONG_FILES.values(), ids=list(WRONG_FILES))
def test_every_fault_of_a_file_is_reported_once(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    done = run_with(tmp_path, text)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for fault in faults:
        lines = [line for line in done.stderr.splitlines() if fault in line]
        assert len(lines) == 1, done.stderr
