"""Which files of a class folder are pictures to train on."""

from pathlib import Path

from vgg_nll.data.pictures.walk import LEADS_OUT, walk


def test_a_folder_whose_name_begins_as_the_roots_does_is_not_inside(tmp_path: Path) -> None:
    for name in ("pics/one", "pics2"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pics2/0.png").write_bytes(b"x")
    (tmp_path / "pics/one/1.png").symlink_to(tmp_path / "pics2/0.png")
    (found,) = walk(tmp_path / "pics/one", tmp_path / "pics", follow_links=False)
    assert found.reason == LEADS_OUT
