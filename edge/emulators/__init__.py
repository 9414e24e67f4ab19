"""Simulated devices: the far ends of real pseudo-terminals. They keep a device's state and log what they really sent."""
