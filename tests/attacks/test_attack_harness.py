"""The precondition of all attacks: the two tenants have separate projects and do not see each other's resources."""


def test_tenants_are_strangers_to_each_other(victim, attacker):
    made = victim.api("brest").expect("network", "POST", "/v2.0/networks", {"network": {"name": "private"}})["network"]
    assert victim.api("metz").call("network", "GET", f"/v2.0/networks/{made['id']}").status == 200
    for site in ("brest", "metz", "pau"):
        assert attacker.api(site).call("network", "GET", f"/v2.0/networks/{made['id']}").status == 404
