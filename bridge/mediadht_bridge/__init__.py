"""The homeserver's side of mediadht: the HTTP API, the join front, and what speaks Matrix."""
