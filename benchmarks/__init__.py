"""The numbers the design is held to: `make bench`, or `make bench ARGS=next_item` for one of them."""
