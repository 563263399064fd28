"""The tests share ``published_rows``, which lies beside them, and files of rows."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def file(tmp_path):
    """Writes rows, as JSON or as the texts that they are, to a file of one row a line; gives its path."""

    def write(*rows, name="tasks.jsonl"):
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write
