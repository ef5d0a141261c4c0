"""Several GPUs: who leads, who shares what, and a base dealt out among them."""
