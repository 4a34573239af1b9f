"""The claim: one owner at a time, told by name to whoever comes second; an older owner's workers notice the newer one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cristae.errors import Claimed
from cristae.store.claim import Claim, holder, still_holds

HOLD = """
import sys
from pathlib import Path
from cristae.store.claim import Claim
with Claim(Path(sys.argv[1])) as claim:
    print(claim.epoch, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cell.ome.zarr" / ".cristae" / "mito"


def another_owner(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the claim until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout
    process.epoch = int(process.stdout.readline())  # type: ignore[attr-defined]
    return process


def test_a_claim_held_by_another_process_is_refused_with_its_name(folder: Path) -> None:
    process = another_owner(folder)
    try:
        with pytest.raises(Claimed) as refused, Claim(folder):
            pass
        sentence = str(refused.value)
        assert f"process {process.pid}" in sentence
        assert "cell.ome.zarr is being written by" in sentence
        assert refused.value.exit_code == 5
        assert f"process {process.pid}" in str(holder(folder))
        assert still_holds(folder, process.epoch)  # type: ignore[attr-defined]
    finally:
        process.communicate("")
    assert holder(folder) is None
    with Claim(folder) as claim:
        assert claim.epoch == process.epoch + 1  # type: ignore[attr-defined]


def test_the_claim_of_a_killed_process_is_free(folder: Path) -> None:
    process = another_owner(folder)
    process.kill()
    process.communicate()
    with Claim(folder) as claim:
        assert claim.epoch == 2


def test_each_owner_has_a_higher_epoch_and_only_the_last_still_holds(folder: Path) -> None:
    epochs = []
    for _ in range(4):
        with Claim(folder) as claim:
            epochs.append(claim.epoch)
            assert [still_holds(folder, e) for e in epochs] == [False] * (len(epochs) - 1) + [True]
    assert epochs == [1, 2, 3, 4]


def test_a_refused_claim_leaves_the_owner_as_it_was(folder: Path) -> None:
    with Claim(folder) as claim:
        before = (folder / "claim.json").read_bytes()
        with pytest.raises(Claimed), Claim(folder):
            pass
        assert (folder / "claim.json").read_bytes() == before
        assert still_holds(folder, claim.epoch)


def test_nobody_holds_what_was_never_claimed(folder: Path) -> None:
    assert holder(folder) is None
    assert not still_holds(folder, 1)
    assert not folder.exists()


def test_an_unreadable_owner_is_still_an_owner(folder: Path) -> None:
    with Claim(folder):
        (folder / "claim.json").write_bytes(b"{")
        with pytest.raises(Claimed, match="another run"), Claim(folder):
            pass
        assert not still_holds(folder, 1)


def test_a_claim_is_given_back_when_the_run_fails(folder: Path) -> None:
    with pytest.raises(RuntimeError), Claim(folder):
        raise RuntimeError
    with Claim(folder) as claim:
        assert claim.epoch == 2
