"""Looking at an acquisition in a browser: input, restored image, std and truth side by side, from a server on loopback."""
