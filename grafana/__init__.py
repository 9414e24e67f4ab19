"""The boards, as code: `python -m grafana.boards` writes them."""
