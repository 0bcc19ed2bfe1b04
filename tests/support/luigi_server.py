"""Runs `luigi` commands in forks of one process that has imported the libraries.

Each start of the real program spends most of its CPU time on imports, and tests start it a hundred
times. The fork runs the function that the program `luigi` runs, in a folder and an environment of
its own. `tasks` is imported in the fork, since it reads settings as it is imported. Tests of
imports, of signals and of the program itself start the real one.

As a script (`python -m tests.support.luigi_server`) it is the server: one request a line, as JSON.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240.0
LIBRARIES = (
    "luigi.cmdline",
    "pipeline.datasets.registry",
    "pipeline.diagnostics.availability",
    "pipeline.diagnostics.doctor",
    "pipeline.diagnostics.self_test",
    "pipeline.extraction.process_shard",
    "pipeline.extraction.variant_from_settings",
    "pipeline.media.reel",
    "pipeline.synthetic.category_videos",
    "pipeline.synthetic.user_videos",
    "storage",
    "trainer.plots.store_overview",
    "trainer.plots.time_breakdown",
)
C3D = ("models.extractors.c3d.extractor",)
YOLOV5 = ("models.extractors.yolov5.extractor",)
TRAINER = ("trainer.inference.predict", "trainer.paper_tables.render", "trainer.training.fit")
"""Modules that import torch; loaded when the first command needs them."""


class _Server:
    """This process's server, started by the first command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request. Fails the test if it does not come in time."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
        if not ready:
            process.kill()
            self.close()
        assert ready, f"not ended after {PATIENCE_SECONDS:g} s: luigi {request['words']}"
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.luigi_server"],
            cwd=REPOSITORY,
            # Forks of a process with threads may hang.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self._process

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


SERVER = _Server()


def run_luigi(
    folder: Path,
    *words: str,
    environment: Mapping[str, str] | None = None,
    preload: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `luigi WORDS` in `folder`.

    `environment` is added to this process's; `preload` names modules that the command needs,
    besides those that every command needs.
    """
    request = {
        "words": words,
        "folder": str(folder),
        "environment": {**os.environ, **(environment or {})},
        "preload": [*LIBRARIES, *preload],
    }
    answer = SERVER.ask(request)
    return subprocess.CompletedProcess(
        ["luigi", *words], answer["code"], answer["stdout"], answer["stderr"]
    )


def _serve() -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w") as answers:
        for line in sys.stdin:
            request = json.loads(line)
            for name in request["preload"]:
                importlib.import_module(name)
            gc.freeze()  # a collection in the fork would copy every page
            answers.write(json.dumps(_in_a_fork(request)) + "\n")
            answers.flush()


def _in_a_fork(request: Mapping[str, Any]) -> dict[str, Any]:
    # Files, not pipes: a process that the command left behind would keep a pipe open.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            for number, file in ((1, stdout), (2, stderr)):
                os.dup2(file.fileno(), number)
            _become_luigi(request["words"], request["folder"], request["environment"])
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {
        "code": os.waitstatus_to_exitcode(status),
        "stdout": texts[0],
        "stderr": texts[1],
    }


def _become_luigi(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> NoReturn:
    """Run the command and end this process as the program would."""
    from luigi.cmdline import luigi_run

    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv[:] = ["luigi", *words]
    code: object = 0
    try:
        luigi_run(list(words))
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  as the interpreter would
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    _leave(code if isinstance(code, int) else 1)


def _leave(code: int) -> NoReturn:
    # Not by the interpreter's own end: it visits every object, and each visited page of a fork is
    # copied first.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
    _leave(0)
