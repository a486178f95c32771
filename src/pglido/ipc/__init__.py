"""What travels between the control process and its workers: messages, descriptors, shared counters."""
