"""Predictions of shards: the parts hold what `classify` gives, each image once, and only missing parts are made."""

import csv
import tarfile
import zipfile

import pytest

import predict
from softcpt import UserError, load
from softcpt.shards import find_shards, make_part, make_parts

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (requirements-ray.txt)")


@pytest.fixture(scope="module")
def trained_run(trained):
    return trained("MTCoOp")


@pytest.fixture
def sources(trained_run, tmp_path):
    """Two archives with a broken image and files of another kind, a folder, and a list of images."""
    data, broken = trained_run / "data", tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for path in sorted((data / "marks").rglob("*.png")):
            archive.add(path, f"./{path.parent.name}/{path.name}")
        archive.add(broken, "broken.jpg")
        archive.add(__file__, "0001.cls")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(data / "one" / "only" / "test0.png", "x.png")
    (tmp_path / "list.txt").write_text("b.zip/x.png\n" + str(data / "one" / "only" / "test1.png") + "\n\nb.zip/x.png\n")
    return [tmp_path / "a.tar", tmp_path / "b.zip", data / "shades", tmp_path / "list.txt"]


def rows(folder):
    found = [row for part in sorted(folder.glob("*.parquet")) for row in parquet.read_table(part).to_pylist()]
    return {(row["path"], row["task"]): row for row in found}, len(found)


def test_parts_hold_what_classify_gives(trained_run, sources, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict.main([str(trained_run / "run"), *map(str, sources), "-o", str(out), "--task", "marks"]) == 2
    text = capsys.readouterr().out
    assert "4 shards, 4 to classify" in text and "1 unreadable" in text
    model, (found, count) = load(trained_run / "run"), rows(out)
    images = [f"{sources[0]}/{name}" for name in ("cross/test0.png", "dot/val0.png")]
    for expected in model.classify([*images, sources[2]], task="marks"):
        row = found[expected.path, "marks"]
        assert row["classes"] == [name for name, _ in expected.classes] and row["error"] == ""
        assert row["probabilities"] == pytest.approx([p for _, p in expected.classes], abs=1e-5)
    assert count == len(found)  # also of x.png, which is in an archive and in the list
    with open(out / "unreadable.csv", encoding="utf-8", newline="") as file:
        assert [path for path, _ in csv.reader(file)] == ["path", f"{sources[0]}/broken.jpg"]


def test_only_missing_parts_are_made(trained_run, sources, tmp_path):
    run, out = trained_run / "run", tmp_path / "out"
    images, unreadable, failed = make_parts(run, sources, out, show=lambda line: None)
    parts = {part: part.read_bytes() for part in out.glob("*.parquet")}
    assert len(parts) == 4 and unreadable == 1 and not failed
    gone = next(part for part in parts if part.name.startswith("a-"))
    gone.unlink()
    asked = []

    def engine(run, shards, *where):
        asked.extend(shards)
        model = load(run)
        for shard in shards:
            yield make_part(shard, model, *where)

    assert make_parts(run, sources, out, engine=engine, show=lambda line: None)[0] == images
    assert [shard.name for shard in asked] == [gone.stem]
    assert {part: part.read_bytes() for part in out.glob("*.parquet")} == parts


def test_a_damaged_archive_fails_alone(trained_run, sources, tmp_path, capsys):
    sources[0].write_bytes(sources[0].read_bytes()[:5000])
    out = tmp_path / "out"
    assert predict.main([str(trained_run / "run"), *map(str, sources), "-o", str(out), "--topk", "2"]) == 2
    error = capsys.readouterr().err
    assert "a.tar: not a whole tar archive without compression" in error and len(error.splitlines()) == 1
    assert len(list(out.glob("*.parquet"))) == 3


def test_a_folder_with_other_predictions_is_left_alone(trained_run, sources, tmp_path, capsys):
    run, out = str(trained_run / "run"), str(tmp_path / "out")
    assert predict.main([run, str(sources[1]), "-o", out]) == 0
    assert predict.main([run, str(sources[1]), "-o", out, "--topk", "2"]) == 2
    assert "another topk: found 5, now 2" in capsys.readouterr().err
    assert predict.main([run, str(sources[1]), "-o", str(tmp_path / "new"), "--task", "shade"]) == 2
    assert "did you mean shades?" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert predict.main([run, str(tmp_path / "gone"), "-o", out]) == 2
    assert "no such image, folder, archive or list" in capsys.readouterr().err


def test_shards_of_a_folder_hold_each_image_once(trained_run):
    folder = trained_run / "data"
    shards = find_shards([folder, folder], size=7)
    images = [image for shard in shards for image in shard.images]
    assert len(images) == len(set(images)) == len(list(folder.rglob("*.png")))
    assert [len(shard.images) for shard in shards[:-1]] == [7] * (len(shards) - 1)
    with pytest.raises(FileNotFoundError, match="no image in"):
        find_shards([trained_run / "run"])


def test_shards_on_two_nodes_of_which_one_dies(trained_run, sources, tmp_path):
    """With Ray: about a minute."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    from ray.cluster_utils import Cluster

    from softcpt.on_ray import ray_engine

    run, here, there = trained_run / "run", tmp_path / "here", tmp_path / "there"
    expected = make_parts(run, sources, here, show=lambda line: None)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        with pytest.raises(UserError, match="no node of the Ray cluster can hold a worker"):
            make_parts(
                run, sources, tmp_path / "none", engine=ray_engine(cluster.address, cpus=9), show=lambda line: None
            )
        seen = []

        def watch(line):
            seen.append(line)
            if len(seen) == 2:  # the first shard is done
                cluster.remove_node(second, allow_graceful=False)

        found = make_parts(run, sources, there, engine=ray_engine(cluster.address), show=watch)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert found == expected
    assert {part.name for part in there.glob("*.parquet")} == {part.name for part in here.glob("*.parquet")}
    for (path, task), row in rows(here)[0].items():
        other = rows(there)[0][path, task]
        assert other["classes"] == row["classes"] and other["error"] == row["error"]
