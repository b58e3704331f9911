"""What integrations of several frameworks are made of; it imports none of them."""
