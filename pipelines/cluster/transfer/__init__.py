"""What goes between this machine and a namespace through a port-forward: local data, and backups."""
