"""The instance types of a cloud that this namespace knows: those that ship with Fineline, and the user's own."""

from presets.gpu_preset import Cloud, GpuFileError, GpuPreset, gpu_presets
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import GPU_PRESETS_SETTING, custom_gpu_presets


def of_cloud(cloud: Cloud) -> list[GpuPreset]:
    """Return a cloud's instance types, the user's own first.

    Raises:
        UserError: the user's file is invalid.
    """
    try:
        return gpu_presets(cloud, custom_gpu_presets())
    except GpuFileError as error:
        raise UserError(f"{GPU_PRESETS_SETTING}: {error}") from None
