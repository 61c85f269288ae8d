"""The copy of an image to another site: the share of the link's rate that the transfer uses, without and with a cut of the link."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from atoll.bench import workload
from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.progress import Say

RATE_BIT_S = 100e6
"""The rate of each link in bits per second."""


def pull(cloud: MeasuredCloud, tenancy: workload.Tenancy, mebibytes: int, cut_s: float, say: Say) -> dict[str, Any]:
    """Boot twice at another site from an image that it lacks: without a cut, and with a cut of the link in the middle.

    Args:
        cloud: the cloud that is measured.
        tenancy: the flavor and network of the servers.
        mebibytes: the size of the image in MiB.
        cut_s: the length of the cut in seconds.
        say: called with a line about the progress.
    """
    here, there = cloud.names[0], cloud.names[1]
    line_s = mebibytes * 2**20 * 8 / RATE_BIT_S
    straight = _boot_there(cloud, tenancy, _upload(cloud, here, mebibytes), there)
    say(f"{mebibytes} MiB copied in {straight:.1f} s; at the link's full rate it would take {line_s:.1f} s")
    image = _upload(cloud, here, mebibytes)
    cutter = threading.Timer(line_s / 2, _interrupt, (cloud, f"{here}:{there}", cut_s))
    cutter.start()
    interrupted = _boot_there(cloud, tenancy, image, there)
    cutter.join()
    return {
        "image_rate_ratio": round(line_s / straight, 3),
        "image_mib": mebibytes,
        "image_s": round(straight, 2),
        "image_cut_s": round(interrupted, 2),
        # If a cut lengthens the copy by little more than the cut's own length, no part was fetched twice.
        "image_resumed": interrupted < straight + cut_s + line_s / 4,
    }


def _upload(cloud: MeasuredCloud, site: str, mebibytes: int) -> str:
    api = cloud.api(site)
    body = {"name": "large", "disk_format": "raw", "container_format": "bare"}
    image = str(api.expect("image", "POST", "/v2/images", body)["id"])
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=os.urandom(2**20) * mebibytes)
    return image


def _boot_there(cloud: MeasuredCloud, tenancy: workload.Tenancy, image: str, site: str) -> float:
    """Return the seconds from the request for a server until Nova accepts it, after the image has arrived."""
    body = workload.server_body(workload.Tenancy(image, tenancy.flavor, tenancy.network), "large")
    body["server"]["availability_zone"] = site
    api = cloud.api(cloud.names[0])
    begun = time.monotonic()
    while not (answer := api.call("compute", "POST", "/servers", body)).ok:
        if answer.status != 503 or time.monotonic() - begun > workload.BOOT_TIMEOUT_S:
            api.expect("compute", "POST", "/servers", body)
        time.sleep(1)  # the site notices the cut, and keeps the part of the image that has arrived
    seconds = time.monotonic() - begun
    # A request that the cut interrupted may have been executed.
    made = cloud.api(site).expect("compute", "GET", "/servers?name=^large$")["servers"]
    workload.delete(cloud.api(site), [each["id"] for each in made])
    return seconds


def _interrupt(cloud: MeasuredCloud, link: str, seconds: float) -> None:
    cloud.wan.cut(link)
    time.sleep(seconds)
    cloud.wan.heal(link)
