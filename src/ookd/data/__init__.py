"""From videos and annotations to training clips."""
