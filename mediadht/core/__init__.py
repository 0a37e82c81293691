"""The protocol: state machines without I/O. Import from its modules; see `docs/protocol.md`."""
