"""A cron job that measures, shows and exits; the card stays, and the next run comes back to it.

*/5 * * * *  python metrics_cron.py
"""

import os
import shutil

from activitysmith_track import Metric, live_metrics


def measure() -> dict[str, float]:
    disk = shutil.disk_usage(os.sep)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {"Disk": round(100 * disk.used / disk.total), "Load": round(load, 2)}


def main() -> None:
    declared = [Metric("Disk", 0, unit="%"), Metric("Load", 0)]
    with live_metrics("Server", declared, key="server-{host}", icon="server.rack", keep=True) as metrics:
        readings = measure()
        metrics.set(**readings)
    print(f"showed {', '.join(readings)}")


if __name__ == "__main__":
    main()
