"""YAML in which a key that is given twice is an error. Elsewhere the last one would count, and nothing would say so."""

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


class DoubleKeyError(Exception):
    """A mapping has a key twice."""

    def __init__(self, key: str, line: int, first: int) -> None:
        """Store the lines, counted from 1, at which the key stands."""
        before = f", first in line {first}" if first != line else ""
        super().__init__(f"the key {key!r} is given twice{before}")
        self.line = line


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that is given twice. A merge (`<<`) may be overridden, as YAML has it."""

    def construct_document(self, node: yaml.Node) -> Any:
        """Return the document.

        Raises:
            DoubleKeyError: a mapping has a key twice.
        """
        # All at once, before PyYAML writes the keys of a merge into the mapping that has it.
        left, seen = [node], set()
        while left:
            one = left.pop()
            if id(one) in seen:  # an alias; a mapping may even contain itself
                continue
            seen.add(id(one))
            if isinstance(one, yaml.MappingNode):
                self._refuse_double_keys(one)
                left += [value for pair in reversed(one.value) for value in reversed(pair)]
            elif isinstance(one, yaml.SequenceNode):
                left += reversed(one.value)
        return super().construct_document(node)

    def _refuse_double_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            line, value = key.start_mark.line + 1, self.construct_object(key)
            if value in lines:
                raise DoubleKeyError(key.value, line, lines[value])
            lines[value] = line

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Write the keys of a mapping's merges into it: its own ones count, then those of the first merge.

        PyYAML's own lets a key that a merge has overridden come back where that mapping is merged in turn.
        """
        merged = [value for key, value in node.value if key.tag == MERGE]
        sources = [
            one for value in merged for one in (value.value if isinstance(value, yaml.SequenceNode) else [value])
        ]
        if sources and all(isinstance(one, yaml.MappingNode) for one in sources):
            node.value = [pair for pair in node.value if pair[0].tag != MERGE]
            pairs: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
            for source in sources:
                self.flatten_mapping(source)
                for pair in source.value:
                    pairs.setdefault(_identity(pair[0]), pair)
            node.value = list({**pairs, **{_identity(pair[0]): pair for pair in node.value}}.values())
        super().flatten_mapping(node)


def _identity(key: yaml.Node) -> Any:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
