#!/usr/bin/env bash
# luigi 3.8.1: an error that a task's complete() or requires() raises while it is scheduled is logged as a warning. With log
# level ERROR nothing is printed, and by default the process ends with 0. An error of requires() sends the event BROKEN_TASK
# with the exception. An error of complete() does not: it sends DEPENDENCY_MISSING, with the task alone, so no handler sees
# the exception. Seen: 0 bytes printed and exit code 0 for both, events dependency.missing and task.broken.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check luigi==3.8.1
cat > "$folder/broken.py" <<'PY'
import luigi


class InComplete(luigi.Task):
    def complete(self):
        raise ValueError("why it cannot say")


class InRequires(luigi.Task):
    def requires(self):
        raise ValueError("why it cannot say")

    def complete(self):
        return False


def note(name):
    def handler(task, *more):
        with open("events.txt", "a") as file:
            file.write(f"{type(task).__name__} {name} {len(more)}\n")

    return handler


for event in (luigi.Event.BROKEN_TASK, luigi.Event.DEPENDENCY_MISSING):
    luigi.Task.event_handler(event)(note(event.partition("core.")[2]))
PY
cd "$folder"
for task in InComplete InRequires; do
    status=0
    PYTHONPATH=. venv/bin/luigi --module broken "$task" --local-scheduler --log-level ERROR > "$task.txt" 2>&1 || status=$?
    printf '%s exit %s, %s bytes printed\n' "$task" "$status" "$(wc -c < "$task.txt")"
done > seen.txt
cat events.txt >> seen.txt
printf 'luigi 3.8.1\n'; cat seen.txt
expected=$'InComplete exit 0, 0 bytes printed\nInRequires exit 0, 0 bytes printed\nInComplete dependency.missing 0\nInRequires task.broken 1'
[ "$(cat seen.txt)" = "$expected" ] || { echo "this has changed"; exit 1; }
