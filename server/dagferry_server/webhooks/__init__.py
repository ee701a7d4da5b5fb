"""Messages to other systems about a deployment: who gets them, what they say, and how they are signed and delivered."""
