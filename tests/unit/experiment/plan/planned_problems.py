"""Plans in numbers and as text, made for tests."""

import random
from math import hypot, inf

from atoll.experiment.plan.costs import Costs
from atoll.experiment.plan.document import Prices
from atoll.experiment.plan.problem import Demand, Picture, Problem

PLAN = """\
sites:
- {name: paris, memory: 2GB, load: {boot: 10}}
- {name: lyon, memory: 300MB, load: {boot: 5}}
topology: {defaults: {delay: 5ms}}
operations:
  boot: {time: 900ms, round_trips: 62, bytes: 400kB, image: debian}
images: {debian: {size: 400MB}}
footprints: {full: 540MB, compute: 160MB}
"""


def make_problem(count=3, **changes) -> Problem:
    """Return a plan of sites that are 10 ms apart, with one operation of 10 round trips at each; without bounds."""
    unlimited = (inf,) * count
    base = {
        "names": tuple(f"s{index}" for index in range(count)),
        "kinds": (None,) * count,
        "rtt_s": tuple(tuple(0.0 if a == b else 0.01 for b in range(count)) for a in range(count)),
        "byte_s": ((0.0,) * count,) * count,
        "demands": (Demand("list", Costs(0.1, 10, 1000), inf, None, (60.0,) * count),),
        "images": (),
        "full": 500,
        "compute": 100,
        "controlled": 10,
        "memory": unlimited,
        "disk": unlimited,
        "wan": unlimited,
        "wan_total": inf,
        "survive": 0,
        "full_sites": inf,
        "mesh": 0.0,
        "prices": Prices(waiting=1, memory=1e4, disk=0, wan=0),
    }
    return Problem(**(base | changes))


def make_large(count: int, images: int, seed: int, survive: int) -> Problem:
    """Return a plan of sites at random places of a square that light crosses in 50 ms, with all kinds of bounds."""
    chance = random.Random(seed)
    places = [(chance.random(), chance.random()) for _ in range(count)]
    rtt_s = tuple(tuple(0.0 if a == b else 0.002 + 0.1 * hypot(a[0] - b[0], a[1] - b[1]) for b in places) for a in places)
    byte_s = tuple(tuple(0.0 if a == b else 1 / 2.5e8 for b in range(count)) for a in range(count))
    demands = [
        Demand("boot", Costs(0.9, 62, 4e5), 8.0, 0, tuple(chance.choice([0.0, 2.0, 10.0, 50.0]) for _ in range(count))),
        Demand("list", Costs(0.1, 4, 3e4), inf, None, tuple(chance.choice([20.0, 100.0, 500.0]) for _ in range(count))),
    ]
    for image in range(1, images):
        load = tuple(chance.choice([0.0, 0.0, 0.0, 2.0]) for _ in range(count))
        demands.append(Demand(f"boot-{image}", Costs(0.9, 62, 4e5), inf, image, load))
    return make_problem(
        count,
        rtt_s=rtt_s,
        byte_s=byte_s,
        demands=tuple(demands),
        images=tuple(Picture(f"image-{index}", 400_000_000, 0.1) for index in range(images)),
        full=540_000_000,
        compute=160_000_000,
        controlled=5_000_000,
        memory=tuple(chance.choice([300e6, 600e6, 2e9]) for _ in range(count)),
        disk=(5e9,) * count,
        wan_total=3e8 * count,
        survive=survive,
        mesh=900_000.0,
        prices=Prices(waiting=1, memory=0.1, disk=0.001, wan=0.01),
    )
