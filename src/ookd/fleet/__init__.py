"""Many videos, a plain function each: on processes, on Ray, or as shards of an array job."""
