"""The script of an array of Slurm jobs, which builds shards without Dask.

Each element of the array builds some shards with the command that a person would type. Its exit
code decides whether Slurm repeats the element.
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
    """An sbatch script. Each element builds `shards_per_job` shards by `command` in `folder`.

    The script adds `--shards` with the numbers of the element's shards to the command. Raises
    SettingsError for a path or an argument that a script cannot hold.
    """
    for text in (*command, folder, logs):
        if not text.isprintable():
            raise _unusable(text)
    if "%" in logs:  # Slurm would replace it in the name of a log file
        raise _unusable(logs)
    starts = range(0, len(shards), shards_per_job)
    groups = [shards[start : start + shards_per_job] for start in starts]
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {line}" for line in _directives(slurm, len(groups), logs)),
        groups=" ".join(",".join(map(str, group)) for group in groups),
        folder=shlex.quote(folder),
        prologue="\n".join(slurm.prologue_lines),
        cores=slurm.cores,
        requeues=slurm.requeues,
        command=shlex.join(command),
    )


def _unusable(text: str) -> SettingsError:
    return SettingsError((f"a Slurm script cannot hold {text!r}; rename it",))


def _directives(slurm: SlurmSettings, elements: int, logs: str) -> Iterator[str]:
    yield "--job-name=video-highlights"
    yield f"--array=0-{elements - 1}"
    if slurm.partition:
        yield f"--partition={slurm.partition}"
    if slurm.account:
        yield f"--account={slurm.account}"
    yield f"--time={slurm.time}"
    yield f"--ntasks=1 --cpus-per-task={slurm.cores} --mem={slurm.memory_gigabytes}G"
    yield from slurm.gpu_directives
    yield from slurm.directives
    yield f"--requeue --signal=B:TERM@{WARNING_SECONDS} --open-mode=append"
    yield f'--output="{logs}/array-%A_%a.log"'


_SCRIPT = """#!/bin/bash
{directives}

# Each element builds some shards. Submit with `sbatch FILE`. Elements may be killed, requeued and
# submitted again at will: finished work is not repeated, and no two processes build one shard.
set -u
groups=({groups})
shards=${{groups[$SLURM_ARRAY_TASK_ID]}}
cd {folder} || exit 1
{prologue}
export OMP_NUM_THREADS={cores}

# {{warning}} s before the end, Slurm warns only this shell: pass the warning on, and wait until the
# build has ended.
build=
warned=
# The trap comes first: without it, a warning would kill this shell and leave the build running.
trap 'warned=yes; [ -z "$build" ] || kill -TERM "$build" 2>/dev/null' TERM
{command} --shards "$shards" &
build=$!
[ -z "$warned" ] || kill -TERM "$build" 2>/dev/null
code=-1
while kill -0 "$build" 2>/dev/null || [ "$code" -lt 0 ]; do
    wait "$build"
    code=$?
done
# The warning may have cut the last wait short; this one returns the build's own exit code.
wait "$build"
code=$?

case $code in
    # 3: done, but some videos wait for a retry; the report names them. Slurm repeats nothing.
    0 | 3) exit 0 ;;
    # 4: stopped by the machine or the network; 137 and 143: killed. A repeated element continues
    # where it stopped.
    4 | 137 | 143)
        # A cancelled job is not RUNNING any more and stays cancelled; Slurm itself requeues a
        # preempted one. SLURM_JOB_ID would name the whole array if this is its last element.
        me="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
        job=$(scontrol show --oneliner job "$me")
        restarts="${{SLURM_RESTART_COUNT:-0}}"
        if [[ $job == *"JobState=RUNNING "* ]] && [ "$restarts" -lt {requeues} ]; then
            echo "shards $shards: stopped (exit code $code); back into the queue"
            scontrol requeue "$me" && sleep 60
        fi
        ;;
esac
exit "$code"
""".replace("{{warning}}", str(WARNING_SECONDS))
