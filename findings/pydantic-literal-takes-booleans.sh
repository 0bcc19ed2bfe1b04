#!/usr/bin/env bash
# pydantic 2.14.4, strict mode, JSON input: a field of type int refuses `true` and `1.0`. A field of type Literal[1, 2]
# takes both and returns 1, since members of a Literal are found by equality. A setting with a few allowed numbers is
# therefore looser than one with any number. Seen: int true refused, int 1.0 refused, Literal true 1, Literal 1.0 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydantic==2.14.4
seen=$("$folder/venv/bin/python" - <<'PY'
from typing import Literal

from pydantic import TypeAdapter, ValidationError

for name, hint in (("int", int), ("Literal", Literal[1, 2])):
    for text in ("true", "1.0"):
        try:
            value = repr(TypeAdapter(hint).validate_json(text, strict=True))
        except ValidationError:
            value = "refused"
        print(name, text, value)
PY
)
printf 'pydantic 2.14.4\n%s\n' "$seen"
expected=$'int true refused\nint 1.0 refused\nLiteral true 1\nLiteral 1.0 1'
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
