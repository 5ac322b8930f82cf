"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

python tests/lowest_versions.py > lowest.txt && python -m pip install ".[test]" -c lowest.txt
"""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest_versions(text):
    """Return a line "name==version" for each requirement of the project and of its extra "test"."""
    project = tomllib.loads(text)["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    found = [re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement) for requirement in requirements]
    return [f"{match[1]}=={match[2]}" for match in found]


if __name__ == "__main__":
    print("\n".join(lowest_versions(PYPROJECT.read_text(encoding="utf-8"))))
