"""A loop: one line around the iterable puts its percentage on the Lock Screen.

Run it with ACTIVITYSMITH_API_KEY set, or without a key to see that the job runs just the same.
"""

import hashlib
import pathlib

from activitysmith_track import track


def main() -> None:
    folder = pathlib.Path(__file__).resolve().parent
    files = sorted(folder.glob("*.py"))
    digests = {}
    for path in track(files, "Hash the examples", unit="files", icon="number"):
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"hashed {len(digests)} files")


if __name__ == "__main__":
    main()
