"""Named steps: one segment each, and the failing one turns red."""

import pathlib
import shutil
import tarfile
import tempfile

from activitysmith_track import Action, step, track_steps


@track_steps(
    "Nightly backup",
    steps=["Snapshot", "Pack", "Verify"],
    icon="externaldrive.fill",
    action=Action.open_url("Runbook", "https://example.com/runbook"),
)
def backup(source: pathlib.Path, target: pathlib.Path) -> int:
    copy = target / "snapshot"
    shutil.copytree(source, copy)

    step("Pack")
    archive = target / "backup.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(copy, arcname="backup")

    with step("Verify"), tarfile.open(archive) as packed:
        return len(packed.getnames())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = backup(pathlib.Path(__file__).resolve().parent, pathlib.Path(folder))
        print(f"packed {names} names")


if __name__ == "__main__":
    main()
