"""Files and folders that are whole or absent, the two volumes, object stores."""
