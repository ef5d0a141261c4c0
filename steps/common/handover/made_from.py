"""What a version was made from, as one digest: a retraining compares it with the champion's, and trains if it differs."""

from steps.common.handover.covered_settings import covered_settings
from steps.common.handover.resolved import Resolved
from steps.common.storage.files import digest_of


def made_from(resolved: Resolved) -> str:
    """Return a digest of all that a version depends on: base commit, data and recipe, but no paths or destinations.

    Two runs with the same digest train the same version.
    """
    data = resolved.data
    tasks = [file.sha256 if file else "" for file in [*resolved.tasks, *resolved.lm_eval]]
    settings = covered_settings(resolved.recipe)
    # As they apply, so that it makes no difference whether recipe or preset sets one. Those of 0.1.0 had none.
    asked = [resolved.chat.template_arguments] if resolved.chat.template_arguments else []
    return digest_of([resolved.model.digest, data.train_sha256, data.validation_sha256, tasks, settings, *asked])
