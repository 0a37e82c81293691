"""`mediadht demo`: real homeservers and real daemons on loopback, and the story they tell."""
