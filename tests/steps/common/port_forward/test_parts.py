"""A stream of unknown length arrives as it was sent, or is refused; neither end holds much of it."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from steps.common.port_forward import pod_conversation
from steps.common.port_forward.parts import PART, PartReader, PartWriter
from steps.common.port_forward.pod_conversation import PodConversation, RefusedByOtherEndError
from steps.common.runtime.errors import UserError


@pytest.fixture
def ends() -> Iterator[tuple[PodConversation, PodConversation]]:
    one, other = socket.socketpair()
    with one, other:
        yield PodConversation(one), PodConversation(other)


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, 2 * PART + 7])
def test_what_is_written_is_read(size: int, ends: tuple[PodConversation, PodConversation]) -> None:
    data, writer, reader = os.urandom(size), PartWriter(ends[0]), PartReader(ends[1])

    def write() -> None:
        for start in range(0, size, 1_000_000):
            writer.write(data[start : start + 1_000_000])
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    found = b""
    while part := reader.read(700_000):
        assert len(part) <= 700_000
        found += part
    thread.join()
    assert found == data


def test_the_writer_is_never_more_than_a_part_ahead(ends: tuple[PodConversation, PodConversation]) -> None:
    writer, reader = PartWriter(ends[0]), PartReader(ends[1])
    written: list[int] = []

    def write() -> None:
        for _ in range(8):
            written.append(writer.write(bytes(PART)))
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    for read in range(1, 9):
        assert len(reader.read(PART)) == PART
        time.sleep(0.05)
        assert len(written) <= read + 1
    reader.finish()
    thread.join()


def test_another_digest_or_an_unknown_line_is_refused(ends: tuple[PodConversation, PodConversation]) -> None:
    one, other = ends
    one.tell("part 3", b"abc")
    one.tell(f"end {'0' * 64}")
    reader = PartReader(other)
    assert reader.read(10) == b"abc"
    with pytest.raises(UserError, match="it changed on its way"):
        reader.finish()
    for line in ("part", "part -1", f"part {PART + 1}", "rest"):
        one.tell(line)
        with pytest.raises(ConnectionError, match="neither a part nor the end"):
            PartReader(other).read(1)


def test_a_connection_that_is_closed_in_a_part_is_no_end(ends: tuple[PodConversation, PodConversation]) -> None:
    one, other = ends
    one.tell("part 10", b"abc")
    one._connection.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError, match="closed by the other end"):
        PartReader(other).read(1)


def test_each_end_learns_why_the_other_goes_no_further(ends: tuple[PodConversation, PodConversation]) -> None:
    one, other = ends
    one.tell("part 3", b"abc")
    refusing = threading.Thread(target=one.refuse, args=["the disk\nis full"])
    refusing.start()
    reader = PartReader(other)
    with pytest.raises(RefusedByOtherEndError, match=r"^the disk is full$"):
        reader.finish()
    other._connection.close()
    other.source.close()
    refusing.join(5)
    assert not refusing.is_alive()


def test_the_reason_arrives_while_a_part_is_being_sent(ends: tuple[PodConversation, PodConversation]) -> None:
    """More than the kernel takes: the writer is still sending when the reader refuses, and then closes the connection."""
    one, other = ends

    def refuse() -> None:
        other.refuse("no space")
        other.source.close()
        other._connection.close()

    refusing = threading.Thread(target=refuse)
    refusing.start()
    with pytest.raises(RefusedByOtherEndError, match=r"^no space$"):
        PartWriter(one).write(bytes(PART))
    one.source.close()
    one._connection.close()
    refusing.join(5)
    assert not refusing.is_alive()


def test_who_works_for_long_says_so_and_nothing_else_is_heard_of_it(
    ends: tuple[PodConversation, PodConversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_conversation, "WORKING_SECONDS", 0.01)
    one, other = ends
    other._connection.settimeout(1)
    with one.working():
        time.sleep(0.2)
        one.tell("done")
    assert other.hear() == "done"
    one._connection.shutdown(socket.SHUT_WR)
    rest = other.source.read().split()
    assert set(rest) <= {b"working"}
