"""The compact family: a small online student and the clip teacher around it."""
