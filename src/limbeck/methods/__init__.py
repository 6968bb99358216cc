"""How a gradient on the source is had."""
