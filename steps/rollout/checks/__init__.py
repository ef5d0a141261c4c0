"""What is checked and worked out before anything is started."""
