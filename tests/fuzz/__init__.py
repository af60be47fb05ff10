"""Cases at random, seeded: what strangers may give to the program."""
