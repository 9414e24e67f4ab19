"""Serial transports: the only openers of ports for sensors. `build.build` makes them from the configuration."""
