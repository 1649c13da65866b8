"""What a report tells, as plain values: read from files here, drawn elsewhere."""
