"""A push when the job fails, with buttons: open the log, or have it run again."""

from activitysmith_track import Action, Outcome, Push, notify


def describe(outcome: Outcome, _error: BaseException) -> Push:
    """Choose what to say; returning False would say nothing."""
    return Push(
        title=f"{outcome.title} broke",
        message=f"{outcome.reason} ({outcome.where})",
        interruption_level="time-sensitive",
        actions=[
            Action.open_url("Log", "https://example.com/log"),
            Action.webhook("Run again", "https://example.com/hooks/run", body={"job": outcome.name}),
        ],
        tags=["nightly"],
    )


@notify("Nightly import", on="failure", on_failure=describe)
def nightly() -> None:
    raise ValueError("row 4711 has no price")


def main() -> None:
    try:
        nightly()
    except ValueError as error:
        print(f"failed, and said so: {error}")


if __name__ == "__main__":
    main()
