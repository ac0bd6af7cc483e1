"""What builds, sets up and runs the containers; not part of the program."""
