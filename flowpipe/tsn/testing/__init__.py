"""Store + trained run -> scores of videos, and what they say of the classes in them."""
