"""The reference to a workflow parameter, as Argo replaces it in a template."""


def reference(name: str) -> str:
    """Return the Argo reference to a workflow parameter."""
    return f"{{{{workflow.parameters.{name}}}}}"
