"""Networks: encoders of images, fusion with tables, heads and their training. Needs the extra `nets` (torch, timm)."""
