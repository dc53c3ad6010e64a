"""The client itself: every call of the service, for those who want no handle around it.

The widget's metric must exist in the web app; the key comes from ACTIVITYSMITH_API_KEY.
"""

from activitysmith_track import Action, ActivitySmith, Badge, Icon, Metric
from activitysmith_track.errors import ActivitySmithError


def pushes(service: ActivitySmith) -> None:
    sent = service.notifications.send(
        title="New subscription",
        message="Customer upgraded to the Pro plan",
        subtitle="Billing",
        redirection="https://example.com/customers/42",
        actions=[
            Action.open_url("Open customer", "https://example.com/customers/42"),
            Action.webhook("Send a note", "https://example.com/hooks/note", body={"customer": 42}),
        ],
        interruption_level="active",
        tags=["billing"],
        metadata={"customer": 42},
    )
    assert sent.notification_id is not None
    service.notifications.replace(sent.notification_id, title="New subscription", message="Thanked already")
    service.notifications.send(title="Chart", media="https://example.com/chart.png")


def streams(service: ActivitySmith) -> None:
    cards = service.live_activities
    cards.stream(
        "prod-web-1",
        title="Server health",
        type="metrics",
        metrics=[Metric("CPU", 9, unit="%"), Metric("Memory", 45, unit="%", color="orange")],
        icon=Icon("server.rack"),
    )
    cards.end_stream("prod-web-1", title="Server health", type="metrics", metrics=[Metric("CPU", 7, unit="%")])
    cards.stream("signups", title="Sign-ups", type="stats", metrics=[Metric("Today", 42), Metric("Week", "1.2k")])
    cards.end_stream("signups")
    cards.stream("report", title="Report", type="value", value="$4,210", badge=Badge("live", color="green"))
    cards.end_stream("report")
    cards.stream("door", title="Front door", type="alert", message="Somebody rang", color="orange")
    cards.end_stream("door", title="Front door", type="alert", message="Opened", auto_dismiss_seconds=30)


def lifecycle(service: ActivitySmith) -> None:
    cards = service.live_activities
    backup = cards.start(
        title="Nightly backup",
        subtitle="snapshot",
        type="segmented_progress",
        number_of_steps=3,
        current_step=1,
        action=Action.open_url("Open", "https://example.com/backups"),
        alert={"title": "Backup", "body": "has begun"},
    )
    cards.update(
        activity_id=backup.activity_id, title="Nightly backup", subtitle="upload", number_of_steps=3, current_step=2
    )
    cards.end(
        activity_id=backup.activity_id,
        title="Nightly backup",
        subtitle="done",
        number_of_steps=3,
        current_step=3,
        auto_dismiss_minutes=2,
    )
    oven = cards.start(content_state={"title": "Oven", "type": "timer", "duration_seconds": 600})
    cards.update(activity_id=oven.activity_id, title="Oven", type="timer", is_running=False)
    cards.end(activity_id=oven.activity_id, title="Oven", type="timer", auto_dismiss_minutes=0)
    export = cards.start(title="Export", type="progress", percentage=10)
    cards.end(activity_id=export.activity_id, title="Export", type="progress", percentage=100)


def main() -> None:
    with ActivitySmith() as service:
        try:
            pushes(service)
            streams(service)
            lifecycle(service)
            service.metrics.update("deploys.today", 7)
            service.badge_count(3)
        except ActivitySmithError as error:
            raise SystemExit(f"the service said: {error}") from error
    print("every call was answered")


if __name__ == "__main__":
    main()
