"""EoMT, a plain vision transformer that segments single images."""
