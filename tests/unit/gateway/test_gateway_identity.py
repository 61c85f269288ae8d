"""How the gateway tells Keystone that there is no room for more."""

from atoll.gateway.identity.keystone_data import Fullness
from atoll.mesh.identity.bounds import FULL_FROM


def test_a_mark_is_there_while_the_stream_is_nearly_full(tmp_path):
    mark = tmp_path / "identity-full"
    mark.write_text("99")  # of an earlier process
    fullness = Fullness(mark)
    fullness.show(0.1)
    assert not mark.exists()
    fullness.show(FULL_FROM / 100)
    assert mark.read_text() == str(FULL_FROM)
    fullness.show(0.964)
    assert mark.read_text() == "96"
    fullness.show(0.5)
    assert list(tmp_path.iterdir()) == []
