"""What the project says of itself agrees, wherever it says it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import sklearn_cells

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def found_in(path, pattern):
    return re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_version_is_the_same_everywhere():
    version, _, between_releases = sklearn_cells.__version__.partition(".dev")
    sections = found_in("CHANGELOG.md", r"^## \[(\S+)\]")
    assert sections[0] == version
    assert found_in("CITATION.cff", r"^version: (\S+)$") == [sections[1] if between_releases else version]


def test_supported_versions_of_python_are_tested():
    supported = found_in("pyproject.toml", r'"Programming Language :: Python :: (3\.\d+)"')
    assert PROJECT["requires-python"] == f">={supported[0]}"
    assert sorted(set(found_in(".github/workflows/tests.yml", r'python: "(3\.\d+)", versions'))) == supported


def test_every_requirement_of_the_tests_has_a_lowest_version():
    command = [sys.executable, "tests/lowest_versions.py"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(lines) == len(PROJECT["dependencies"]) + len(PROJECT["optional-dependencies"]["test"])


def test_types_come_with_the_package():
    assert (Path(sklearn_cells.__file__).parent / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_actions_are_pinned():
    workflows = [path.relative_to(ROOT) for path in (ROOT / ".github/workflows").glob("*.yml")]
    actions = [action for path in workflows for action in found_in(path, r"uses: \S+@(\S+)")]
    assert actions
    assert all(re.fullmatch("[0-9a-f]{40}", action) for action in actions)
