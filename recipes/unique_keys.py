"""YAML in which a key that is given twice is an error. Elsewhere the last one would count, and nothing would say so."""

from typing import Any

import yaml


class DoubleKeyError(Exception):
    """A mapping has a key twice."""

    def __init__(self, key: str, line: int, first: int) -> None:
        """Store the lines, counted from 1, at which the key stands."""
        before = f", first in line {first}" if first != line else ""
        super().__init__(f"the key {key!r} is given twice{before}")
        self.line = line


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that is given twice. A merge (`<<`) may be overridden, as YAML has it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping.

        Raises:
            DoubleKeyError: it has a key twice.
        """
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line, value = key.start_mark.line + 1, self.construct_object(key)
            if value in lines:
                raise DoubleKeyError(key.value, line, lines[value])
            lines[value] = line
        return super().construct_mapping(node, deep)
