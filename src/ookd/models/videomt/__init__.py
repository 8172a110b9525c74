"""VidEoMT: a plain vision transformer that carries its queries from frame to frame."""
