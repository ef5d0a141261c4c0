"""The candidate beside base and champion, and the gate's verdict."""
