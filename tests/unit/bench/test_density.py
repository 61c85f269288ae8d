import pytest

from atoll.bench import density_plot
from atoll.bench.density import DensitySample, exponents


def sample(sites, **costs):
    return DensitySample(sites, **{"ready_s": 1.0, "memory_mb": 1.0, "idle_cpu_percent": 1.0, "processes": 1, **costs})


def test_a_cost_in_proportion_grows_with_exponent_one():
    found = exponents([sample(n, memory_mb=200.0 * n, ready_s=3.0, idle_cpu_percent=n**2 / 7) for n in (1, 5, 20)])
    assert found == {"ready_s": 0.0, "memory_mb": 1.0, "idle_cpu_percent": 2.0}


def test_one_size_has_no_growth_and_what_costs_nothing_none_either():
    assert exponents([sample(5)]) == {}
    assert "idle_cpu_percent" not in exponents([sample(1, idle_cpu_percent=0.0), sample(2)])


def test_costs_per_site():
    data = sample(4, memory_mb=1000.0, idle_cpu_percent=2.0, ready_s=10.0).to_json()
    assert (data["memory_per_site_mb"], data["idle_cpu_percent_per_site"], data["ready_per_site_s"]) == (250.0, 0.5, 2.5)


def test_the_picture_has_a_panel_for_each_cost(tmp_path):
    samples = [sample(n, memory_mb=200.0 * n).to_json() for n in (1, 5)]
    density_plot.draw(samples, {"memory_mb": 1.0}, tmp_path / "growth.svg")
    svg = (tmp_path / "growth.svg").read_text()
    assert svg.count('<g id="axes_') == 3


@pytest.mark.parametrize("text", ["", "0", "1,x", "-3"])
def test_sizes_that_are_none_are_refused(text):
    import click

    from atoll.cli.bench_runs import parse_sizes

    with pytest.raises(click.BadParameter, match="expected numbers of sites"):
        parse_sizes(text)
