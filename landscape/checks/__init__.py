"""What is believed of a loss, a network and an earlier result only after a look."""
