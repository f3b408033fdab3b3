"""The tests, folders as in `src/tessera`."""
