"""What one worker process does with its connections."""
