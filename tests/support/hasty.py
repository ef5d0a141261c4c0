"""The reaper with a short grace period for a run's exit handler. Tests start it as a separate process."""

from steps.reap import step

step.GRACE_SECONDS = 30.0
reap = step.reap
