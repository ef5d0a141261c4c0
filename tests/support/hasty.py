"""For a process of its own: the reaper, which waits for a run's own exit handler no longer than a test does."""

from steps.reap import step

step.GRACE_SECONDS = 30.0
reap = step.reap
