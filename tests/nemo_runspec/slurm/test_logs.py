from pathlib import Path

from nemo_runspec.slurm.logs import LogFollower


def test_each_line_is_given_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    follower = LogFollower(path=log)
    assert follower.read_lines() == []
    log.write_bytes(b"one\ntw")
    assert follower.read_lines() == ["one"]
    with log.open("ab") as file:
        file.write(b"o\r\n\xffthree")
    assert follower.read_lines() == ["two"]
    assert follower.read_lines() == []
    assert follower.read_lines(to_end=True) == ["\ufffdthree"]
    assert follower.read_lines(to_end=True) == []


def test_a_follower_may_begin_where_an_earlier_one_ended(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"one\ntwo\n")
    assert LogFollower(path=log, offset=4).read_lines() == ["two"]
