"""Region studies: slides to classes of tissue, refined maps and necrosis rates."""
