"""Documents: what a file is, what is wrong with it, at which line, and what to do about it."""
