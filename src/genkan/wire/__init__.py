"""What goes over the wire: requests, events and JSON. Bytes in, values out; no I/O."""
