"""Tables of chosen experiments."""

from reporting import table
from tests.reporting.written import parse, result, rows_of, write


def test_tables_fit_the_width(tmp_path, capsys):
    names = [f"a rather long task name number {number}" for number in range(13)]
    folders = []
    for method in range(4):
        data = result(50.0)
        data["tasks"] = [{**data["tasks"][0], "id": i, "name": name} for i, name in enumerate(names)]
        folders.append(write(tmp_path / f"{'x' * 90}{method}/seed1", results=data).parent)
    status = table.main(["--title", "Title", *(f"method {i}={folder}" for i, folder in enumerate(folders))])
    out = capsys.readouterr().out
    assert status == 0
    assert rows_of(out)["task"] == ["method 0", "method 1", "method 2", "method 3"]  # tasks became rows
    assert set(names) <= set(rows_of(out))
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert max(map(len, lines)) <= table.WIDTH
    out = parse(capsys, tmp_path, "--multi-exp")[1]  # long labels move below the table
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert max(map(len, lines)) <= table.WIDTH
    assert f"   4  {'x' * 90}3" in out
    assert table.main([str(folders[0])]) == 2
    assert "expected LABEL=FOLDER" in capsys.readouterr().err
