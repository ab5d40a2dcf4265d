"""Requests of the client, and their answers."""

import pytest

from heartwire.client.machine import Machine
from heartwire.client.options import Options
from heartwire.client.outputs import Failed


def test_a_cancelled_request_does_not_fail_later() -> None:
    machine = Machine(Options(), prefix="k", draw=lambda: 0.5, now=0, wall=0)
    machine.traffic.requests.cancel(machine.request("presence", {}, 0))
    machine.handle_deadline(1000, 1000)
    assert not [one for one in machine.outputs if isinstance(one, Failed)]


def test_a_request_that_cannot_be_json_is_refused_where_it_is_asked() -> None:
    machine = Machine(Options(), prefix="k", draw=lambda: 0.5, now=0, wall=0)
    with pytest.raises(TypeError):
        machine.request("rpc", {"data": object()}, 0)
    assert machine.next_deadline() is None
