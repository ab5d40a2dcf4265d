"""A better transport is tried while the lesser goes on."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import id_of, placed, poll_online, scenario


@scenario(transports=("longpoll", "poll"), first_transport="poll", poll_interval_s=2, upgrade_after_s=3)
def polls_go_on_while_a_better_transport_is_tried(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(2)
    client.polled(1, placed(id_of(client, "subscribe"), after=3))
    client.after(1)
    assert client.told("Open")[-1][1] == "longpoll"
    client.after(1)
    assert client.told("Poll")[-1][0] == 1
