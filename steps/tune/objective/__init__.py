"""Training objectives: next-token loss (SFT) and direct preference optimisation (DPO)."""
