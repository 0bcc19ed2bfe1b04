"""Slurm's side of a run: what a job asks for, and the script of an array of jobs that needs no
Dask.

Each element of an array builds some shards with the same command a person would type, and says by
its exit code what Slurm is to do with it. Knows Slurm's words; refuses to know what a shard is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from storage.base.errors import SettingsError
from tasks.config.slurm_settings import WARNING_SECONDS, SlurmSettings


def array_script(
    slurm: SlurmSettings,
    command: Sequence[str],
    shards: Sequence[int],
    shards_per_job: int,
    *,
    folder: str,
    logs: str,
) -> str:
    """An sbatch script of which each element builds `shards_per_job` shards by `command`, run from
    `folder`.

    The command is given `--shards` with the numbers of the element's shards. Raises SettingsError
    for a path or an argument that no script can hold.
    """
    broken = [text for text in (*command, folder, logs) if not text.isprintable()]
    if broken or "%" in logs:
        raise SettingsError(
            (f"a Slurm script cannot hold {broken[0] if broken else logs!r}; rename it",)
        )
    groups = [
        shards[first : first + shards_per_job] for first in range(0, len(shards), shards_per_job)
    ]
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {line}" for line in _directives(slurm, len(groups), logs)),
        groups=" ".join(",".join(map(str, group)) for group in groups),
        folder=shlex.quote(folder),
        prologue="\n".join(slurm.prologue_lines),
        cores=slurm.cores,
        requeues=slurm.requeues,
        command=shlex.join(command),
    )


def _directives(slurm: SlurmSettings, elements: int, logs: str) -> Iterator[str]:
    yield "--job-name=video-highlights"
    yield f"--array=0-{elements - 1}"
    yield from (
        f"--{name}={value}" for name in ("partition", "account") if (value := getattr(slurm, name))
    )
    yield f"--time={slurm.time}"
    yield f"--ntasks=1 --cpus-per-task={slurm.cores} --mem={slurm.memory_gigabytes}G"
    yield from slurm.gpu_directives
    yield from slurm.directives
    yield f"--requeue --signal=B:TERM@{WARNING_SECONDS} --open-mode=append"
    yield f'--output="{logs}/array-%A_%a.log"'


_SCRIPT = """#!/bin/bash
{directives}

# Each element builds some shards. Submit with `sbatch FILE`; elements may be killed, requeued and submitted again at
# will, since what is done is not done again and no two processes build one shard.
set -u
groups=({groups})
shards=${{groups[$SLURM_ARRAY_TASK_ID]}}
cd {folder} || exit 1
{prologue}
export OMP_NUM_THREADS={cores}

# Slurm warns this shell alone, {{warning}} s before the end: hand the warning on, and wait for the build to let go.
{command} --shards "$shards" &
build=$!
trap 'kill -TERM "$build" 2>/dev/null' TERM
code=-1
while kill -0 "$build" 2>/dev/null || [ "$code" -lt 0 ]; do
    wait "$build"
    code=$?
done
wait "$build"  # if the warning cut the last wait short, this is the build's own word
code=$?

case $code in
    # 3: done, but some videos wait for a retry; the account names them. Nothing here for Slurm to repeat.
    0 | 3) exit 0 ;;
    # 4: stopped by the machine or the network; 137 and 143: killed. All three go on where they stopped.
    4 | 137 | 143)
        # A job that somebody cancelled is no longer RUNNING, and stays cancelled; one that Slurm preempts, it requeues.
        # Its own number would name the whole array, if it is the last of it.
        me="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
        job=$(scontrol show --oneliner job "$me")
        if [[ $job == *"JobState=RUNNING "* ]] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
            echo "shards $shards: stopped (exit code $code); back into the queue"
            scontrol requeue "$me" && sleep 60
        fi
        ;;
esac
exit "$code"
""".replace("{{warning}}", str(WARNING_SECONDS))
