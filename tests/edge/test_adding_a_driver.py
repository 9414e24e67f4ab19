"""docs/adding-a-driver.md, followed step by step in a copy of the tree: it says what works, and nothing else is touched."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "adding-a-driver.md").read_text(encoding="utf-8")
PARTS = ("wire", "common", "edge", "tests", "docs", "firmware-configs")


def files_of_the_page() -> dict[str, str]:
    """Path and content of each file that the page makes: of each step, the one in its title and the block that follows."""
    made = {}
    for step in re.split(r"\n(?=\*\*\d)", PAGE):
        title = re.match(r"\*\*\d\. .*`(.*)`\.?\*\*", step)
        block = re.search(r"```(?:toml|python)\n(.*?)```", step, re.S)
        if title and block:
            made[title[1]] = block[1]
    return made


def commands_of_the_page() -> list[tuple[str, list[str]]]:
    """Each command with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def touched(copy: Path) -> set[str]:
    """What is not as in the tree, but for what Python and its tools keep."""
    there = {p.relative_to(copy) for part in PARTS for p in (copy / part).rglob("*") if p.is_file()}
    return {
        str(path)
        for path in there
        if not {"__pycache__", ".hypothesis"} & set(path.parts)
        and not ((ROOT / path).is_file() and filecmp.cmp(copy / path, ROOT / path, shallow=False))
    }


def test_the_page_is_followed_and_nothing_else_is_touched(tmp_path: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    made = files_of_the_page()
    assert sorted(made) == ["edge/sensors/me007ys.py", "tests/vectors/me007ys.toml"]
    for path, content in made.items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(content, encoding="utf-8")
    before = touched(tmp_path)

    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": tools, "PYTHONPATH": str(tmp_path)}
    commands = commands_of_the_page()
    assert len(commands) == 7
    for command, said in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{output}"
        assert [line for line in said if line not in output.splitlines()] == [], f"{command}\n{output}"

    assert before == set(made)
    assert touched(tmp_path) == {*made, "docs/sensors.md"}
    assert (tmp_path / "edge/sensors/me007ys.py").read_text() == made["edge/sensors/me007ys.py"]  # formatted as shown
    assert "### me007ys" in (tmp_path / "docs" / "sensors.md").read_text()
