"""Decorated methods: a fresh card for every call, also where calls overlap; a classmethod works the same."""

from concurrent.futures import ThreadPoolExecutor

from activitysmith_track import current, live_progress, notify


class Importer:
    """Imports rows, and shows how far it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0

    @live_progress("Import", total=300)
    def run(self) -> int:
        handle = current()
        handle.update(title=f"Import {self.name}", important=True)
        for _ in range(300):
            self.rows += 1
            handle.advance()
        return self.rows

    @classmethod
    @notify(on="failure")
    def check(cls, name: str) -> bool:
        return name.isidentifier()


def main() -> None:
    importers = [Importer("orders"), Importer("customers")]
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(Importer.run, importers))
    print(f"imported {sum(rows)} rows; names fine: {all(Importer.check(each.name) for each in importers)}")


if __name__ == "__main__":
    main()
