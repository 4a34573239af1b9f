"""The ledger: what was appended is read back in order; a torn tail goes, damage anywhere else is said and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cristae.errors import Damaged
from cristae.store import ledger as module
from cristae.store.ledger import Ledger

RECORDS = [{"kind": "blocks", "n": n, "text": 'ä\n"{}' * (n % 3)} for n in range(12)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(tmp_path / "journal")
    found.append(RECORDS[:5])
    found.append(RECORDS[5:])
    return found


def file_of(ledger: Ledger, number: int = 0) -> Path:
    return ledger.folder / f"{number:05d}.jsonl"


def test_records_come_back_in_order(ledger: Ledger) -> None:
    assert list(ledger.read()) == RECORDS


def test_a_ledger_that_was_never_written_is_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none")
    ledger.mend()
    ledger.append([])
    assert list(ledger.read()) == []
    assert not (tmp_path / "none").exists()


def test_a_tail_torn_at_any_byte_is_left_out_and_cut_off(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "journal")
    ledger.append(RECORDS[:3])
    whole = file_of(ledger).read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        file_of(ledger).write_bytes(whole[:length])
        survived = sum(end <= length for end in ends)
        assert list(ledger.read()) == RECORDS[:survived]
        ledger.mend()
        ledger.append(RECORDS[10:11])
        assert list(ledger.read()) == [*RECORDS[:survived], RECORDS[10]]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a byte of a record": lambda line: line[:20] + bytes([line[20] ^ 1]) + line[21:],
    "a byte of a checksum": lambda line: b"0" + line[1:] if line[:1] != b"0" else b"1" + line[1:],
    "a checksum that is none": lambda line: b"zzzzzzzz" + line[8:],
    "no checksum": lambda line: line[9:],
    "an empty line": lambda line: b"\n",
    "zeros": lambda line: b"\0" * (len(line) - 1) + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("number", [0, 4, 10])
def test_damage_before_the_last_line_is_said(ledger: Ledger, damage: str, number: int) -> None:
    lines = file_of(ledger).read_bytes().splitlines(keepends=True)
    lines[number] = DAMAGE[damage](lines[number])
    file_of(ledger).write_bytes(b"".join(lines))
    with pytest.raises(Damaged, match=rf"00000.jsonl line {number + 1} does not match its checksum"):
        list(ledger.read())


@pytest.mark.parametrize("damage", DAMAGE)
def test_mending_cuts_a_torn_tail_and_nothing_else(ledger: Ledger, damage: str) -> None:
    """Whoever mends first and reads then must still hear of the damage: what follows it was committed."""
    lines = file_of(ledger).read_bytes().splitlines(keepends=True)
    lines[3] = DAMAGE[damage](lines[3])
    file_of(ledger).write_bytes(b"".join(lines))
    with suppress(Damaged):
        ledger.mend()
    assert file_of(ledger).read_bytes() == b"".join(lines)


def test_segments_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    ledger = Ledger(tmp_path / "journal")
    for record in RECORDS:
        ledger.append([record])
    assert len(list(ledger.folder.iterdir())) > 3
    assert list(ledger.read()) == RECORDS


def test_a_torn_tail_of_an_older_segment_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    ledger = Ledger(tmp_path / "journal")
    for record in RECORDS:
        ledger.append([record])
    first = file_of(ledger)
    first.write_bytes(first.read_bytes()[:-3])
    with pytest.raises(Damaged, match=r"00000\.jsonl"):
        list(ledger.read())


def test_a_torn_newest_segment_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    ledger = Ledger(tmp_path / "journal")
    for record in RECORDS:
        ledger.append([record])
    last = sorted(ledger.folder.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:5])
    ledger.mend()
    kept = list(ledger.read())
    ledger.append([{"n": 99}])
    assert list(ledger.read()) == [*kept, {"n": 99}]
    assert kept == RECORDS[: len(kept)]
