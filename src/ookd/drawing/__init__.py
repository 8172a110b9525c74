"""What is drawn for people: objects over frames, text, and pieces of HTML pages."""
