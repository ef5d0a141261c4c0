"""The new version behind its URL, and the champion's alias once it answers."""
