"""Whatever can answer a generation request, behind one protocol."""
