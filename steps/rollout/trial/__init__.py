"""The new version on trial: asked before it gets the traffic, and watched after."""
