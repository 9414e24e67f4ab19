"""The technician's tools: they find, read and watch devices on the ports of this machine. `edge.cli` is their only user."""
