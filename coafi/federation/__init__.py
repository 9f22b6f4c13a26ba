"""Partner organisations: who they are, how their requests are signed, what they say, and what we keep of it."""
