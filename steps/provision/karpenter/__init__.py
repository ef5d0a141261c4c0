"""GPU nodes that Karpenter buys for a run."""
