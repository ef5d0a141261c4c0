"""Runs a built Hera workflow on this machine: the same workflow that a cluster runs, each task a process."""
