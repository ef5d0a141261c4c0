"""What people see: tables, the live display, results, and the next command to type."""
