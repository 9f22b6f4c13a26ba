"""Events of ledgers, ours and others': what they look like, who subscribes to which, and what is done about them."""
