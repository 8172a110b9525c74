"""Drawing for people: objects over frames, text, charts and HTML pages."""
