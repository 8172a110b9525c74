"""Track many videos, one function call each: on processes, on Ray, or as shards of an array job."""
