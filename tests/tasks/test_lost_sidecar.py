"""The real command on a store that lost a sidecar: an error that names the repair; a partial build
is none.
"""

from __future__ import annotations

from pathlib import Path

from storage import FeatureStore
from storage.__main__ import main
from tests.tasks.test_old_store import build


def test_a_lost_sidecar_ends_a_run_with_exit_code_5_and_the_repair_is_enough(
    tmp_path: Path,
) -> None:
    code, told = build(tmp_path, "--shards", "1")
    assert code in (0, 3), told
    folder = tmp_path / "phd2"
    before = FeatureStore(folder)["frames"]
    rows = {video_id: before[video_id].track().digest() for video_id in before}
    assert rows, "what one shard of two holds is read"
    manifest = before.layout.manifest(1)
    manifest.unlink()
    before.layout.index_file.unlink()  # the parts alone say that it is lost
    code, told = build(tmp_path)
    assert code == 5, told
    assert f"{manifest}: is lost" in told
    assert "Traceback" not in told
    assert f"python -m storage audit --repair {folder}" in told
    assert main(["audit", "--repair", str(folder)]) == 0
    code, told = build(tmp_path)
    assert code in (0, 3), told
    after = FeatureStore(folder)["frames"]
    assert (
        rows.items() <= {video_id: after[video_id].track().digest() for video_id in after}.items()
    )
    assert len(after) > len(rows)
