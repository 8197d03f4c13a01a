"""Change data capture: the slot, the write-ahead log, its decoding, the snapshot before it, the reader of all of it."""
