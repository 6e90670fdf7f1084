"""Rules on what visitors and ads did: what a rule may say, what it decides, and why."""
