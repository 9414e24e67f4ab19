"""The contract between gateways, central and everyone else: names, topics, payloads. A leaf: it imports neither side."""

VERSION = "0.1.0"
