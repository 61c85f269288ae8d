"""An image that another site needs: how much of the link its way there uses, also after a cut."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from atoll.bench import workload
from atoll.bench.cloud.stage import Stage
from atoll.bench.measure import Say

RATE_BIT_S = 100e6
"""Of each link of the stage."""


def pull(stage: Stage, tenancy: workload.Tenancy, mebibytes: int, cut_s: float, say: Say) -> dict[str, Any]:
    """Boot at another site from an image that it lacks, twice: without, and with a cut of the link in the middle.

    Args:
        stage: the cloud.
        tenancy: flavor and network.
        mebibytes: size of the image.
        cut_s: how long the cut lasts, in seconds.
        say: told what goes on.
    """
    here, there = stage.names[0], stage.names[1]
    line_s = mebibytes * 2**20 * 8 / RATE_BIT_S
    straight = _boot_there(stage, tenancy, _upload(stage, here, mebibytes), there)
    say(f"{mebibytes} MiB in {straight:.1f} s, at line rate {line_s:.1f} s")
    image = _upload(stage, here, mebibytes)
    cutter = threading.Timer(line_s / 2, _interrupt, (stage, f"{here}:{there}", cut_s))
    cutter.start()
    interrupted = _boot_there(stage, tenancy, image, there)
    cutter.join()
    return {
        "image_rate_ratio": round(line_s / straight, 3),
        "image_mib": mebibytes,
        "image_s": round(straight, 2),
        "image_cut_s": round(interrupted, 2),
        # Nothing is fetched twice if a cut costs little more than its own length.
        "image_resumed": interrupted < straight + cut_s + line_s / 4,
    }


def _upload(stage: Stage, site: str, mebibytes: int) -> str:
    api = stage.api(site)
    body = {"name": "large", "disk_format": "raw", "container_format": "bare"}
    image = str(api.expect("image", "POST", "/v2/images", body)["id"])
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=os.urandom(2**20) * mebibytes)
    return image


def _boot_there(stage: Stage, tenancy: workload.Tenancy, image: str, site: str) -> float:
    """From the request for a server until Nova has taken it, which is after the image has arrived; in seconds."""
    body = workload.server_body(workload.Tenancy(image, tenancy.flavor, tenancy.network), "large")
    body["server"]["availability_zone"] = site
    api = stage.api(stage.names[0])
    begun = time.monotonic()
    while not (answer := api.call("compute", "POST", "/servers", body)).ok:
        if answer.status != 503 or time.monotonic() - begun > workload.BOOT_TIMEOUT_S:
            api.expect("compute", "POST", "/servers", body)
        time.sleep(1)  # the site is cut off: what has arrived of the image waits there
    seconds = time.monotonic() - begun
    # A request that the cut broke off may have been carried out all the same.
    made = stage.api(site).expect("compute", "GET", "/servers?name=^large$")["servers"]
    workload.delete(stage.api(site), [each["id"] for each in made])
    return seconds


def _interrupt(stage: Stage, link: str, seconds: float) -> None:
    stage.wan.cut(link)
    time.sleep(seconds)
    stage.wan.heal(link)
