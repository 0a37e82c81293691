"""The `mediadht` command: composes daemon and bridge, and talks to a running daemon. Only this house imports all."""

__all__: list[str] = []
