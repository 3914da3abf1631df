"""What has been sent arrives, also when the sender is gone."""

from __future__ import annotations

import socket

import pytest

from lra.machine.channel import Channel


def pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return Channel(ours), Channel(theirs)


def test_what_was_sent_before_the_end_is_received_after_it() -> None:
    ours, theirs = pair()
    assert theirs.send({"a": 1}) and theirs.send({"b": 2})
    theirs.close()
    assert ours.gone.wait(10)
    assert [ours.receive(), ours.receive(1.0), ours.receive(), ours.receive(0.1)] == [{"a": 1}, {"b": 2}, None, None]
    assert not ours.send({}) or not ours.send({}), "nobody listens"


def test_a_wait_has_an_end() -> None:
    ours, theirs = pair()
    with pytest.raises(TimeoutError):
        ours.receive(0.05)
    with pytest.raises(TimeoutError):
        ours.receive(-1)
    theirs.send([1])
    assert ours.receive(10) == [1] and ours.waiting() == []


def test_whoever_waits_is_woken_by_the_end() -> None:
    ours, theirs = pair()
    theirs.end.shutdown(socket.SHUT_RDWR)
    assert ours.receive(10) is None and ours.receive() is None
