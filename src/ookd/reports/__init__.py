"""Reports for people: tables, picture strips and HTML pages about evaluations."""
