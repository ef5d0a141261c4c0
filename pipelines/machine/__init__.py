"""Runs a built Hera workflow on this machine: the same object that a cluster gets, each task a process."""
