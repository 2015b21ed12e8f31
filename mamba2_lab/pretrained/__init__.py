"""The models in the box, one folder each, and the script that trains them."""
