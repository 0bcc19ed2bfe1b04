"""Wrong commands and unreadable values end with exit code 2, in words, all at once. Luigi itself
answers by tracebacks.

Many commands are given to one process, since each start of it costs a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tasks.config.test_settings import changed_config, luigi

SEVERAL = """
import contextlib, io, json, sys, traceback
from luigi.retcodes import run_with_retcodes
answers = []
for words in json.load(sys.stdin):
    told, code = io.StringIO(), 0
    with contextlib.redirect_stderr(told):
        try:
            run_with_retcodes(["--module", "tasks", *words])
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 1
    answers.append([code, told.getvalue()])
print(json.dumps(answers))
"""

COMMANDS: list[tuple[list[str], list[str]]] = [
    (
        ["BuildFeature", "--catalog", "sample"],
        ["there is no task BuildFeature; near are BuildFeatures"],
    ),
    (["Nothing"], ["there is no task Nothing; tasks are BuildActivityNetFeatures,"]),
    ([], ["no task is named; tasks are"]),
    (["download"], ["there is no task download"]),
    (["BuildFeatures"], ["BuildFeatures needs --catalog: which dataset"]),
    (["BuildCatalog"], ["BuildCatalog needs --catalog"]),
    (
        ["TrainModel", "--seed", "first"],
        ["TrainModel needs --recipe", "needs --catalog", "--seed takes a whole number"],
    ),
    (["BuildFeatures", "--catalog"], ["argument --catalog: expected one argument"]),
    (
        [
            "BuildFeatures",
            "--catalog",
            "sample",
            "--catalogue",
            "x",
            "--decode-backend",
            "vlc",
            "more",
        ],
        [
            "there is no option --catalogue; near are --catalog",
            "[decode] backend must be one of pyav",
            "'more' is neither",
        ],
    ),
    (
        [
            "BuildFeatures",
            "--catalog",
            "sample",
            "--workers",
            "x",
            "--data-shards",
            "1.5",
            "--c3d-mirror",
            "perhaps",
        ],
        [
            "--workers takes a whole number; got 'x'",
            "--data-shards takes a whole number; got '1.5'",
            "--c3d-mirror takes true or false; got 'perhaps'",
        ],
    ),
    (
        [
            "BuildFeatures",
            "--catalog",
            "sample",
            "--log-level",
            "LOUD",
            "--worker-keep-alive",
            "--data-root",
            "s3://b/c",
        ],
        [
            "--log-level takes one of CRITICAL, DEBUG",
            "[data] root is an address of s3, got 's3://b/c'",
        ],
    ),
    (["ScoreModel", "--catalog", "sample", "--recipe", "nosuch"], ["no recipe 'nosuch'"]),
    (["ReproduceTable", "--catalog", "sample", "--tables", "nosuch"], ["no table 'nosuch'"]),
    (
        ["ReproduceTable", "--catalog", "sample", "--changes", "a=1"],
        ["--changes takes a JSON list such as"],
    ),
    (
        ["BuildFeatures", "--catalog", "sample", "--data-shard", "2"],
        ["there is no option --data-shard; near are --data-shards"],
    ),
    (
        ["BuildFeatures", "--catalog", "tvsun", "--tvsun-annotations", "x"],
        [
            "before anything starts:\n  - unknown dataset 'tvsun'; choose one of activitynet,",
            "did you mean tvsum?",
        ],
    ),
    (["ExtractShard", "--catalog", "nosuch", "--shard", "0"], ["unknown dataset 'nosuch'"]),
]


def test_a_wrong_command_ends_with_2_and_says_all_that_is_wrong(tmp_path: Path) -> None:
    asked = json.dumps([words for words, _ in COMMANDS])
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for (words, sentences), (code, told) in zip(COMMANDS, json.loads(done.stdout), strict=True):
        assert code == 2, (words, told)
        assert "Traceback" not in told, (words, told)
        for sentence in sentences:
            assert sentence in told, (words, told)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_values_of_a_file_are_told_with_section_and_key(tmp_path: Path) -> None:
    changes = {
        "core__workers": "several",
        "core__default_scheduler_port": "eighty",
        "worker__keep_alive": "perhaps",
        "retcode__missing_data": "bad",
        "BuildCatalog__catalog": "${NO_SUCH_VARIABLE}",
        "data__shards": "many",
        "download__attempts": "2.5",
        "decode__stall_seconds": "a minute",
        "c3d__mirror": "perhaps",
        "sample.c3d__stride_frames": "wide",
    }
    done = luigi(
        tmp_path, "BuildFeatures", "--catalog", "sample", config=changed_config(tmp_path, **changes)
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for told in (
        "[core] workers takes a whole number; got 'several'",
        "[core] default_scheduler_port takes a whole number; got 'eighty'",
        "[worker] keep_alive takes true or false; got 'perhaps'",
        "[retcode] missing_data takes a whole number; got 'bad'",
        "[BuildCatalog] catalog uses ${NO_SUCH_VARIABLE}",
        "[data] shards takes a whole number; got 'many'",
        "[download] attempts takes a whole number; got '2.5'",
        "[decode] stall_seconds takes a finite number; got 'a minute'",
        "[c3d] mirror takes true or false; got 'perhaps'",
        "[sample.c3d] stride_frames takes a whole number; got 'wide'",
    ):
        assert told in done.stderr, done.stderr


def test_a_value_of_a_second_group_is_told_with_its_own_section(tmp_path: Path) -> None:
    changes = {"extract__extractors": "c3d.dense", "c3d.dense__stride_frames": "wide"}
    done = luigi(
        tmp_path, "BuildFeatures", "--catalog", "sample", config=changed_config(tmp_path, **changes)
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "[c3d.dense] stride_frames takes a whole number; got 'wide'" in done.stderr


LOOK = """
import tasks
from tasks.config.settings import load_settings
print(load_settings("sample").source.proxy)
"""


@pytest.mark.parametrize(
    "typed", ["http://user:p%40ss@127.0.0.1:9", "http://user:p%%40ss@127.0.0.1:9"]
)
def test_a_password_with_a_percent_sign_arrives(tmp_path: Path, typed: str) -> None:
    environment = {
        **os.environ,
        "LUIGI_CONFIG_PATH": str(changed_config(tmp_path, download__proxy=typed)),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "http://user:p%40ss@127.0.0.1:9"


@pytest.mark.parametrize("content", ["[data]\nroot = a\nroot = b\n", "root = a\n", "[data\n"])
def test_a_file_that_is_no_settings_file_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "workflows.cfg").write_text(content)
    done = subprocess.run(
        [sys.executable, "-c", "import tasks"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "these settings must be corrected before anything starts:\n  - workflows.cfg:"
    )
    assert "Traceback" not in done.stderr
