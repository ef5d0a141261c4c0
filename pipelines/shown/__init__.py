"""What people see and type: tables, the live display, quotes, the arguments that commands share, and the next command."""
