"""What decides a layer's integers."""
