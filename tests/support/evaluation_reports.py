"""Reports that evaluations wrote, and one with some of its keys changed."""

import json
from pathlib import Path
from typing import Any

EARLIER = Path(__file__).parents[1] / "steps" / "common" / "handover" / "reports"


def write_changed_report(file: Path, **changes: Any) -> Path:
    """Write the report of a run that had a champion, with other values for some of its keys."""
    content = json.loads((EARLIER / "schema_0_champion.json").read_text())
    file.write_text(json.dumps({**content, **changes}))
    return file
